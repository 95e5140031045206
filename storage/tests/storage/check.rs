//! The check of a data directory: it finds damage in every kind of file, says what comes of it, and
//! changes nothing.

use varve_storage::{
    Disk, DiskFile, Entry, EntryLog, OpenMode, Remedy, Severity, SimDisk, check, dump,
};

use crate::world::{World, tiny_options};

const SHARDS: u32 = 1;

/// Closed segments with indexes and a snapshot, a checkpoint, a journal with entries after it, a
/// partition state, and an entry log with a snapshot.
fn filled() -> SimDisk {
    let mut world = World::open(SimDisk::new(5), tiny_options()).unwrap();
    assert_eq!(world.options.shard_count, SHARDS);
    world.create(0).unwrap();
    for round in 0..40 {
        world.append(0, 10, 60, Some(7)).unwrap();
        world.commit().unwrap();
        world.maintain(100).unwrap();
        if round == 20 {
            world.advance_start(0, 15).unwrap();
        }
    }
    world.maintain(10_000).unwrap();
    world.append(0, 3, 20, Some(7)).unwrap();
    world.commit().unwrap();
    let disk = world.disk.after_kill();
    let (mut entries, _) = EntryLog::open(disk.clone(), "metadata").unwrap();
    let entry = |index| Entry { index, term: 1, data: format!("entry {index}").into() };
    entries.append(&(1..=8).map(entry).collect::<Vec<_>>()).unwrap();
    entries.sync().unwrap();
    disk.after_kill()
}

fn files(disk: &SimDisk, dir: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in disk.list(dir).unwrap() {
        let path = if dir.is_empty() { entry.name } else { format!("{dir}/{}", entry.name) };
        if entry.is_dir {
            found.extend(files(disk, &path));
        } else {
            found.push(path);
        }
    }
    found
}

fn content(disk: &SimDisk, path: &str) -> Vec<u8> {
    let file = disk.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

fn find(disk: &SimDisk, end: &str) -> String {
    let found = files(disk, "").into_iter().find(|path| path.ends_with(end));
    found.unwrap_or_else(|| panic!("no {end} in {:#?}", files(disk, "")))
}

#[test]
fn a_whole_directory_has_no_problem() {
    let disk = filled();
    let before: Vec<_> = files(&disk, "").iter().map(|path| content(&disk, path)).collect();
    let mut last = None;
    let report = check(&disk, SHARDS, |progress| last = Some(progress)).unwrap();
    assert_eq!(report.problems, []);
    assert!(report.is_whole());
    assert_eq!((report.logs, report.entries), (1, 8));
    assert!(report.segments >= 3 && report.records > 300, "{report:?}");
    let last = last.unwrap();
    assert_eq!((last.segments_done, last.segments), (report.segments, report.segments));
    let after: Vec<_> = files(&disk, "").iter().map(|path| content(&disk, path)).collect();
    assert!(before == after, "a check changes nothing");
}

/// A bit turned over anywhere in a file that counts is told; and never is anything but told.
#[test]
fn every_flipped_bit_that_counts_is_told() {
    let disk = filled();
    for path in files(&disk, "") {
        let bytes = content(&disk, &path);
        // Behind the last byte of these lies what is allocated only; a journal's older entries lie
        // behind its chain and mean nothing.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let is_told =
            ["index", "snapshot", "state", "checkpoint"].iter().any(|end| path.ends_with(end));
        let is_segment = path.ends_with(".log");
        let stride = (used / 150).max(1);
        for place in (0..used).step_by(stride) {
            let damaged = disk.after_kill();
            damaged.flip_bit(&path, place as u64, 3);
            let report = check(&damaged, SHARDS, |_| {}).unwrap();
            let _ = dump(&damaged, &path, |_| {});
            let in_header = (88..512).contains(&place) || (568..1024).contains(&place);
            if is_told || is_segment && !in_header {
                assert!(!report.problems.is_empty(), "{path} at {place}");
            }
            for problem in &report.problems {
                assert!(!problem.what.is_empty() && !problem.remedy.to_string().is_empty());
            }
        }
    }
}

#[track_caller]
fn damaged(path: &str, position: u64, remedy: Remedy, words: &str) {
    let disk = filled();
    let path = find(&disk, path);
    disk.flip_bit(&path, position, 1);
    let report = check(&disk, SHARDS, |_| {}).unwrap();
    let problem = report.problems.iter().find(|p| p.path == path && p.what.contains(words));
    let problem = problem.unwrap_or_else(|| panic!("{:#?}", report.problems));
    assert_eq!(problem.remedy, remedy, "{problem:?}");
    assert_eq!(report.is_whole(), problem.severity() < Severity::Damage);
}

#[test]
fn damage_is_told_with_what_comes_of_it() {
    damaged(".log", 20, Remedy::RestoreLog, "header");
    damaged(".log", 530, Remedy::NextStart, "seal");
    damaged(".log", 2_000, Remedy::None, "header page");
    damaged(".log", 4_300, Remedy::RestoreLog, "no valid batch");
    // The leader epoch lies outside the batch's CRC, but not outside the seal's.
    damaged(".log", 4_096 + 15, Remedy::RestoreLog, "sealed");
    damaged(".index", 40, Remedy::NextStart, "");
    damaged("partition.state", 20, Remedy::RestoreLog, "");
    damaged("checkpoint", 20, Remedy::RestoreShard, "");
    damaged("journal-0", 10, Remedy::NextStart, "anew");
    damaged("metadata/entries-00000000000000000001", 4_110, Remedy::RestoreEntries, "durable");
    damaged("metadata/entries-00000000000000000001", 10, Remedy::RestoreEntries, "header");
}

#[test]
fn strangers_and_remains_are_told_and_harm_nothing() {
    let disk = filled();
    let dir = find(&disk, ".log");
    let dir = dir.rsplit_once('/').unwrap().0;
    for name in [&format!("{dir}/x.log.new"), &format!("{dir}/notes.txt"), "shard-0/core"] {
        disk.open(name, OpenMode::CreateNew).unwrap();
    }
    disk.create_dir(&format!("{dir}.deleted-3")).unwrap();
    let report = check(&disk, SHARDS, |_| {}).unwrap();
    assert!(report.is_whole());
    let told: Vec<_> = report.problems.iter().map(|problem| problem.severity()).collect();
    assert_eq!(told.iter().filter(|told| **told == Severity::Mended).count(), 2, "{report:#?}");
    assert_eq!(told.iter().filter(|told| **told == Severity::Note).count(), 2, "{report:#?}");
}

#[test]
fn every_file_can_be_dumped() {
    let disk = filled();
    for path in files(&disk, "") {
        let mut lines = 0;
        dump(&disk, &path, |_| lines += 1).unwrap_or_else(|error| panic!("{path}: {error}"));
        // The journal that is not in use holds nothing.
        assert!(lines > 0 || path.contains("journal-"), "{path}");
    }
}
