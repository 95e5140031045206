//! The conformance suite of the seam: everything here must hold on both disks.

use std::io::ErrorKind;

use varve_storage::{Disk, DiskFile, Harm, OpenMode, RealDisk, SimDisk};

macro_rules! on_both_disks {
    ($($name:ident => $check:ident;)*) => {$(
        #[test]
        fn $name() {
            let dir = tempfile::tempdir().unwrap();
            $check(RealDisk::open(dir.path()).unwrap());
            $check(SimDisk::new(1));
        }
    )*};
}

on_both_disks! {
    writes_are_read_at_once => reads_what_was_written;
    space_is_allocated_and_zero => allocates;
    erased_ranges_are_zero => erases;
    names_are_made_moved_and_removed => names;
    modes_of_opening => modes;
    data_is_found => finds_data;
    mapped_bytes_outlive_name_and_file => maps;
    reading_past_the_end_fails => ends;
}

fn read<F: DiskFile>(file: &F, position: u64, len: usize) -> Vec<u8> {
    let mut buffer = vec![0; len];
    file.read_at(position, &mut buffer).unwrap();
    buffer
}

fn reads_what_was_written<D: Disk>(disk: D) {
    let file = disk.open("a", OpenMode::CreateNew).unwrap();
    assert!(file.is_empty().unwrap());
    file.write_at(0, &[b"hello ", b"", b"world"]).unwrap();
    file.write_at(6, &[b"there"]).unwrap();
    assert_eq!(read(&file, 0, 11), b"hello there");
    file.write_at(5000, &[b"far"]).unwrap();
    assert_eq!(file.len().unwrap(), 5003);
    assert_eq!(read(&file, 4998, 5), b"\0\0far");
    file.sync().unwrap();
    let many: Vec<&[u8]> = std::iter::repeat_n(&b"xy"[..], 3000).collect();
    file.write_at(10, &many).unwrap();
    assert_eq!(read(&file, 10, 6000), b"xy".repeat(3000));
    let again = disk.open("a", OpenMode::Read).unwrap();
    assert_eq!(read(&again, 6006, 4), b"xyxy");
}

fn allocates<D: Disk>(disk: D) {
    let file = disk.open("a", OpenMode::CreateNew).unwrap();
    file.write_at(0, &[b"abc"]).unwrap();
    file.allocate(10_000).unwrap();
    assert_eq!(file.len().unwrap(), 10_000);
    assert_eq!(read(&file, 0, 5), b"abc\0\0");
    file.allocate(100).unwrap();
    assert_eq!(file.len().unwrap(), 10_000);
    file.sync().unwrap();
}

fn erases<D: Disk>(disk: D) {
    for release in [false, true] {
        let file = disk.open("a", OpenMode::Replace).unwrap();
        file.write_at(0, &[&[7; 20_000]]).unwrap();
        file.erase(100, 15_000, release).unwrap();
        assert_eq!(file.len().unwrap(), 20_000);
        assert_eq!(read(&file, 99, 2), [7, 0]);
        assert!(read(&file, 100, 14_900).iter().all(|byte| *byte == 0));
        assert_eq!(read(&file, 15_000, 1), [7]);
    }
}

fn names<D: Disk>(disk: D) {
    disk.create_dir("d").unwrap();
    disk.create_dir("d").unwrap();
    assert_eq!(disk.create_dir("x/y").unwrap_err().kind(), ErrorKind::NotFound);
    drop(disk.open("d/one", OpenMode::CreateNew).unwrap());
    drop(disk.open("d/two", OpenMode::CreateNew).unwrap());
    disk.rename("d/one", "d/two").unwrap();
    disk.create_dir("d/deep").unwrap();
    drop(disk.open("d/deep/three", OpenMode::CreateNew).unwrap());
    disk.sync_dir("d").unwrap();
    disk.sync_dir("").unwrap();
    let listed = |path: &str| -> Vec<(String, bool)> {
        disk.list(path).unwrap().into_iter().map(|entry| (entry.name, entry.is_dir)).collect()
    };
    assert_eq!(listed("d"), [("deep".to_owned(), true), ("two".to_owned(), false)]);
    disk.rename("d", "e").unwrap();
    assert_eq!(disk.list("d").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.sync_dir("d").unwrap_err().kind(), ErrorKind::NotFound);
    assert!(disk.latch().check().is_ok());
    assert_eq!(listed("e/deep"), [("three".to_owned(), false)]);
    disk.remove("e").unwrap();
    disk.remove("e").unwrap();
    assert_eq!(listed(""), []);
    assert_eq!(disk.rename("no", "where").unwrap_err().kind(), ErrorKind::NotFound);
}

