//! The metadata log over a simulated disk: power cuts and failures at every sync, full disks, damage.

use varve_protocol::vocabulary::{BrokerId, TopicId};
use varve_replication::quorum::{
    HardState, LogEntry, Membership, Payload, Persist, QuorumSnapshot,
};
use varve_storage::{DirEntry, Disk, SimDisk};

use super::registration;
use crate::metadata::plan::{
    PlanSettings, plan_config_change, plan_create_topic, plan_delete_topic, plan_producer_ids,
    plan_register_broker,
};
use crate::metadata::record::MetadataRecord;
use crate::metadata::store::{MetadataStore, QuorumLog};
use crate::metadata::{
    AppendError, ConfigChange, ConfigEdits, ConfigResource, LogOwner, METADATA_DIRECTORY,
    MetadataImage, NewTopic, OpenError, TopicSelector, decode_batch, encode_batch,
};
use crate::topic_config::{ConfigEdit, StaticConfig};

/// Small, so that the workload passes several snapshots.
const SNAPSHOT_BYTES: u64 = 2_000;

/// What happens to the metadata in step `step` of a life, on top of `image`.
fn step_records(image: &MetadataImage, step: u128) -> Vec<MetadataRecord> {
    let settings = PlanSettings::default();
    let name = format!("topic-{}", step % 7);
    match step % 5 {
        0 => plan_register_broker(image, &registration(1, Some("r1"))),
        1 => {
            let (record, _) = plan_producer_ids(image, BrokerId(1)).unwrap();
            vec![record]
        }
        2 if image.topic(&name).is_some() => {
            plan_delete_topic(image, &TopicSelector::Name(name)).unwrap().0
        }
        3 if image.topic(&name).is_some() => {
            let edit = ConfigEdit::set("retention.ms", step.to_string());
            let change = ConfigChange {
                resource: ConfigResource::Topic(name),
                edits: ConfigEdits::Incremental(vec![edit]),
            };
            plan_config_change(image, &StaticConfig::default(), &change).unwrap()
        }
        _ if image.topic(&name).is_none() && image.broker_count() > 0 => {
            let wish = NewTopic { partition_count: Some(3), ..NewTopic::named(name) };
            plan_create_topic(image, &settings, &wish, TopicId(1 + step)).unwrap().records
        }
        _ => vec![MetadataRecord::ClusterId("MkU3OEVBNTcwNTJENDM2Qg".to_owned())],
    }
}

/// The images of a life after each of its steps, the empty one first.
fn expected_images(steps: u128) -> Vec<MetadataImage> {
    let mut images = vec![MetadataImage::default()];
    for step in 0..steps {
        let mut image = images.last().unwrap().clone();
        let records = step_records(&image, step);
        image.apply_all(&records).unwrap();
        images.push(image);
    }
    images
}

/// This broker, alone.
fn owner() -> LogOwner {
    LogOwner { broker: BrokerId(1), directory: 7, voters: vec![BrokerId(1)] }
}

/// The log under test, as the quorum of one broker uses it: a step is an entry with its term and
/// commit.
struct Store {
    inner: MetadataStore<SimDisk>,
    last: u64,
    image: MetadataImage,
}

impl Store {
    fn open_with(disk: SimDisk, snapshot_bytes: u64) -> Result<(Self, MetadataImage), OpenError> {
        let (inner, recovered) = MetadataStore::open_with(disk, owner(), snapshot_bytes)?;
        let mut image = recovered.image;
        let mut last = recovered.quorum.snapshot.map_or(0, |snapshot| snapshot.index);
        for entry in recovered.quorum.entries {
            assert_eq!(entry.index, last + 1);
            last = entry.index;
            let Payload::Data(data) = entry.payload else { panic!("{:?}", entry.payload) };
            image.apply_all(&decode_batch(&data).unwrap()).unwrap();
        }
        Ok((Self { inner, last, image: image.clone() }, image))
    }

    fn append(&mut self, batches: &[Vec<MetadataRecord>]) -> Result<(), AppendError> {
        let entry = |(index, records): (u64, &Vec<MetadataRecord>)| LogEntry {
            index,
            term: 1,
            payload: Payload::Data(encode_batch(records).into()),
        };
        let entries: Vec<_> = (self.last + 1..).zip(batches).map(entry).collect();
        let last = self.last + entries.len() as u64;
        let hard_state = Some(HardState {
            term: 1,
            vote: Some(BrokerId(1)),
            commit: last,
            ..HardState::default()
        });
        self.inner.persist(&Persist { entries, hard_state, ..Persist::default() })?;
        self.last = last;
        for records in batches {
            self.image.apply_all(records).unwrap();
        }
        Ok(())
    }

