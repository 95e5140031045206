//! What a follower appends and cuts: its log is the leader's, byte for byte, or nothing.

use bytes::Bytes;
use varve_protocol::records::{BatchError, BatchHeader};
use varve_protocol::vocabulary::{LeaderEpoch, Offset, TimestampMs};
use varve_storage::{AppendBatchesError, AppendOrigin, SimDisk};

use crate::world::{World, batch, partition, read_all, tiny_options};

const NOW: TimestampMs = TimestampMs(10_000);

fn world() -> World {
    let mut world = World::open(SimDisk::new(9), tiny_options()).unwrap();
    world.create(0).unwrap();
    world
}

/// A batch as a leader of `epoch` has it at `base_offset`.
fn fetched(base_offset: i64, count: i32, epoch: i32, producer: Option<(i64, i16, i32)>) -> Bytes {
    let stamp = u64::try_from(base_offset).unwrap();
    let batch = batch(stamp, count, 40, producer);
    let head = batch.stamped_header(Offset(base_offset), LeaderEpoch(epoch), None);
    [&head[..], &batch.records_bytes()[..]].concat().into()
}

fn append(world: &mut World, batches: &[Bytes]) -> Result<i64, AppendBatchesError> {
    let records = Bytes::from(batches.concat());
    let appended = world.shard().append_batches(&partition(0), &records, NOW)?;
    assert_eq!(appended.batch_count, batches.len());
    Ok(appended.log_end.0)
}

fn ends(world: &mut World) -> (i64, i64) {
    let log = world.shard().log(&partition(0)).unwrap();
    (log.durable_end().0, log.log_end().0)
}

fn commit(world: &mut World) -> Vec<i64> {
    let Some(job) = world.shard().take_commit() else { return Vec::new() };
    let durable = world.shard().finish_commit(job.run()).unwrap();
    durable.into_iter().map(|(_, end)| end.0).collect()
}

#[test]
fn batches_stay_as_they_are_across_segments_and_gaps() {
    let mut world = world();
    let mut batches = Vec::new();
    let mut base_offset = 0;
    for number in 0..200 {
        batches.push(fetched(base_offset, 5, number / 20, Some((7, 0, number * 5))));
        base_offset += if number % 9 == 0 { 40 } else { 5 };
    }
    let end = base_offset;
    for some in batches.chunks(37) {
        append(&mut world, some).unwrap();
    }
    assert_eq!(ends(&mut world), (0, end));
    assert_eq!(commit(&mut world), [end]);
    let check = |world: &mut World| {
        let log = world.shard().log(&partition(0)).unwrap();
        assert!(log.reader().segment_count() > 2);
        assert_eq!(read_all(&log.reader()), batches);
        let epochs: Vec<i32> = log.reader().epochs().iter().map(|e| e.epoch.0).collect();
        assert_eq!(epochs, (0..10).collect::<Vec<_>>());
        let producers = log.producers();
        assert_eq!((producers.len(), producers[0].last_sequence), (1, 999));
    };
    check(&mut world);
    world.disk = world.disk.after_power_cut(3);
    world.reopen().unwrap();
    check(&mut world);
    // The state is what a leader needs to go on with the producer.
    let next = batch(1, 1, 10, Some((7, 0, 1000)));
    let epoch = LeaderEpoch(10);
    let appended = world.shard().append(&partition(0), &next, epoch, AppendOrigin::Leader, NOW);
    assert_eq!(appended.unwrap().base_offset.0, end);
}

