//! What consumers ask of the broker that leads for them.

use bytes::Bytes;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::{LeaderEpoch, Offset, TopicIdPartition};

use super::super::view::ReplicaView;
use super::SteppedBroker;
use crate::shard::RoleName;

/// What a consumer is given.
#[derive(Clone, Debug)]
pub struct Served {
    /// Whole batches; none at the end.
    pub records: Bytes,
    /// The replica as it is.
    pub replica: ReplicaView,
}

impl SteppedBroker {
    /// The replica of a partition that this broker leads, in the epoch that the client knows (−1: any).
    ///
    /// # Errors
    /// What the client is refused with.
    pub fn led(&self, tip: &TopicIdPartition, epoch: i32) -> Result<ReplicaView, ErrorCode> {
        let not_leader = ErrorCode::NotLeaderOrFollower;
        let replica = self.replica(tip).filter(|_| self.is_serving()).ok_or(not_leader)?;
        if replica.role.name != RoleName::Leader {
            return Err(not_leader);
        }
        match epoch {
            ..0 => Ok(replica),
            epoch if epoch < replica.role.leader_epoch.0 => Err(ErrorCode::FencedLeaderEpoch),
            epoch if epoch > replica.role.leader_epoch.0 => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(replica),
        }
    }

    /// What a consumer reads that knows the leader in this epoch.
    ///
    /// # Errors
    /// As [`Self::led`]; OFFSET_OUT_OF_RANGE.
    pub fn serve(
        &self,
        tip: &TopicIdPartition,
        epoch: i32,
        from: Offset,
        bytes_max: usize,
    ) -> Result<Served, ErrorCode> {
        let replica = self.led(tip, epoch)?;
        let at = &replica.positions;
        if from < at.log_start || from > at.log_end {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let mut records = Bytes::new();
        if bytes_max > 0 && from < at.high_watermark {
            let read = self.fetch(tip, from, bytes_max);
            (records, _) = read.ok_or(ErrorCode::KafkaStorageError)?;
        }
        Ok(Served { records, replica })
    }

    /// Where an epoch ends for a consumer that knows the leader in epoch `current` (KIP-320).
    ///
    /// # Errors
    /// As [`Self::led`].
    pub fn epoch_end_for(
        &self,
        tip: &TopicIdPartition,
        current: i32,
        epoch: LeaderEpoch,
    ) -> Result<(LeaderEpoch, Offset), ErrorCode> {
        let replica = self.led(tip, current)?;
        if epoch == replica.role.leader_epoch {
            // The current epoch ends where consumers stop reading, but never before it began.
            return Ok((epoch, replica.positions.high_watermark.max(replica.role.epoch_start)));
        }
        Ok(self.epoch_end(tip, epoch).unwrap_or((LeaderEpoch(-1), Offset(-1))))
    }
}
