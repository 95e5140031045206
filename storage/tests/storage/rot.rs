//! Bits that turn over in batches which are on the disk: whoever reads them is refused, and gets all
//! that is whole.

use std::collections::BTreeMap;

use bytes::Bytes;
use varve_protocol::records::Batches;
use varve_protocol::vocabulary::{Offset, TimestampMs};
use varve_storage::config::ShardId;
use varve_storage::{
    Disk, DiskFile, LogReader, LogShard, OpenMode, ReadError, Rot, SimDisk, TruncateError,
};

use crate::world::{World, partition, read_all, tiny_options};

/// Where the records of a segment begin (FORMAT.md).
const RECORDS_AT: u64 = 4_096;

fn open(disk: &SimDisk) -> LogShard<SimDisk> {
    LogShard::open(disk.clone(), ShardId(0), tiny_options(), TimestampMs(20_000)).unwrap().0
}

/// Every segment's file, and where its batches begin.
fn batches_of(disk: &SimDisk) -> Vec<(String, Vec<u64>)> {
    let dir = format!("p/{}", disk.list("p").unwrap()[0].name);
    let names = disk.list(&dir).unwrap().into_iter().map(|entry| entry.name);
    let mut found = Vec::new();
    for name in names.filter(|name| name.ends_with(".log")) {
        let path = format!("{dir}/{name}");
        let file = disk.open(&path, OpenMode::Read).unwrap();
        let len = usize::try_from(file.len().unwrap() - RECORDS_AT).unwrap();
        let mut position = RECORDS_AT;
        let mut starts = Vec::new();
        for batch in Batches::new(file.map(RECORDS_AT, len).unwrap()) {
            let Ok(batch) = batch else { break };
            starts.push(position);
            position += batch.bytes().len() as u64;
        }
        if !starts.is_empty() {
            found.push((path, starts));
        }
    }
    found
}

/// What reading from every batch's offset gives: the batches, and why others are refused.
fn read_around(reader: &LogReader<SimDisk>) -> (BTreeMap<i64, Bytes>, Vec<Rot>) {
    let (mut given, mut refused) = (BTreeMap::new(), Vec::new());
    let mut from = reader.log_start();
    while from < reader.log_end() {
        match reader.read(from, 3_000, reader.log_end(), true) {
            Ok(read) => {
                for slice in &read.slices {
                    for batch in Batches::new(slice.bytes().unwrap()) {
                        let batch = batch.unwrap();
                        given.insert(batch.header().base_offset.0, batch.bytes().clone());
                    }
                }
                assert!(read.next_offset > from, "{read:?}");
                from = read.next_offset;
            }
            Err(ReadError::Rotten(rot)) => {
                assert!(rot.offset <= from, "{rot} where {from} was asked for");
                refused.push(*rot);
                from = from + 10;
            }
            Err(error) => panic!("{error}"),
        }
    }
    (given, refused)
}

/// Turns over one bit, reads all that can be read, and compares.
#[track_caller]
fn check_flip(shard: &LogShard<SimDisk>, disk: &SimDisk, path: &str, position: u64, bit: u8) {
    let reader = shard.log(&partition(0)).unwrap().reader();
    let (whole, refused) = read_around(&reader);
    assert_eq!(refused, []);
    disk.flip_bit(path, position, bit);
    let (given, refused) = read_around(&reader);
    disk.flip_bit(path, position, bit);
    let place = format!("{path}, byte {position}, bit {bit}");
    assert!(!refused.is_empty(), "{place}: nobody noticed");
    for (base, bytes) in &given {
        assert_eq!(whole.get(base), Some(bytes), "{place}: not what was written");
    }
    // Without a header the way goes on at the next batch that the index knows.
    let lost = whole.len() - given.len();
    assert!((1..=10).contains(&lost), "{place}: {lost} batches cannot be read");
}

#[test]
fn no_bit_of_a_batch_turns_over_unseen() {
    let world = World::filled();
    let shard = world.shard.as_ref().unwrap();
    let segments = batches_of(&world.disk);
    assert!(segments.len() >= 3, "{segments:?}");
    for (path, starts) in &segments {
        for (number, start) in starts.iter().enumerate() {
            // Every byte of the header, and some of the records.
            for byte in (0..61).chain([61, 99, 300, 650]) {
                let bit = u8::try_from((number + usize::try_from(byte).unwrap()) % 8).unwrap();
                check_flip(shard, &world.disk, path, start + byte, bit);
            }
        }
    }
}

