//! One pass over the partitions of a fetch.
//!
//! What is near a log's end is read on the network worker: positions and page cache are at hand.
//! As soon as one partition has something older to read, the whole pass goes to a blocking thread.

use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::fetch::{EpochEndOffset, PartitionData};
use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, Offset};
use varve_protocol::wire::{RecordPiece, RecordSet};
use varve_storage::{ReadError, ReadSlices, RealDisk};

use super::session::Wanted;
use crate::handlers::error_table::read_error;
use crate::shard::{PartitionHandle, RoleName};
use crate::spawn;

/// A partition to be read, or why it cannot be.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) wanted: Wanted,
    pub(crate) partition: Result<PartitionHandle, ErrorCode>,
    /// The replica that the client should read instead, if one is nearer.
    pub(crate) nearest: Option<BrokerId>,
}

/// The bounds of a whole fetch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) bytes_max: usize,
    /// Only what belongs to no open transaction.
    pub(crate) is_committed_only: bool,
    /// Followers may answer: the client has a rack, and was sent to the replica that is nearest
    /// (KIP-392). Who has none came to a follower by mistake, and is told so.
    pub(crate) may_follow: bool,
}

/// What a pass read.
#[derive(Debug)]
pub(crate) struct Pass {
    /// In the order of the targets.
    pub(crate) partitions: Vec<PartitionData>,
    /// Bytes of all records.
    pub(crate) bytes: usize,
    /// Something has to be told at once.
    pub(crate) has_error: bool,
}

/// Reads all targets.
pub(crate) async fn read(targets: &Arc<[Target]>, bounds: Bounds) -> Pass {
    if targets.iter().all(|target| is_hot(target, bounds)) {
        return read_all(targets, bounds);
    }
    let targets = Arc::clone(targets);
    spawn::blocking(move || read_all(&targets, bounds)).await
}

fn is_hot(target: &Target, bounds: Bounds) -> bool {
    let Ok(handle) = &target.partition else { return true };
    let from = Offset(target.wanted.fetch_offset);
    // Nothing to read is quick to find out.
    from >= upper(handle, bounds) || handle.reader().is_hot(from)
}

fn upper(handle: &PartitionHandle, bounds: Bounds) -> Offset {
    if bounds.is_committed_only { handle.last_stable_offset() } else { handle.high_watermark() }
}

fn read_all(targets: &[Target], bounds: Bounds) -> Pass {
    let mut pass =
        Pass { partitions: Vec::with_capacity(targets.len()), bytes: 0, has_error: false };
    for target in targets {
        let room = bounds.bytes_max.saturating_sub(pass.bytes);
        let is_first = pass.bytes == 0;
        let data = match &target.partition {
            Ok(handle) => read_one(handle, target, bounds, room, is_first),
            Err(code) => refused(*code),
        };
        pass.bytes += data.records.len();
        pass.has_error |= data.error_code != 0
            || data.diverging_epoch.epoch >= 0
            || data.preferred_read_replica >= 0;
        pass.partitions.push(data);
    }
    pass
}

pub(crate) fn refused(code: ErrorCode) -> PartitionData {
    PartitionData {
        error_code: code.code(),
        high_watermark: -1,
        aborted_transactions: None,
        ..PartitionData::default()
    }
}

fn read_one(
    handle: &PartitionHandle,
    target: &Target,
    bounds: Bounds,
    room: usize,
    is_first: bool,
) -> PartitionData {
    let wanted = target.wanted;
    let checked = check_leader_epoch(handle, wanted.current_leader_epoch);
    if let Err(code) = checked.and_then(|()| check_role(handle, bounds.may_follow)) {
        return refused(code);
    }
    // The end before the start: a log that is trimmed meanwhile never shows a start past its end.
    let high_watermark = handle.high_watermark();
    let mut data = PartitionData {
        high_watermark: high_watermark.0,
        last_stable_offset: handle.last_stable_offset().0,
        log_start_offset: handle.log_start().0,
        // Absent for who reads everything, none as long as nobody has transactions.
        aborted_transactions: bounds.is_committed_only.then(Vec::new),
        ..PartitionData::default()
    };
    match diverging_epoch(handle, wanted) {
        Ok(None) => {}
        Ok(Some(diverging)) => {
            data.diverging_epoch = diverging;
            return data;
        }
        Err(code) => return refused(code),
    }
    if let Some(nearest) = target.nearest
        && wanted.fetch_offset <= high_watermark.0
    {
        data.preferred_read_replica = nearest.0;
        return data;
    }
    // As in Kafka, a limit below zero is no limit but a mistake.
    let Ok(bytes_max) = usize::try_from(wanted.bytes_max) else {
        return refused(ErrorCode::UnknownServerError);
    };
    let bytes_max = room.min(bytes_max);
    match records(handle, wanted, bounds, bytes_max, is_first) {
        Ok(records) => data.records = records,
        Err(error) => {
            handle.report(&error);
            if !matches!(error, ReadError::OutOfRange { .. } | ReadError::Rotten(_)) {
                tracing::error!(partition = %handle.partition(), offset = wanted.fetch_offset,
                    %error, "a read failed");
            }
            data = PartitionData {
                log_start_offset: data.log_start_offset,
                ..refused(refusal(handle, &error))
            };
        }
    }
    data
}

