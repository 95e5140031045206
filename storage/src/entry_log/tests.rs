use super::*;
use crate::mem::SimDisk;

fn entry(index: u64, term: u64, size: usize) -> Entry {
    let byte = u8::try_from(index % 250).unwrap() + 1;
    Entry { index, term, data: vec![byte; size].into() }
}

fn reopen(disk: &SimDisk) -> (EntryLog<SimDisk>, RecoveredEntries) {
    EntryLog::open(disk.clone(), "metadata").unwrap()
}

#[test]
fn keeps_entries_truncations_hard_state_and_snapshots() {
    let disk = SimDisk::new(1);
    let (mut log, recovered) = reopen(&disk);
    assert_eq!(recovered, RecoveredEntries::default());
    log.append(&(1..=5).map(|index| entry(index, 1, 100)).collect::<Vec<_>>()).unwrap();
    log.truncate_from(4).unwrap();
    log.append(&[entry(4, 2, 3000)]).unwrap();
    log.set_hard_state(&Bytes::from_static(b"term 2")).unwrap();
    log.sync().unwrap();
    let (mut log, recovered) = reopen(&disk.after_power_cut(7));
    let expected = vec![entry(1, 1, 100), entry(2, 1, 100), entry(3, 1, 100), entry(4, 2, 3000)];
    assert_eq!(recovered.entries, expected);
    assert_eq!(recovered.hard_state.as_deref(), Some(&b"term 2"[..]));
    assert!(matches!(
        log.append(&[entry(9, 2, 1)]),
        Err(EntryLogError::Index { expected: 5, found: 9 })
    ));
    log.install_snapshot(3, 1, &Bytes::from_static(b"state")).unwrap();
    assert_eq!((log.first_index(), log.last_index()), (4, 4));
    let disk = log.disk.after_power_cut(8);
    let (mut log, recovered) = reopen(&disk);
    assert_eq!(recovered.entries, vec![entry(4, 2, 3000)]);
    assert_eq!(recovered.hard_state.as_deref(), Some(&b"term 2"[..]));
    let snapshot = recovered.snapshot.unwrap();
    assert_eq!((snapshot.index, snapshot.term, &snapshot.data[..]), (3, 1, &b"state"[..]));
    // A snapshot from elsewhere, past the end, takes everything away.
    log.install_snapshot(90, 5, &Bytes::from_static(b"newer")).unwrap();
    let (log, recovered) = reopen(&log.disk.after_power_cut(9));
    assert_eq!(recovered.entries, vec![]);
    assert_eq!((log.last_index(), log.term(90)), (90, Some(5)));
}

/// What the log promised and what it did not promise yet, after a cut at one sync point.
fn run_until_cut(disk: &SimDisk) -> (Vec<Entry>, Vec<Entry>) {
    let mut durable: Vec<Entry> = Vec::new();
    let mut pending: Vec<Entry> = Vec::new();
    let Ok((mut log, _)) = EntryLog::open(disk.clone(), "metadata") else {
        return (durable, pending);
    };
    for round in 0..12_u64 {
        let first = log.last_index() + 1;
        let size = usize::try_from(round * 97 % 1300).unwrap() + 1;
        let batch: Vec<Entry> = (first..first + 3).map(|i| entry(i, round, size)).collect();
        if log.append(&batch).is_err() {
            break;
        }
        pending.extend(batch);
        if log.sync().is_err() {
            break;
        }
        durable.append(&mut pending);
        let last = log.last_index();
        if round % 5 == 4 && log.install_snapshot(last - 1, round, &vec![7; 600].into()).is_err() {
            break;
        }
    }
    (durable, pending)
}