    fn snapshot_if_due(&mut self, image: &MetadataImage) -> Result<(), AppendError> {
        if !self.inner.is_snapshot_due() {
            return Ok(());
        }
        let membership = Membership { voters: vec![BrokerId(1)], learners: Vec::new() };
        let data = encode_batch(&image.to_records()).into();
        self.inner.compact(&QuorumSnapshot { index: self.last, term: 1, membership, data })
    }
}

/// Lives the steps from where the disk is, until `end` or until the disk fails. Answers how many
/// steps are acknowledged.
fn live(disk: &SimDisk, end: u128, done: u128, images: &[MetadataImage]) -> u128 {
    let Ok((mut store, _)) = Store::open_with(disk.clone(), SNAPSHOT_BYTES) else {
        return done;
    };
    for step in done..end {
        let image = &images[usize::try_from(step).unwrap()];
        if store.append(&[step_records(image, step)]).is_err() {
            return step;
        }
        let image = &images[usize::try_from(step).unwrap() + 1];
        if store.snapshot_if_due(image).is_err() {
            return step + 1;
        }
    }
    end
}

/// The number of steps that the disk holds, which must be `acknowledged` or one more.
#[track_caller]
fn check_recovered(disk: &SimDisk, acknowledged: u128, images: &[MetadataImage]) -> u128 {
    let (_, image) = Store::open_with(disk.clone(), SNAPSHOT_BYTES).unwrap();
    let acknowledged_image = &images[usize::try_from(acknowledged).unwrap()];
    if image.hash() == acknowledged_image.hash() {
        assert_eq!(&image, acknowledged_image);
        return acknowledged;
    }
    let next = images.get(usize::try_from(acknowledged).unwrap() + 1);
    assert_eq!(Some(&image), next, "neither what was acknowledged nor what was under way");
    acknowledged + 1
}

const STEPS: u128 = 60;

/// Invariant (RELIABILITY of metadata): what was acknowledged survives a power cut at any sync, and
/// nothing is there that was not written.
#[test]
fn acknowledged_changes_survive_power_cuts() {
    let images = expected_images(STEPS);
    let whole = SimDisk::new(1);
    assert_eq!(live(&whole, STEPS, 0, &images), STEPS);
    let syncs = whole.counts().syncs;
    assert!(syncs > STEPS as u64, "the life passes snapshots");
    for nth in 0..syncs {
        for seed in 0..3 {
            let disk = SimDisk::new(seed);
            disk.power_cut_at_sync(nth);
            let acknowledged = live(&disk, STEPS, 0, &images);
            let disk = disk.after_power_cut(seed.wrapping_mul(31) + nth);
            let recovered = check_recovered(&disk, acknowledged, &images);
            // And a second life on what is left, with a cut of its own.
            disk.power_cut_at_sync(nth % 7);
            let acknowledged = live(&disk, STEPS, recovered, &images);
            check_recovered(&disk.after_power_cut(seed), acknowledged, &images);
        }
    }
}

#[test]
fn acknowledged_changes_survive_failing_disks() {
    let images = expected_images(STEPS);
    let whole = SimDisk::new(1);
    live(&whole, STEPS, 0, &images);
    for nth in 0..whole.counts().syncs {
        let disk = SimDisk::new(nth);
        disk.fail_sync_at(nth);
        let acknowledged = live(&disk, STEPS, 0, &images);
        check_recovered(&disk.after_power_cut(nth), acknowledged, &images);
    }
    for nth in 0..whole.counts().writes {
        let disk = SimDisk::new(nth);
        disk.fail_write_at(nth);
        let acknowledged = live(&disk, STEPS, 0, &images);
        check_recovered(&disk.after_kill(), acknowledged, &images);
    }
}

#[test]
fn a_killed_process_finds_everything() {
    let images = expected_images(STEPS);
    for steps in 0..STEPS {
        let disk = SimDisk::new(3);
        live(&disk, steps, 0, &images);
        assert_eq!(check_recovered(&disk.after_kill(), steps, &images), steps);
    }
}

#[test]
fn a_full_disk_refuses_changes_until_there_is_room() {
    let images = expected_images(STEPS);
    let disk = SimDisk::new(4);
    let acknowledged = {
        let (mut store, _) = Store::open_with(disk.clone(), u64::MAX).unwrap();
        disk.set_capacity(Some(disk.bytes_used()));
        let refused = (0..STEPS).find_map(|step| {
            let image = &images[usize::try_from(step).unwrap()];
            store.append(&[step_records(image, step)]).err().map(|error| (step, error))
        });
        let (step, error) = refused.expect("the log outgrows what is allocated");
        assert_eq!(error, AppendError::Full);
        disk.set_capacity(None);
        let image = &images[usize::try_from(step).unwrap()];
        store.append(&[step_records(image, step)]).unwrap();
        step + 1
    };
    assert_eq!(check_recovered(&disk.after_power_cut(9), acknowledged, &images), acknowledged);
}