/// Damage is mended where others are in sync, and the client tries again: KAFKA_STORAGE_ERROR makes it look
/// for the next leader. Else it is told to its user: CORRUPT_MESSAGE.
fn refusal(handle: &PartitionHandle, error: &ReadError) -> ErrorCode {
    match error {
        ReadError::Rotten(_) if handle.role().isr.len() <= 1 => ErrorCode::CorruptMessage,
        error => read_error(error),
    }
}

fn records(
    handle: &PartitionHandle,
    wanted: Wanted,
    bounds: Bounds,
    bytes_max: usize,
    is_first: bool,
) -> Result<RecordSet, ReadError> {
    let reader = handle.reader();
    let from = Offset(wanted.fetch_offset);
    let upper = upper(handle, bounds);
    let log_end = reader.log_end();
    // Between the high watermark and the log's end there is nothing to read yet.
    if from >= upper && from <= log_end && from >= reader.log_start() {
        return Ok(RecordSet::default());
    }
    let read = reader.read(from, bytes_max, upper, is_first)?;
    Ok(record_set(read))
}

/// What a read gave, to be sent. It was read a moment ago to be checked, or else appended a moment ago, and
/// so it is in the page cache: `sendfile` on a network worker does not wait for the disk.
pub(crate) fn record_set(read: ReadSlices<RealDisk>) -> RecordSet {
    let piece = |slice| RecordPiece::Source(Arc::new(slice));
    RecordSet { pieces: read.slices.into_iter().map(piece).collect() }
}

/// Where the client's log parts from this one, if it says what it has read last (KIP-595).
///
/// # Errors
/// OFFSET_OUT_OF_RANGE when this log cannot tell, or begins behind what is asked for.
fn diverging_epoch(
    handle: &PartitionHandle,
    wanted: Wanted,
) -> Result<Option<EpochEndOffset>, ErrorCode> {
    if wanted.last_fetched_epoch < 0 {
        return Ok(None);
    }
    let last_fetched = LeaderEpoch(wanted.last_fetched_epoch);
    let found = handle.reader().end_offset_for_epoch(last_fetched);
    let (epoch, end) = found.ok_or(ErrorCode::OffsetOutOfRange)?;
    if wanted.fetch_offset < handle.log_start().0 {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    let is_diverging = epoch < last_fetched || end.0 < wanted.fetch_offset;
    Ok(is_diverging.then_some(EpochEndOffset { epoch: epoch.0, end_offset: end.0 }))
}

/// Refuses a client that came to the wrong broker. Looked at in every pass, since a broker may lose
/// the lead while a client waits.
fn check_role(handle: &PartitionHandle, may_follow: bool) -> Result<(), ErrorCode> {
    match handle.role().name {
        RoleName::Leader => Ok(()),
        RoleName::Follower if may_follow => Ok(()),
        RoleName::Follower | RoleName::Offline => Err(ErrorCode::NotLeaderOrFollower),
    }
}

/// Refuses a client that follows an older leader, or knows of a newer one (KIP-320).
///
/// # Errors
/// FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH.
pub(crate) fn check_leader_epoch(
    handle: &PartitionHandle,
    current_leader_epoch: i32,
) -> Result<(), ErrorCode> {
    let ours = handle.leader_epoch().0;
    match current_leader_epoch {
        ..0 => Ok(()),
        theirs if theirs < ours => Err(ErrorCode::FencedLeaderEpoch),
        theirs if theirs > ours => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}