#[test]
fn what_is_wrong_is_refused_whole() {
    let mut world = world();
    append(&mut world, &[fetched(0, 5, 3, None)]).unwrap();
    let good = fetched(5, 5, 3, None);
    let gap = |expected, found| {
        Err(AppendBatchesError::OffsetGap { expected: Offset(expected), found: Offset(found) })
    };
    assert_eq!(append(&mut world, &[fetched(4, 5, 3, None)]), gap(5, 4));
    assert_eq!(append(&mut world, &[good.clone(), fetched(9, 1, 3, None)]), gap(10, 9));
    let far = 5 + i64::from(i32::MAX);
    assert_eq!(append(&mut world, &[fetched(far, 1, 3, None)]), gap(5, far));
    let stale = append(&mut world, &[good.clone(), fetched(10, 1, 2, None)]);
    let (latest, found) = (LeaderEpoch(3), LeaderEpoch(2));
    assert_eq!(stale, Err(AppendBatchesError::StaleLeaderEpoch { latest, found }));
    let mut bent = good.to_vec();
    *bent.last_mut().unwrap() ^= 1;
    let refused = append(&mut world, &[good.clone(), fetched(10, 1, 3, None), bent.into()]);
    let position = good.len() + fetched(10, 1, 3, None).len();
    assert!(
        matches!(refused, Err(AppendBatchesError::Batch { position: at, source: BatchError::Crc { .. } }) if at == position),
        "{refused:?}"
    );
    for len in 1..good.len() {
        let refused = append(&mut world, &[good.slice(..len)]);
        let is_cut = matches!(
            refused,
            Err(AppendBatchesError::Batch { source: BatchError::Incomplete { .. }, .. })
        );
        assert!(is_cut, "{len}: {refused:?}");
    }
    assert_eq!(ends(&mut world).1, 5);
    assert_eq!(append(&mut world, &[good]), Ok(10));
}

#[test]
fn a_full_disk_keeps_what_lies_in_earlier_segments() {
    let mut world = world();
    let batches: Vec<Bytes> = (0..400).map(|number| fetched(number * 5, 5, 0, None)).collect();
    world.disk.set_capacity(Some(world.disk.bytes_used() + (30 << 10)));
    assert_eq!(append(&mut world, &batches), Err(AppendBatchesError::DiskFull));
    let (_, end) = ends(&mut world);
    assert!(end > 0 && end < 2000, "{end}");
    assert_eq!(commit(&mut world), [end]);
    world.disk.set_capacity(None);
    assert_eq!(append(&mut world, &batches[usize::try_from(end / 5).unwrap()..]), Ok(2000));
    commit(&mut world);
    world.disk = world.disk.after_power_cut(1);
    world.reopen().unwrap();
    let reader = world.shard().log(&partition(0)).unwrap().reader();
    assert_eq!(read_all(&reader), batches);
}

/// A commit that was taken before a truncation must not make durable what is gone: a leader would
/// count the follower for records that it does not have.
#[test]
fn a_commit_in_flight_never_reports_past_a_truncation() {
    for is_reset in [false, true] {
        for runs_before in [false, true] {
            let mut world = world();
            append(&mut world, &[fetched(0, 5, 0, None), fetched(5, 5, 0, None)]).unwrap();
            assert_eq!(commit(&mut world), [10]);
            append(&mut world, &[fetched(10, 5, 0, None), fetched(15, 5, 0, None)]).unwrap();
            let job = world.shard().take_commit().unwrap();
            let mut job = Some(job);
            let mut done = runs_before.then(|| job.take().unwrap().run());
            let log = world.shard().log_mut(&partition(0)).unwrap();
            let end = if is_reset {
                log.reset_to(Offset(70), NOW).unwrap();
                70
            } else {
                assert_eq!(log.truncate_to(Offset(12), NOW), Ok(Offset(10)));
                10
            };
            assert_eq!(ends(&mut world), (end, end));
            append(&mut world, &[fetched(end, 3, 1, None)]).unwrap();
            let done = done.take().unwrap_or_else(|| job.take().unwrap().run());
            assert_eq!(world.shard().finish_commit(done).unwrap(), []);
            assert_eq!(ends(&mut world), (end, end + 3));
            for seed in 0..20 {
                let mut after =
                    World::open(world.disk.after_power_cut(seed), tiny_options()).unwrap();
                let reader = after.shard().log(&partition(0)).unwrap().reader();
                assert!((end..=end + 3).contains(&reader.log_end().0));
                assert_eq!(reader.log_start().0, if is_reset { 70 } else { 0 });
                let kept = read_all(&reader);
                let last = kept.last().map(|batch| BatchHeader::parse(batch).unwrap());
                assert_eq!(last.map_or(end, |last| last.next_offset().0), reader.log_end().0);
            }
            assert_eq!(commit(&mut world), [end + 3]);
        }
    }
}

