//! What the world may look at in a stepped broker.

use std::sync::Arc;

use bytes::Bytes;
use varve_protocol::vocabulary::{LeaderEpoch, Offset, TimestampMs, TopicIdPartition};
use varve_storage::{SimDisk, TimestampOffset};

use super::super::leading;
use super::super::membership::Phase;
use super::super::shard::SteppedShard;
use super::super::view::{CoordinatorView, MetadataView, ReplicaView};
use super::super::witness::LogWitness;
use super::SteppedBroker;

impl SteppedBroker {
    /// Its disk.
    #[must_use]
    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// What its metadata log promised to hold.
    #[must_use]
    pub fn witness(&self) -> LogWitness {
        self.witness.lock().clone()
    }

    /// Whether the witness has changed since it had this version.
    #[must_use]
    pub fn witness_version(&self) -> u64 {
        self.witness.lock().version
    }

    /// Whether it serves clients.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.phase == Phase::Serving
    }

    /// The epoch with which this run is registered, as its own metadata shows; −1 before that.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        let own = self.image.broker(self.options.id);
        own.filter(|own| own.incarnation == self.options.incarnation).map_or(-1, |own| own.epoch)
    }

    /// Its member of the metadata quorum.
    #[must_use]
    pub fn metadata(&self) -> MetadataView {
        MetadataView {
            status: self.metadata.quorum_status(),
            image: Arc::clone(&self.image),
            shown: self.followed,
            controller: self.metadata.controller(),
        }
    }

    /// Grows with every change of the metadata that requests see.
    #[must_use]
    pub fn metadata_version(&self) -> u64 {
        self.followed
    }

    /// Its coordinators that answer.
    #[must_use]
    pub fn coordinators(&self) -> Vec<CoordinatorView> {
        self.seats.view()
    }

    /// Grows whenever a replica may have changed.
    #[must_use]
    pub fn shard_version(&self) -> u64 {
        self.shard.as_ref().map_or(0, SteppedShard::version)
    }

    /// The partitions whose logs lie here.
    #[must_use]
    pub fn partitions(&self) -> Vec<TopicIdPartition> {
        let Some(shard) = &self.shard else { return Vec::new() };
        shard.with(|core| core.partitions().collect())
    }

    /// A replica.
    #[must_use]
    pub fn replica(&self, tip: &TopicIdPartition) -> Option<ReplicaView> {
        self.shard.as_ref()?.replica(tip)
    }

    /// A replica, unless it is as it was `known`.
    #[must_use]
    pub fn replica_news(
        &self,
        tip: &TopicIdPartition,
        known: Option<&ReplicaView>,
    ) -> Option<ReplicaView> {
        self.shard.as_ref()?.replica_news(tip, known)
    }

    /// What replicas were after each word of the metadata in the last step, in order: one step takes
    /// several, and what one made of a replica the next may hide.
    #[must_use]
    pub fn take_glimpses(&self) -> Vec<(TopicIdPartition, ReplicaView)> {
        self.shard.as_ref().map_or_else(Vec::new, SteppedShard::take_glimpses)
    }

    /// The first committed record with this timestamp or a later one, or, without a timestamp, the committed one with
    /// the latest.
    #[must_use]
    pub fn record_at(
        &self,
        tip: &TopicIdPartition,
        timestamp: Option<TimestampMs>,
    ) -> Option<TimestampOffset> {
        self.shard.as_ref()?.with(|core| {
            let (reader, end) = (core.reader(tip)?, core.high_watermark(tip)?);
            let found = match timestamp {
                Some(timestamp) => reader.offset_for_timestamp(timestamp, end),
                None => reader.max_timestamp(end),
            };
            found.ok().flatten()
        })
    }

    /// The last epoch of a replica's log that is not after `epoch`, and where it ends.
    #[must_use]
    pub fn epoch_end(
        &self,
        tip: &TopicIdPartition,
        epoch: LeaderEpoch,
    ) -> Option<(LeaderEpoch, Offset)> {
        self.shard.as_ref()?.with(|core| core.reader(tip)?.end_offset_for_epoch(epoch))
    }

    /// A replica's records from an offset on, committed or not; none if they cannot be read to the end.
    #[must_use]
    pub fn records(&self, tip: &TopicIdPartition, from: Offset) -> Option<Bytes> {
        self.shard.as_ref()?.with(|core| {
            let reader = core.reader(tip)?;
            let end = reader.log_end();
            // A range ends before damage, and what begins with damage is refused.
            let is_whole = reader.read(from, usize::MAX, end, true).ok()?.next_offset >= end;
            is_whole.then(|| leading::read(&reader, from, usize::MAX, end, true).ok())?
        })
    }
}
