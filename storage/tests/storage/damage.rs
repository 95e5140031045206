//! Damage below the durable end: kept, told, not served, and never cut. And the other things that
//! a disk can do: run full, fail a sync, lose an index.

use varve_protocol::vocabulary::{LeaderEpoch, Offset, TimestampMs};
use varve_storage::config::{LogConfig, ShardId, ShardOptions};
use varve_storage::{
    AppendError, AppendOrigin, Disk, DiskFile, Harm, LogShard, OpenError, OpenMode, ReadError,
    RecoveryReport, Severity, SimDisk, TruncateError, check,
};

use crate::world::{World, batch, partition, read_all, tiny_config, tiny_options};

fn open(disk: &SimDisk) -> (LogShard<SimDisk>, RecoveryReport) {
    let now = TimestampMs(20_000);
    LogShard::open(disk.clone(), ShardId(0), tiny_options(), now).unwrap()
}

fn world() -> World {
    let mut world = World::open(SimDisk::new(5), tiny_options()).unwrap();
    world.create(0).unwrap();
    world
}

fn segment_paths(disk: &SimDisk) -> Vec<String> {
    let dir = format!("p/{}", disk.list("p").unwrap()[0].name);
    let names = disk.list(&dir).unwrap().into_iter().map(|entry| entry.name);
    names.filter(|name| name.ends_with(".log")).map(|name| format!("{dir}/{name}")).collect()
}

#[test]
fn a_flipped_bit_in_the_open_segment_is_told_and_kept() {
    let world = World::filled();
    let disk = world.disk.after_power_cut(1);
    let last = segment_paths(&disk).pop().unwrap();
    // Behind the checkpoint nobody reads it at a restart, and whoever reads it sees the CRC; the
    // check finds it.
    disk.flip_bit(&last, 4096 + 200, 3);
    let report = check(&disk, 1, |_| {}).unwrap();
    assert!(!report.is_whole(), "{report:?}");
    assert!(report.problems.iter().any(|p| p.severity() == Severity::Damage && p.path == last));
}

/// The last commits are in the journal and after the checkpoint.
#[test]
fn damage_after_the_checkpoint_stops_the_log_and_stays() {
    let mut world = world();
    world.options.journal_append_bytes_max = 0;
    world.reopen().unwrap();
    for _ in 0..6 {
        world.append(0, 10, 100, None).unwrap();
        world.commit().unwrap();
    }
    let disk = world.disk.after_power_cut(2);
    let path = segment_paths(&disk).pop().unwrap();
    disk.flip_bit(&path, 4096 + 2_500, 5);
    let image = disk.after_kill();
    for round in 0..3 {
        let (mut shard, report) = open(&disk);
        assert_eq!(report.damaged.len(), 1, "round {round}");
        let log = shard.log(&partition(0)).unwrap();
        let damaged_from = log.damaged_from().unwrap();
        assert_eq!(damaged_from, Offset(20), "{report:?}");
        let reader = log.reader();
        let read = reader.read(Offset(0), 1 << 20, reader.log_end(), true).unwrap();
        assert_eq!(read.next_offset, damaged_from);
        let refused = reader.read(damaged_from, 1 << 20, reader.log_end(), true);
        assert!(matches!(refused, Err(ReadError::Damaged { .. })), "{refused:?}");
        let (epoch, now) = (LeaderEpoch(9), TimestampMs(30_000));
        let origin = AppendOrigin::Leader;
        let appended = shard.append(&partition(0), &batch(1, 1, 10, None), epoch, origin, now);
        assert!(matches!(appended, Err(AppendError::Damaged { .. })), "{appended:?}");
        shard.close().unwrap();
        // The bytes are as they were.
        let before = image.open(&path, OpenMode::Read).unwrap().map(0, 8_192).unwrap();
        let after = disk.open(&path, OpenMode::Read).unwrap().map(0, 8_192).unwrap();
        assert!(before[4096..] == after[4096..]);
    }
    // A peer's copy can be taken from there on.
    let (mut shard, _) = open(&disk);
    let now = TimestampMs(30_000);
    let log = shard.log_mut(&partition(0)).unwrap();
    assert_eq!(log.truncate_to(Offset(20), now).unwrap(), Offset(20));
    assert_eq!(log.damaged_from(), None);
    let (shard, report) = open(&disk.after_power_cut(3));
    assert_eq!(report.damaged, []);
    assert_eq!(read_all(&shard.log(&partition(0)).unwrap().reader()).len(), 2);
}