/// A process that starts on a rotten disk has neither indexes in memory nor offsets that it gave out.
#[test]
fn rot_is_seen_after_a_restart() {
    let world = World::filled();
    let segments = batches_of(&world.disk);
    let whole = read_all(&world.shard.as_ref().unwrap().log(&partition(0)).unwrap().reader());
    for (path, starts) in &segments {
        for byte in [3, 7, 10, 14, 18, 25, 60, 200] {
            let disk = world.disk.after_kill();
            disk.flip_bit(path, starts[starts.len() / 2] + byte, 4);
            let shard = open(&disk);
            let log = shard.log(&partition(0)).unwrap();
            let reader = log.reader();
            if reader.damaged_from().is_some() {
                // Behind the last checkpoint the recovery sees it first.
                continue;
            }
            let (given, refused) = read_around(&reader);
            assert!(!refused.is_empty(), "{path}, byte {byte}");
            assert!(given.values().all(|batch| whole.contains(batch)), "{path}, byte {byte}");
        }
    }
}

/// Looks through the whole log for damage.
fn scrub(reader: &LogReader<SimDisk>) -> Result<Offset, ReadError> {
    let mut from = reader.log_start();
    while let Some((next, len)) = reader.scrub(from, 3_000)? {
        assert!(next > from && len > 0);
        from = next;
    }
    Ok(from)
}

/// A scrub goes through the whole log, and stops at damage.
#[test]
fn a_scrub_finds_what_nobody_reads() {
    let world = World::filled();
    let reader = world.shard.as_ref().unwrap().log(&partition(0)).unwrap().reader();
    assert_eq!(scrub(&reader).unwrap(), reader.log_end());
    for (path, starts) in batches_of(&world.disk) {
        world.disk.flip_bit(&path, starts[0] + 90, 2);
        let found = scrub(&reader);
        assert!(matches!(found, Err(ReadError::Rotten(_))), "{path}: {found:?}");
        world.disk.flip_bit(&path, starts[0] + 90, 2);
    }
}

#[test]
fn what_lies_before_rot_is_given_first_and_what_lies_behind_it_is_cut() {
    let world = World::filled();
    let disk = world.disk.after_kill();
    let segments = batches_of(&disk);
    let (path, starts) = &segments[1];
    let mut shard = open(&disk);
    let reader = shard.log(&partition(0)).unwrap().reader();
    let whole = read_all(&reader);
    disk.flip_bit(path, starts[1] + 100, 0);
    let read = reader.read(Offset(0), 1 << 20, reader.log_end(), true).unwrap();
    let refused = reader.read(read.next_offset, 1 << 20, reader.log_end(), true);
    let Err(ReadError::Rotten(rot)) = refused else { panic!("{refused:?}") };
    assert_eq!((&rot.file, rot.position, rot.offset), (path, starts[1], read.next_offset));
    assert_eq!(rot.next_offset, Some(rot.offset + 10));
    // A follower cuts there, and is given the rest by its leader.
    let now = TimestampMs(30_000);
    let log = shard.log_mut(&partition(0)).unwrap();
    assert_eq!(log.cut_rot(&rot, now).unwrap(), rot.offset);
    let count = usize::try_from(rot.offset.0 / 10).unwrap();
    assert_eq!(read_all(&reader), whole[..count]);
    let kept = format!("{}/{:020}.rotten", path.rsplit_once('/').unwrap().0, rot.offset.0);
    let kept = disk.open(&kept, OpenMode::Read).unwrap();
    assert_eq!(kept.len().unwrap(), starts[2] - starts[1], "the damaged batch is put aside");
    let rest: Vec<u8> = whole[count..].concat();
    shard.append_batches(&partition(0), &rest.into(), now).unwrap();
    assert_eq!(read_all(&reader), whole);
    shard.close().unwrap();
    let shard = open(&disk.after_power_cut(8));
    assert_eq!(read_all(&shard.log(&partition(0)).unwrap().reader()), whole);
}

/// What was appended a moment ago goes to a follower as it is, in the same ranges; after a restart
/// everything is checked for it, too.
#[test]
fn a_follower_gets_unchecked_only_what_this_process_appended() {
    let world = World::filled();
    let reader = world.shard.as_ref().unwrap().log(&partition(0)).unwrap().reader();
    let end = reader.log_end();
    let mut from = reader.log_start();
    let mut ranges = 0;
    while from < end {
        for max_bytes in [1, 700, 1 << 20] {
            let checked = reader.read(from, max_bytes, end, true).unwrap();
            let trusted = reader.read_for_follower(from, max_bytes, end, true).unwrap();
            assert_eq!((trusted.len, trusted.next_offset), (checked.len, checked.next_offset));
            ranges += 1;
        }
        from = Offset(from.0 + 10);
    }
    assert!(ranges > 30, "{ranges}");
    let (path, starts) = batches_of(&world.disk).pop().unwrap();
    world.disk.flip_bit(&path, starts.last().unwrap() + 100, 3);
    let from = Offset(end.0 - 10);
    assert!(matches!(reader.read(from, 1, end, true), Err(ReadError::Rotten(_))));
    let given = reader.read_for_follower(from, 1 << 20, end, true).unwrap();
    let mut batches = Batches::new(given.slices[0].bytes().unwrap());
    assert!(batches.next().unwrap().unwrap().check_crc().is_err());
    // Of a process that has not appended it.
    let shard = open(&world.disk.after_power_cut(1));
    let reader = shard.log(&partition(0)).unwrap().reader();
    let read = reader.read_for_follower(from, 1, reader.log_end(), true);
    assert!(matches!(read, Err(ReadError::Rotten(_))), "{read:?}");
}