#[test]
fn a_damaged_log_is_refused_and_not_touched() {
    let images = expected_images(STEPS);
    let disk = SimDisk::new(5);
    live(&disk, STEPS, 0, &images);
    let files: Vec<DirEntry> = disk.list(METADATA_DIRECTORY).unwrap();
    let mut refused = 0;
    for file in &files {
        let path = format!("{METADATA_DIRECTORY}/{}", file.name);
        for position in [20, 4_096 + 40, 4_096 + 200] {
            let disk = disk.after_kill();
            let len = {
                let file = disk.open(&path, varve_storage::OpenMode::Read).unwrap();
                varve_storage::DiskFile::len(&file).unwrap()
            };
            if position >= len {
                continue;
            }
            disk.flip_bit(&path, position, 3);
            match Store::open_with(disk.clone(), u64::MAX) {
                Err(OpenError::Log(_)) => refused += 1,
                Err(other) => panic!("{path} at {position}: {other}"),
                // A bit in the zeros between records says nothing.
                Ok((_, image)) => assert_eq!(image.hash(), images.last().unwrap().hash()),
            }
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_log_of_a_later_version_says_who_wrote_it() {
    let disk = SimDisk::new(6);
    {
        let (mut log, _) = varve_storage::EntryLog::open(disk.clone(), METADATA_DIRECTORY).unwrap();
        let mut data = vec![1, 5];
        data.extend_from_slice(b"9.1.0");
        data.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 3, 0, 200, 0]);
        log.append(&[varve_storage::Entry { index: 1, term: 1, data: data.into() }]).unwrap();
        log.sync().unwrap();
    }
    let error = Store::open_with(disk, u64::MAX).err().unwrap().to_string();
    assert!(error.contains("entry 1") && error.contains("written by varve 9.1.0"), "{error}");
}

/// A directory that one broker alone wrote before there was a quorum: terms of 1, no vote, entries and
/// snapshots without a kind.
#[test]
fn a_log_of_before_there_was_a_quorum_opens() {
    let images = expected_images(STEPS);
    for with_snapshot in [false, true] {
        let disk = SimDisk::new(8);
        {
            let (mut log, _) =
                varve_storage::EntryLog::open(disk.clone(), METADATA_DIRECTORY).unwrap();
            let encode = |records: &[MetadataRecord]| bytes::Bytes::from(encode_batch(records));
            for (index, step) in (1..).zip(0..STEPS) {
                let before = &images[usize::try_from(step).unwrap()];
                let data = encode(&step_records(before, step));
                log.append(&[varve_storage::Entry { index, term: 1, data }]).unwrap();
                if with_snapshot && step == STEPS / 2 {
                    let after = &images[usize::try_from(step).unwrap() + 1];
                    log.install_snapshot(index, 1, &encode(&after.to_records())).unwrap();
                }
            }
            log.sync().unwrap();
        }
        for _ in 0..2 {
            let (_, image) = Store::open_with(disk.clone(), u64::MAX).unwrap();
            assert_eq!(&image, images.last().unwrap());
        }
    }
}

#[test]
fn a_directory_of_another_broker_or_cluster_is_refused() {
    let disk = SimDisk::new(9);
    let voters = vec![BrokerId(1), BrokerId(2), BrokerId(3)];
    let first = LogOwner { broker: BrokerId(1), directory: 5, voters };
    drop(MetadataStore::open(disk.clone(), first.clone()).unwrap());
    let again = LogOwner { directory: 6, voters: vec![BrokerId(1), BrokerId(9)], ..first.clone() };
    let (store, _) = MetadataStore::open(disk.clone(), again).unwrap();
    assert_eq!(store.owner(), &first, "the directory keeps its id and its first voters");
    let other = LogOwner { broker: BrokerId(2), ..first.clone() };
    let refused = MetadataStore::open(disk.clone(), other).unwrap_err().to_string();
    assert!(refused.contains("belongs to broker 1, but node.id is 2"), "{refused}");
    let alone = LogOwner { voters: vec![BrokerId(1)], ..first };
    let refused = MetadataStore::open(disk, alone).unwrap_err().to_string();
    assert!(refused.contains("brokers [1, 2, 3]"), "{refused}");
}

#[test]
fn a_log_that_lost_committed_entries_is_refused() {
    let disk = SimDisk::new(10);
    let (mut store, _) = MetadataStore::open(disk.clone(), owner()).unwrap();
    let hard_state = Some(HardState { term: 3, commit: 9, ..HardState::default() });
    store.persist(&Persist { hard_state, ..Persist::default() }).unwrap();
    drop(store);
    let refused = MetadataStore::open(disk, owner()).unwrap_err().to_string();
    assert!(refused.contains("ends with entry 0, but entry 9 was committed"), "{refused}");
}