#[test]
fn missing_and_swapped_segments_are_damage() {
    let world = World::filled();
    let paths = segment_paths(&world.disk);
    assert!(paths.len() >= 3, "{paths:?}");
    let missing = world.disk.after_kill();
    missing.remove(&paths[1]).unwrap();
    let (shard, report) = open(&missing);
    assert_eq!(report.damaged.len(), 1);
    let reader = shard.log(&partition(0)).unwrap().reader();
    assert!(reader.read(Offset(0), 1 << 20, reader.log_end(), true).is_ok());
    let damaged_from = reader.damaged_from().unwrap();
    let refused = reader.read(damaged_from, 1 << 20, reader.log_end(), true);
    assert!(matches!(refused, Err(ReadError::Damaged { .. })));
    let swapped = world.disk.after_kill();
    let bytes = swapped.open(&paths[0], OpenMode::Read).unwrap();
    let bytes = bytes.map(0, usize::try_from(bytes.len().unwrap()).unwrap()).unwrap();
    swapped.open(&paths[1], OpenMode::Replace).unwrap().write_at(0, &[&bytes]).unwrap();
    let (_, report) = open(&swapped);
    assert_eq!(report.damaged.len(), 1, "{report:?}");
    assert!(report.damaged[0].reason.contains("another partition or offset"), "{report:?}");
}

/// What lay before the first segment that is left cannot be cut to: it would be a hole, in a log that counts as whole.
/// Such a log is filled again from its start.
#[test]
fn a_log_without_its_head_is_not_mended_by_cutting_it() {
    let world = World::filled();
    let paths = segment_paths(&world.disk);
    for lost in [&paths[..1], &paths[..]] {
        let disk = world.disk.after_kill();
        for path in lost {
            // Its header is in the first sector.
            disk.harm(path, Harm::Lose { sector: 0 }, true);
        }
        let (mut shard, report) = open(&disk);
        assert_eq!(report.damaged.len(), 1, "{report:?}");
        let log = shard.log_mut(&partition(0)).unwrap();
        assert_eq!((log.log_start(), log.damaged_from()), (Offset(0), Some(Offset(0))));
        let now = TimestampMs(30_000);
        let cut = log.truncate_to(Offset(0), now);
        assert_eq!(cut, Err(TruncateError::Damaged { offset: Offset(0) }));
        assert_eq!(log.damaged_from(), Some(Offset(0)));
        log.reset_to(Offset(0), now).unwrap();
        let ends = (log.log_start(), log.log_end(), log.damaged_from());
        assert_eq!(ends, (Offset(0), Offset(0), None));
        let (_, report) = open(&disk.after_power_cut(1));
        assert_eq!(report.damaged, []);
    }
}

#[test]
fn a_damaged_journal_is_refused_unless_accepted() {
    let mut world = world();
    for _ in 0..4 {
        world.append(0, 2, 50, None).unwrap();
        world.commit().unwrap();
    }
    let disk = world.disk.after_power_cut(4);
    for number in 0..2 {
        let path = format!("shard-0/journal-{number}");
        let file = disk.open(&path, OpenMode::Read).unwrap();
        if file.has_data_from(4096).unwrap() {
            disk.flip_bit(&path, 4096 + 100, 1);
        }
    }
    let (now, options) = (TimestampMs(1), tiny_options());
    let refused = LogShard::open(disk.after_kill(), ShardId(0), options.clone(), now);
    assert!(matches!(refused, Err(OpenError::JournalDamaged { .. })));
    let options = ShardOptions { accept_journal_damage: true, ..options };
    let (_, report) = LogShard::open(disk, ShardId(0), options, now).unwrap();
    assert!(report.journal_damage_accepted);
}