/// A write of two whole batches that came to the place of two others: their checksums fit, and so does
/// the offset of the second to the first. Who believed that there is a gap before them would go past
/// everything that they lie upon, up to their own offsets.
#[test]
fn batches_of_another_place_are_no_gap() {
    let world = World::filled();
    let reader = world.shard.as_ref().unwrap().log(&partition(0)).unwrap().reader();
    let whole = read_all(&reader);
    let mut struck = 0;
    for (path, starts) in batches_of(&world.disk) {
        let file = world.disk.open(&path, OpenMode::Write).unwrap();
        for (to, from) in
            (0..starts.len()).flat_map(|to| (to + 2..starts.len()).map(move |f| (to, f)))
        {
            let (Some(to_end), Some(from_end)) = (starts.get(to + 2), starts.get(from + 2)) else {
                continue;
            };
            let (at, len) = (starts[to], usize::try_from(to_end - starts[to]).unwrap());
            if from_end - starts[from] != len as u64 {
                continue;
            }
            let before = file.map(at, len).unwrap();
            file.write_at(at, &[&file.map(starts[from], len).unwrap()]).unwrap();
            let place = format!("{path}, {at}: the bytes of {}", starts[from]);
            let (given, refused) = read_around(&reader);
            assert!(!refused.is_empty(), "{place}: nobody noticed");
            assert!(given.values().all(|batch| whole.contains(batch)), "{place}");
            let lost = whole.len() - given.len();
            assert!((2..=10).contains(&lost), "{place}: {lost} batches cannot be read");
            let found = scrub(&reader);
            assert!(matches!(found, Err(ReadError::Rotten(_))), "{place}: {found:?}");
            file.write_at(at, &[&before]).unwrap();
            struck += 1;
        }
    }
    assert!(struck > 50, "{struck}");
}

/// A write that came to the wrong place and began within a header, where another batch of the same length
/// has its own: the batch has its own base offset, and all that a CRC covers of the other one.
#[test]
fn another_batch_behind_its_own_first_bytes_is_seen() {
    let world = World::filled();
    let whole = read_all(&world.shard.as_ref().unwrap().log(&partition(0)).unwrap().reader());
    let mut struck = 0;
    for (path, starts) in batches_of(&world.disk) {
        let pairs = starts.windows(3).map(|three| (three[0], three[1], three[2]));
        for (number, (to, from, from_end)) in pairs.enumerate() {
            // The first byte that is another's: the length, the epoch, the magic, the CRC.
            let skip = [8, 12, 16, 17][number % 4];
            let len = usize::try_from(from_end - from - skip).unwrap();
            if from - to != from_end - from {
                continue;
            }
            for is_restarted in [false, true] {
                let disk = world.disk.after_kill();
                let mut shard = open(&disk);
                if !is_restarted {
                    // The index is in memory.
                    scrub(&shard.log(&partition(0)).unwrap().reader()).unwrap();
                }
                let file = disk.open(&path, OpenMode::Write).unwrap();
                file.write_at(to + skip, &[&file.map(from + skip, len).unwrap()]).unwrap();
                if is_restarted {
                    shard = open(&disk);
                }
                let place = format!("{path}, {to}: from {skip} on that of {from}, {is_restarted}");
                let log = shard.log_mut(&partition(0)).unwrap();
                let reader = log.reader();
                let (given, refused) = read_around(&reader);
                assert!(given.values().all(|batch| whole.contains(batch)), "{place}");
                if reader.damaged_from().is_some() {
                    // Behind the last checkpoint the recovery sees it first.
                    continue;
                }
                let Some(rot) = refused.first() else { panic!("{place}: nobody noticed") };
                assert!(scrub(&reader).is_err(), "{place}");
                // A truncation does not seal it.
                let behind = refused.last().unwrap().offset + 30;
                let cut = log.truncate_to(behind.min(reader.log_end()), TimestampMs(30_000));
                assert!(cut.is_err() || scrub(&reader).is_err(), "{place}: {cut:?}");
                if let Err(TruncateError::Damaged { offset }) = cut {
                    // Who reads there learns where to cut.
                    let read = reader.read(offset, 1, reader.log_end(), true);
                    assert!(matches!(read, Err(ReadError::Rotten(_))), "{place}: {read:?}");
                }
                log.cut_rot(rot, TimestampMs(31_000)).unwrap();
                let left = read_all(&reader);
                assert_eq!(left, whole[..left.len()], "{place}");
                struck += 1;
            }
        }
    }
    assert!(struck > 20, "{struck}");
}