#[test]
fn survives_a_power_cut_at_every_sync() {
    let mut cuts = 0;
    for nth in 0.. {
        let disk = SimDisk::new(nth);
        disk.power_cut_at_sync(nth);
        let (durable, pending) = run_until_cut(&disk);
        for seed in 0..40 {
            let image = disk.after_power_cut(seed * 1000 + nth);
            let (log, recovered) = EntryLog::open(image, "metadata").unwrap();
            let mut all = durable.clone();
            all.extend(pending.clone());
            let last_durable = durable.last().map_or(0, |entry| entry.index);
            assert!(log.last_index() >= last_durable, "cut {nth}, seed {seed}");
            for found in &recovered.entries {
                let index = usize::try_from(found.index - 1).unwrap();
                assert_eq!(found, &all[index], "cut {nth}, seed {seed}");
            }
            cuts += 1;
        }
        if !disk.is_off() {
            break;
        }
    }
    assert!(cuts > 500, "{cuts}");
}

#[test]
fn refuses_damage_anywhere() {
    let disk = SimDisk::new(3);
    let (mut log, _) = reopen(&disk);
    log.append(&[entry(1, 1, 40)]).unwrap();
    log.set_hard_state(&Bytes::from_static(b"vote for 3")).unwrap();
    log.sync().unwrap();
    log.install_snapshot(1, 1, &Bytes::from_static(b"state")).unwrap();
    log.append(&[entry(2, 1, 900), entry(3, 1, 40)]).unwrap();
    log.sync().unwrap();
    let path = log_path("metadata", 2);
    let end = log.position;
    let mut refused = 0;
    for position in (0..52).chain(LOG_START..end) {
        let damaged = disk.after_kill();
        damaged.flip_bit(&path, position, 3);
        match EntryLog::open(damaged, "metadata") {
            Err(EntryLogError::Corrupt { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
            // Padding between records means nothing.
            Ok((_, recovered)) => assert_eq!(recovered.entries.len(), 2, "byte {position}"),
        }
    }
    assert!(refused > 1000, "{refused}");
    for position in 0..40 {
        let damaged = disk.after_kill();
        damaged.flip_bit(&snapshot_path("metadata", 2), position, 1);
        assert!(matches!(EntryLog::open(damaged, "metadata"), Err(EntryLogError::Corrupt { .. })));
    }
}

#[test]
fn goes_on_after_a_full_disk_and_stops_after_a_failed_sync() {
    let disk = SimDisk::new(4);
    let (mut log, _) = reopen(&disk);
    disk.set_capacity(Some(disk.bytes_used() + 4096));
    assert!(matches!(log.append(&[entry(1, 1, 9000)]), Err(EntryLogError::DiskFull)));
    disk.set_capacity(None);
    log.append(&[entry(1, 1, 9000)]).unwrap();
    disk.fail_sync_at(0);
    assert!(matches!(log.sync(), Err(EntryLogError::DirectoryFailed(_))));
    assert!(matches!(log.sync(), Err(EntryLogError::DirectoryFailed(_))));
    assert!(matches!(log.append(&[entry(2, 1, 1)]), Err(EntryLogError::DirectoryFailed(_))));
}

/// A file may lose the padding behind its last record with its length.
#[test]
fn opens_a_file_that_ends_before_its_padding() {
    use crate::file::{Disk, DiskFile, OpenMode};
    let disk = SimDisk::new(1);
    let (mut log, _) = reopen(&disk);
    log.append(&[entry(1, 1, 5)]).unwrap();
    log.sync().unwrap();
    drop(log);
    let path = format!("metadata/{}", disk.list("metadata").unwrap()[0].name);
    let file = disk.open(&path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(0, &mut bytes).unwrap();
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1);
    disk.open(&path, OpenMode::Replace).unwrap().write_at(0, &[&bytes]).unwrap();
    let (mut log, recovered) = reopen(&disk);
    assert_eq!(recovered.entries, [entry(1, 1, 5)]);
    log.append(&[entry(2, 1, 5)]).unwrap();
    log.sync().unwrap();
    assert_eq!(reopen(&disk).1.entries, [entry(1, 1, 5), entry(2, 1, 5)]);
}
