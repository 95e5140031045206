//! Damage in a log that is open: told once, and mended from a peer where one is in sync.
//!
//! ```text
//! a read is refused ─► on_rot_seen: read again, told ─► withdraw ─► controller: out of the ISR, another leads, new epoch
//!                                                                          │
//!            in sync again ◄─ fetched from the leader ◄─ cut_rot, as a follower out of the ISR
//! ```
//! Only readers on other threads meet damage; only the shard cuts logs. So what a reader met is read again
//! here, where nothing can be cut under it. A replica that counts as in sync never cuts: it leaves the
//! ISR first, and the new leader epoch ends what the leader knew of its progress. The only in-sync
//! replica keeps its log as it is.

use varve_protocol::vocabulary::{Offset, TopicIdPartition};
use varve_storage::{Disk, Log, ReadError, Rot, TruncateError};

use super::replicas::fetch_position;
use super::{Now, ShardCore};
use crate::partition::{Partition, RotNote};
use crate::shard::command::Effect;
use crate::shard::replica::{FetchPosition, ProposedIsr, ReplicaAppendError, RoleName};

/// Between two requests of a follower to be taken out of the ISR.
const WITHDRAWAL_PAUSE_MS: i64 = 2_000;

impl<D: Disk, A> ShardCore<D, A> {
    /// A reader met damage.
    pub(super) fn on_rot_seen(&mut self, rot: &Rot, now: Now) {
        let tip = rot.partition;
        let (Some(partition), Some(log)) = (self.partitions.get_mut(&tip), self.logs.log(&tip))
        else {
            return;
        };
        if partition.rot.as_ref().is_some_and(|note| note.is_told(rot.offset)) {
            return;
        }
        let reader = log.reader();
        let from = rot.offset.max(reader.log_start());
        let Err(ReadError::Rotten(rot)) = reader.read(from, 1, reader.log_end(), true) else {
            tracing::warn!(partition = %tip, %rot, "what looked damaged is not when it is read again; it \
                was cut off meanwhile, or the disk or the memory gave other bytes for a moment");
            return;
        };
        let is_news = partition.rot.get_or_insert_with(|| RotNote::new(&rot)).tell(&rot);
        if is_news {
            tell(partition, &rot);
            self.effects.push(Effect::RotFound);
        }
        self.repair(&tip, now);
    }

    /// Time passes: what is damaged is not yet mended everywhere.
    pub(super) fn repair_all(&mut self, now: Now) {
        let rotten = self.partitions.iter().filter(|(_, partition)| partition.rot.is_some());
        let rotten: Vec<_> = rotten.map(|(tip, _)| *tip).collect();
        for tip in rotten {
            self.repair(&tip, now);
        }
    }

    /// Asks to be taken out of the ISR, as long as others are in it.
    fn repair(&mut self, tip: &TopicIdPartition, now: Now) {
        let broker = self.settings.broker;
        let Some(partition) = self.partitions.get_mut(tip) else { return };
        if let Some(leader) = partition.leader_mut() {
            leader.withdraw(now.monotonic_ms);
            self.advance(tip);
            return;
        }
        let view = partition.view();
        let Some(note) = partition.rot.as_mut() else { return };
        if view.name != RoleName::Follower || now.monotonic_ms < note.asks_from_ms {
            return;
        }
        note.asks_from_ms = now.monotonic_ms.saturating_add(WITHDRAWAL_PAUSE_MS);
        let rest = view.isr.iter().filter(|id| **id != broker);
        self.effects.push(Effect::ProposeIsr(ProposedIsr {
            partition: *tip,
            leader_epoch: view.leader_epoch,
            partition_epoch: view.partition_epoch,
            isr: rest.map(|id| (*id, -1)).collect(),
        }));
    }

    /// A follower was to truncate its log, and found that from an offset before that on it is not what was
    /// written. Out of the ISR it cuts there; in it, it asks to leave.
    pub(super) fn truncate_rotten(
        &mut self,
        tip: &TopicIdPartition,
        offset: Offset,
        now: Now,
    ) -> Result<FetchPosition, ReplicaAppendError> {
        let gone = ReplicaAppendError::NotFollower;
        let reader = self.logs.log(tip).ok_or(gone.clone())?.reader();
        let from = offset.max(reader.log_start());
        if let Err(ReadError::Rotten(rot)) = reader.read(from, 1, reader.log_end(), true) {
            self.on_rot_seen(&rot, now);
        }
        let partition = self.partitions.get_mut(tip).ok_or(gone.clone())?;
        let log = self.logs.log_mut(tip).ok_or(gone.clone())?;
        let is_in_sync = partition.view().isr.contains(&self.settings.broker);
        if is_in_sync || !cut_rot(log, partition, now) {
            return Err(ReplicaAppendError::Rotten(offset));
        }
        self.effects.push(Effect::RotCut);
        fetch_position(partition, log).ok_or(gone)
    }
}

fn tell(partition: &Partition, rot: &Rot) {
    let tip = rot.partition;
    let view = partition.view();
    if view.isr.len() > 1 {
        tracing::error!(partition = %tip, %rot, isr = ?view.isr, "bytes on this disk are not what was \
            written. They are given to nobody; this replica leaves the in-sync set and copies them from \
            another one. If it happens again, replace the disk");
        return;
    }
    let until = rot.next_offset.unwrap_or(Offset(-1));
    tracing::error!(partition = %tip, %rot, reads_go_on_at = %until, "bytes on this disk are not what was \
        written, and no other replica is in sync. They are given to nobody (CORRUPT_MESSAGE); all that is \
        whole is still served, and nothing is cut. Bring another replica back, or restore the file from a \
        copy while this broker is stopped; or let consumers seek past it");
}

/// Cuts the log of a follower that is not in sync before the damage that is known; its leader has the
/// rest. Whether it was cut.
pub(super) fn cut_rot<D: Disk>(log: &mut Log<D>, partition: &mut Partition, now: Now) -> bool {
    let Some(note) = partition.rot.take() else { return false };
    let tip = log.partition();
    let cut = match log.cut_rot(&note.rot, now.wall) {
        // Something before it is damaged, too, and so everything is copied again.
        Err(TruncateError::Damaged { .. }) => {
            let log_start = log.log_start();
            log.reset_to(log_start, now.wall).map(|()| {
                if let Some(follower) = partition.follower_mut() {
                    follower.on_reset(log_start);
                }
                log_start
            })
        }
        Ok(end) => {
            if let Some(follower) = partition.follower_mut() {
                follower.on_truncated(end);
            }
            Ok(end)
        }
        error => error,
    };
    match cut {
        Ok(end) => {
            tracing::warn!(partition = %tip, log_end = %end, "the log is cut before the damage; what lay \
                behind it is copied from the leader");
            true
        }
        // Retention took it.
        Err(TruncateError::OutOfRange { .. }) => false,
        Err(error) => {
            tracing::error!(partition = %tip, %error, "the damaged log cannot be cut; it is tried again");
            partition.rot = Some(note);
            false
        }
    }
}