fn modes<D: Disk>(disk: D) {
    assert_eq!(disk.open("a", OpenMode::Read).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.open("a", OpenMode::Write).unwrap_err().kind(), ErrorKind::NotFound);
    let file = disk.open("a", OpenMode::CreateNew).unwrap();
    file.write_at(0, &[b"abc"]).unwrap();
    assert_eq!(disk.open("a", OpenMode::CreateNew).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(disk.open("a", OpenMode::Write).unwrap().len().unwrap(), 3);
    assert_eq!(disk.open("a", OpenMode::Replace).unwrap().len().unwrap(), 0);
}

fn finds_data<D: Disk>(disk: D) {
    let file = disk.open("a", OpenMode::CreateNew).unwrap();
    file.allocate(100_000).unwrap();
    assert!(!file.has_data_from(0).unwrap());
    file.write_at(50_000, &[b"x"]).unwrap();
    assert!(file.has_data_from(0).unwrap());
    assert!(file.has_data_from(50_000).unwrap());
    assert!(!file.has_data_from(70_000).unwrap());
    assert!(!file.has_data_from(100_000).unwrap());
    file.write_at(5, &[b"y"]).unwrap();
    file.erase(6, 100_000, false).unwrap();
    assert!(!file.has_data_from(6).unwrap());
}

fn maps<D: Disk>(disk: D) {
    let file = disk.open("a", OpenMode::CreateNew).unwrap();
    file.allocate(8192).unwrap();
    file.write_at(100, &[b"published"]).unwrap();
    let first = file.map(100, 9).unwrap();
    file.allocate(1 << 20).unwrap();
    file.write_at(600_000, &[b"later"]).unwrap();
    let second = file.map(600_000, 5).unwrap();
    disk.remove("a").unwrap();
    drop(file);
    assert_eq!(&first[..], b"published");
    assert_eq!(&second.slice(1..3)[..], b"at");
}

fn ends<D: Disk>(disk: D) {
    let file = disk.open("a", OpenMode::CreateNew).unwrap();
    file.write_at(0, &[b"abc"]).unwrap();
    let mut buffer = [0; 4];
    assert_eq!(file.read_at(0, &mut buffer).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(file.map(1, 3).unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn a_failed_sync_is_final_and_loses_the_data() {
    let disk = SimDisk::new(1);
    let file = disk.open("a", OpenMode::CreateNew).unwrap();
    disk.sync_dir("").unwrap();
    file.write_at(0, &[b"first"]).unwrap();
    file.sync().unwrap();
    file.write_at(0, &[b"again"]).unwrap();
    disk.fail_sync_at(0);
    assert!(file.sync().is_err());
    assert!(disk.latch().is_closed());
    assert!(file.sync().is_err());
    assert!(file.write_at(0, &[b"x"]).is_err());
    assert_eq!(read(&file, 0, 5), b"again");
    for seed in 0..20 {
        let after = disk.after_power_cut(seed).open("a", OpenMode::Read).unwrap();
        assert_eq!(read(&after, 0, 5), b"first");
    }
}

#[test]
fn a_power_cut_keeps_any_subset_of_what_was_not_synced() {
    let disk = SimDisk::new(1);
    let file = disk.open("a", OpenMode::CreateNew).unwrap();
    file.allocate(2048).unwrap();
    file.sync().unwrap();
    disk.sync_dir("").unwrap();
    for sector in 0..4 {
        file.write_at(sector * 512, &[&[1; 512]]).unwrap();
    }
    drop(disk.open("b", OpenMode::CreateNew).unwrap());
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..400 {
        let after = disk.after_power_cut(seed);
        let bytes = read(&after.open("a", OpenMode::Read).unwrap(), 0, 2048);
        let kept: Vec<bool> = bytes.chunks(512).map(|sector| sector == [1; 512]).collect();
        outcomes.insert((kept, after.open("b", OpenMode::Read).is_ok()));
        assert!(bytes.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
    }
    assert!(outcomes.len() >= 24, "{}", outcomes.len());
}

#[test]
fn a_full_disk_refuses_before_it_changes_anything() {
    let disk = SimDisk::new(1);
    let file = disk.open("a", OpenMode::CreateNew).unwrap();
    disk.set_capacity(Some(8192));
    file.allocate(8192).unwrap();
    assert_eq!(file.allocate(8193).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 8192);
    file.write_at(8000, &[b"fits"]).unwrap();
    assert_eq!(file.write_at(8190, &[b"too long"]).unwrap_err().kind(), ErrorKind::StorageFull);
    assert!(!disk.latch().is_closed());
}

/// Three sectors of ones, twos and threes, synced, after `harm`: what is read, what once nothing is cached, and what
/// after a power cut.
fn sectors_after(harm: Harm, is_seen: bool) -> [Vec<Vec<u8>>; 3] {
    let disk = SimDisk::new(1);
    let file = disk.open("a", OpenMode::CreateNew).unwrap();
    file.allocate(2048).unwrap();
    for sector in 0..3 {
        file.write_at(u64::from(sector) * 512, &[&[sector + 1; 512]]).unwrap();
    }
    assert_eq!(disk.settled_sectors("a"), []);
    file.sync().unwrap();
    disk.sync_dir("").unwrap();
    assert_eq!(disk.settled_sectors("a"), [0, 1, 2]);
    disk.harm("a", harm, is_seen);
    let sectors = |disk: &SimDisk| -> Vec<Vec<u8>> {
        let bytes = read(&disk.open("a", OpenMode::Read).unwrap(), 0, 1536);
        bytes.chunks(512).map(<[u8]>::to_vec).collect()
    };
    let cached = sectors(&disk);
    let cut = sectors(&disk.after_power_cut(3));
    disk.evict("a");
    [cached, sectors(&disk), cut]
}

#[test]
fn harm_is_seen_at_once_or_when_it_has_left_the_cache() {
    let whole = vec![vec![1; 512], vec![2; 512], vec![3; 512]];
    let mut flipped = whole.clone();
    flipped[1][3] ^= 1 << 5;
    let lost = vec![vec![1; 512], vec![0; 512], vec![3; 512]];
    let misdirected = vec![vec![1; 512], vec![2; 512], vec![1; 512]];
    for (harm, expected) in [
        (Harm::Flip { sector: 1, bit: 4096 * 7 + 29 }, flipped),
        (Harm::Lose { sector: 1 }, lost),
        (Harm::Misdirect { from: 0, to: 2 }, misdirected),
    ] {
        assert_eq!(
            sectors_after(harm, true),
            [expected.clone(), expected.clone(), expected.clone()]
        );
        assert_eq!(sectors_after(harm, false), [whole.clone(), expected.clone(), expected]);
    }
}

/// What is written over harm heals it.
#[test]
fn a_sector_with_something_unsynced_is_not_settled() {
    let disk = SimDisk::new(1);
    let file = disk.open("a", OpenMode::CreateNew).unwrap();
    file.write_at(0, &[&[1; 512]]).unwrap();
    file.sync().unwrap();
    disk.sync_dir("").unwrap();
    disk.harm("a", Harm::Lose { sector: 0 }, false);
    file.write_at(7, &[b"x"]).unwrap();
    assert!(!disk.is_settled("a", 0));
    file.sync().unwrap();
    assert!(disk.is_settled("a", 0) && disk.is_settled("none", 0));
    let after = disk.after_power_cut(1).open("a", OpenMode::Read).unwrap();
    assert_eq!(read(&after, 0, 9), [1, 1, 1, 1, 1, 1, 1, b'x', 1]);
}