/// A sequence that nothing can follow, under a checksum that fits: the start says that the journal is
/// damaged, and does not count on from there.
#[test]
fn a_journal_that_nothing_can_follow_is_damaged() {
    let mut world = world();
    for _ in 0..4 {
        world.append(0, 2, 50, None).unwrap();
        world.commit().unwrap();
    }
    let disk = world.disk.after_power_cut(4);
    let files = (0..2).map(|number| format!("shard-0/journal-{number}"));
    let mut files = files.map(|path| disk.open(&path, OpenMode::Write).unwrap());
    let file = files.find(|file| file.has_data_from(4_096).unwrap()).unwrap();
    let header = file.map(4_096, 12).unwrap();
    let field = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
    assert_eq!(&header[..4], b"VRVJ");
    // FORMAT.md: the sequence lies at 24, and the CRC at 8 covers everything behind it.
    file.write_at(4_096 + 24, &[&u64::MAX.to_be_bytes()]).unwrap();
    let end = 80 + usize::try_from(field(4)).unwrap();
    let covered = file.map(4_096 + 12, end - 12).unwrap();
    file.write_at(4_096 + 8, &[&crc32c::crc32c(&covered).to_be_bytes()]).unwrap();
    assert!(!check(&disk, 1, |_| {}).is_ok_and(|report| report.is_whole()));
    let refused = LogShard::open(disk, ShardId(0), tiny_options(), TimestampMs(1));
    assert!(matches!(refused, Err(OpenError::JournalDamaged { .. })), "{refused:?}");
}

#[test]
fn a_damaged_checkpoint_is_refused_and_can_be_done_without() {
    let world = World::filled();
    let disk = world.disk.after_kill();
    disk.flip_bit("shard-0/checkpoint", 60, 1);
    let refused = LogShard::open(disk.clone(), ShardId(0), tiny_options(), TimestampMs(1));
    assert!(matches!(refused, Err(OpenError::CheckpointDamaged { .. })));
    let disk = disk.after_kill();
    disk.remove("shard-0/checkpoint").unwrap();
    let (shard, report) = open(&disk);
    assert_eq!(report.damaged, []);
    assert_eq!(read_all(&shard.log(&partition(0)).unwrap().reader()).len(), 40);
}

#[test]
fn a_damaged_or_missing_index_is_built_again() {
    let world = World::filled();
    for removes in [false, true] {
        let disk = world.disk.after_kill();
        for path in segment_paths(&disk) {
            let index = path.replace(".log", ".index");
            if disk.open(&index, OpenMode::Read).is_err() {
                continue;
            }
            if removes {
                disk.remove(&index).unwrap();
            } else {
                disk.flip_bit(&index, 45, 1);
            }
        }
        let (shard, _) = open(&disk);
        let reader = shard.log(&partition(0)).unwrap().reader();
        for offset in (0..400).step_by(7) {
            let read = reader.read(Offset(offset), 1, Offset(400), true).unwrap();
            assert_eq!(read.first_batch, Some(Offset(offset / 10 * 10)));
            assert_eq!(read.next_offset, Offset(offset / 10 * 10 + 10));
        }
    }
}

#[test]
fn a_full_disk_refuses_appends_and_the_log_goes_on_when_there_is_room() {
    let mut world = world();
    world.append(0, 2, 100, None).unwrap();
    world.commit().unwrap();
    world.disk.set_capacity(Some(world.disk.bytes_used()));
    let (tip, epoch, origin) = (partition(0), LeaderEpoch(0), AppendOrigin::Leader);
    let large = batch(5, 4, 2_000, None);
    let now = TimestampMs(world.now);
    for _ in 0..3 {
        let refused = world.shard().append(&tip, &large, epoch, origin, now);
        assert_eq!(refused, Err(AppendError::DiskFull));
    }
    world.check("full");
    world.maintain(20_000).unwrap_or_else(|_| panic!("a full disk fails nothing"));
    world.disk.set_capacity(None);
    world.append(0, 4, 2_000, None).unwrap();
    world.commit().unwrap();
    world.disk = world.disk.after_power_cut(1);
    world.reopen().unwrap();
    world.check("after");
}