#[test]
fn ends_of_epochs_are_answered_as_kip_279_says() {
    let mut world = world();
    for (base_offset, epoch) in [(10, 2), (20, 2), (30, 5)] {
        append(&mut world, &[fetched(base_offset, 5, epoch, None)]).unwrap();
    }
    let reader = world.shard().log(&partition(0)).unwrap().reader();
    let end = |epoch| {
        let found = reader.end_offset_for_epoch(LeaderEpoch(epoch));
        found.map(|(epoch, offset)| (epoch.0, offset.0))
    };
    assert_eq!(end(5), Some((5, 35)));
    assert_eq!(end(4), Some((2, 30)));
    assert_eq!(end(2), Some((2, 30)));
    assert_eq!(end(1), Some((1, 10)));
    assert_eq!(end(6), None);
    assert_eq!(end(-1), None);
    let log = world.shard().log_mut(&partition(0)).unwrap();
    // The log ends where its last batch does.
    assert_eq!(log.truncate_to(Offset(30), NOW), Ok(Offset(25)));
    let found = reader.end_offset_for_epoch(LeaderEpoch(2));
    assert_eq!(found, Some((LeaderEpoch(2), Offset(25))));
    assert_eq!(reader.end_offset_for_epoch(LeaderEpoch(5)), None);
}

#[test]
fn the_high_watermark_is_kept_lazily() {
    let mut world = world();
    append(&mut world, &[fetched(0, 5, 0, None), fetched(5, 5, 0, None)]).unwrap();
    commit(&mut world);
    let log = world.shard().log_mut(&partition(0)).unwrap();
    assert_eq!(log.recovered_high_watermark(), Offset(0));
    log.note_high_watermark(Offset(7));
    world.maintain(20_000).unwrap();
    let log = world.shard().log_mut(&partition(0)).unwrap();
    log.note_high_watermark(Offset(9));
    for (disk, expected) in [(world.disk.after_power_cut(1), 7), (world.disk.after_kill(), 7)] {
        let mut after = World::open(disk, tiny_options()).unwrap();
        let log = after.shard().log_mut(&partition(0)).unwrap();
        assert_eq!(log.recovered_high_watermark(), Offset(expected));
        log.truncate_to(Offset(5), NOW).unwrap();
        after.shard().close().unwrap();
        after.reopen().unwrap();
        let log = after.shard().log(&partition(0)).unwrap();
        assert_eq!(log.recovered_high_watermark(), Offset(5));
    }
    world.shard().close().unwrap();
    world.reopen().unwrap();
    let log = world.shard().log(&partition(0)).unwrap();
    assert_eq!(log.recovered_high_watermark(), Offset(9));
}

/// A leader deposed before it wrote anything may become a follower of one whose log has batches of
/// earlier epochs there (the case of KAFKA-10706).
#[test]
fn epochs_without_records_are_cut_at_the_end() {
    for (count, is_empty) in [(5, false), (5, true)] {
        let mut world = world();
        if !is_empty {
            append(&mut world, &[fetched(0, count, 0, None)]).unwrap();
        }
        let end = if is_empty { 0 } else { i64::from(count) };
        commit(&mut world);
        let log = world.shard().log_mut(&partition(0)).unwrap();
        log.assign_epoch(LeaderEpoch(2));
        let refused = append(&mut world, &[fetched(end, 3, 0, None)]);
        assert!(matches!(refused, Err(AppendBatchesError::StaleLeaderEpoch { .. })));
        let log = world.shard().log_mut(&partition(0)).unwrap();
        assert_eq!(log.truncate_to(Offset(end), NOW), Ok(Offset(end)));
        // Nothing more to cut: nothing changes.
        assert_eq!(log.truncate_to(Offset(end + 9), NOW), Ok(Offset(end)));
        append(&mut world, &[fetched(end, 3, 0, None), fetched(end + 3, 1, 3, None)]).unwrap();
        assert_eq!(commit(&mut world), [end + 4]);
        for seed in 0..8 {
            let mut after = World::open(world.disk.after_power_cut(seed), tiny_options()).unwrap();
            let reader = after.shard().log(&partition(0)).unwrap().reader();
            assert_eq!((reader.log_start().0, reader.log_end().0), (0, end + 4));
        }
    }
}