#[test]
fn a_failed_sync_acknowledges_nothing_ever_again() {
    let mut world = world();
    world.append(0, 2, 100, None).unwrap();
    world.take_commit();
    world.disk.fail_sync_at(0);
    world.run_commit();
    assert!(world.finish_commit().is_err());
    assert!(world.append(0, 1, 10, None).is_err());
    assert!(world.shard().take_commit().is_none());
    assert_eq!(world.shard().log(&partition(0)).unwrap().durable_end(), Offset(0));
    assert!(world.shard().failure().is_some());
}

/// A deletion that was not written is not taken for one that was, when it is asked for again.
#[test]
fn a_failed_deletion_is_not_answered_later() {
    let mut world = world();
    world.append(0, 4, 100, None).unwrap();
    world.commit().unwrap();
    world.disk.fail_sync_at(0);
    for _ in 0..2 {
        let log = world.shard().log_mut(&partition(0)).unwrap();
        assert!(log.advance_log_start(Offset(3)).is_err());
    }
}

#[test]
fn timestamps_find_the_first_record_at_or_after() {
    let mut world = world();
    world.config = LogConfig { segment_bytes: 6 << 10, ..tiny_config() };
    world.reopen().unwrap();
    for number in 0..60_i64 {
        world.now = 10_000 + number * 10;
        world.append(0, 3, 80, None).unwrap();
    }
    world.commit().unwrap();
    let reader = world.shard().log(&partition(0)).unwrap().reader();
    let find = |timestamp| {
        let found = reader.offset_for_timestamp(TimestampMs(timestamp), Offset(180)).unwrap();
        found.map(|found| (found.offset.0, found.timestamp.0))
    };
    assert_eq!(find(0), Some((0, 10_000)));
    for number in 0..60_i64 {
        assert_eq!(find(10_000 + number * 10), Some((number * 3, 10_000 + number * 10)));
        assert_eq!(find(9_995 + number * 10), Some((number * 3, 10_000 + number * 10)));
    }
    assert_eq!(find(10_591), None);
    let max = reader.max_timestamp(Offset(180)).unwrap().unwrap();
    assert_eq!((max.offset, max.timestamp), (Offset(177), TimestampMs(10_590)));
    let max = reader.max_timestamp(Offset(90)).unwrap().unwrap();
    assert_eq!((max.offset, max.timestamp), (Offset(87), TimestampMs(10_290)));
}

#[test]
fn retention_by_size_and_time_frees_the_disk() {
    let mut world = World::filled();
    let before = world.disk.bytes_used();
    world.config.retention_bytes = 8 << 10;
    let config = world.config.clone();
    world.shard().log_mut(&partition(0)).unwrap().set_config(config);
    for _ in 0..3 {
        world.maintain(10_000).unwrap();
    }
    let start = world.shard().log(&partition(0)).unwrap().log_start();
    assert!(start.0 > 100, "{start}");
    assert!(world.disk.bytes_used() < before - (12 << 10));
    world.check("by size");
    world.check_duplicates("by size");
    world.config.retention_ms = 1_000;
    let config = world.config.clone();
    world.shard().log_mut(&partition(0)).unwrap().set_config(config);
    for _ in 0..4 {
        world.maintain(10_000).unwrap();
    }
    let log = world.shard().log(&partition(0)).unwrap();
    assert_eq!((log.log_start(), log.log_end()), (Offset(400), Offset(400)));
    world.check_duplicates("by time");
    world.disk = world.disk.after_power_cut(1);
    world.reopen().unwrap();
    world.check("after a restart");
    world.check_duplicates("after a restart");
}
