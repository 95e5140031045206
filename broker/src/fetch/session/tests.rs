//! Scripts of requests and answers.

use bytes::Bytes;
use varve_protocol::wire::RecordSet;

use super::*;

fn key(partition: i32) -> PartitionKey {
    PartitionKey { topic: TopicKey::Name("t".into()), partition }
}

fn wanted(fetch_offset: i64) -> Wanted {
    Wanted { fetch_offset, bytes_max: 1, current_leader_epoch: -1, last_fetched_epoch: -1 }
}

/// A client and the broker's cache; each partition has a high watermark, and records beyond what is
/// asked for.
struct World {
    cache: SessionCache,
    high_watermarks: BTreeMap<i32, i64>,
    errors: BTreeMap<i32, ErrorCode>,
    now_ms: i64,
    next_id: i32,
}

impl World {
    fn new(sessions_max: usize) -> Self {
        Self {
            cache: SessionCache::new(sessions_max),
            high_watermarks: BTreeMap::new(),
            errors: BTreeMap::new(),
            now_ms: 0,
            next_id: 0,
        }
    }

    fn data(&self, key: &PartitionKey, wanted: Wanted) -> PartitionData {
        let error = self.errors.get(&key.partition).copied().unwrap_or(ErrorCode::None);
        let high_watermark = self.high_watermarks.get(&key.partition).copied().unwrap_or(0);
        let has_records = error == ErrorCode::None && wanted.fetch_offset < high_watermark;
        PartitionData {
            error_code: error.code(),
            high_watermark,
            log_start_offset: 0,
            records: if has_records {
                RecordSet::from(Bytes::from_static(b"records"))
            } else {
                RecordSet::default()
            },
            ..PartitionData::default()
        }
    }

    /// Partitions are `number@offset`; the answer is the session and the answered partitions.
    fn fetch(
        &mut self,
        id: i32,
        epoch: i32,
        partitions: &[(i32, i64)],
        forgotten: &[i32],
    ) -> Result<(i32, Vec<i32>), ErrorCode> {
        let request = SessionRequest {
            id,
            epoch,
            uses_ids: false,
            partitions: partitions
                .iter()
                .map(|(partition, offset)| (key(*partition), wanted(*offset)))
                .collect(),
            forgotten: forgotten.iter().map(|partition| key(*partition)).collect(),
        };
        let resolved = self.cache.resolve(request, self.now_ms)?;
        let (partitions, context) = resolved.split();
        let results = partitions.into_iter().map(|(key, wanted)| {
            let data = self.data(&key, wanted);
            (key, wanted, data)
        });
        let results = results.collect();
        let next_id = &mut self.next_id;
        let draw = || {
            *next_id += 1;
            *next_id
        };
        let (id, changed) = self.cache.finish(context, results, self.now_ms, draw);
        Ok((id, changed.into_iter().map(|(key, _)| key.partition).collect()))
    }
}

#[test]
fn only_what_changed_is_answered() {
    let mut world = World::new(10);
    assert_eq!(world.fetch(0, 0, &[(0, 0), (1, 0), (2, 0)], &[]), Ok((1, vec![0, 1, 2])));
    assert_eq!(world.fetch(1, 1, &[], &[]), Ok((1, vec![])));
    world.high_watermarks.insert(1, 5);
    assert_eq!(world.fetch(1, 2, &[], &[]), Ok((1, vec![1])));
    // The same records again, since the client has not said that it has them.
    assert_eq!(world.fetch(1, 3, &[], &[]), Ok((1, vec![1])));
    assert_eq!(world.fetch(1, 4, &[(1, 5)], &[]), Ok((1, vec![])));
}

#[test]
fn what_was_sent_goes_to_the_end() {
    let mut world = World::new(10);
    world.fetch(0, 0, &[(0, 0), (1, 0), (2, 0)], &[]).unwrap();
    world.high_watermarks.extend([(0, 5), (1, 5), (2, 5)]);
    assert_eq!(world.fetch(1, 1, &[], &[2]), Ok((1, vec![0, 1])));
    assert_eq!(world.fetch(1, 2, &[(1, 5)], &[]), Ok((1, vec![0])));
    assert_eq!(world.fetch(1, 3, &[(1, 0), (3, 0)], &[]), Ok((1, vec![1, 0, 3])));
}

#[test]
fn an_error_is_told_and_so_is_its_end() {
    let mut world = World::new(10);
    world.high_watermarks.insert(0, 5);
    world.fetch(0, 0, &[(0, 5)], &[]).unwrap();
    world.errors.insert(0, ErrorCode::NotLeaderOrFollower);
    assert_eq!(world.fetch(1, 1, &[], &[]), Ok((1, vec![0])));
    assert_eq!(world.fetch(1, 2, &[], &[]), Ok((1, vec![0])));
    world.errors.clear();
    assert_eq!(world.fetch(1, 3, &[], &[]), Ok((1, vec![0])));
    assert_eq!(world.fetch(1, 4, &[], &[]), Ok((1, vec![])));
}

#[test]
fn ids_and_epochs_are_checked() {
    let mut world = World::new(10);
    world.fetch(0, 0, &[(0, 0)], &[]).unwrap();
    assert_eq!(world.fetch(9, 1, &[], &[]), Err(ErrorCode::FetchSessionIdNotFound));
    assert_eq!(world.fetch(1, 2, &[], &[]), Err(ErrorCode::InvalidFetchSessionEpoch));
    assert_eq!(world.fetch(1, 1, &[], &[]), Ok((1, vec![])));
    assert_eq!(world.fetch(1, 1, &[], &[]), Err(ErrorCode::InvalidFetchSessionEpoch));
    let by_id = SessionRequest {
        id: 1,
        epoch: 2,
        uses_ids: true,
        partitions: Vec::new(),
        forgotten: Vec::new(),
    };
    let refused = world.cache.resolve(by_id, 0).map(|_| ());
    assert_eq!(refused, Err(ErrorCode::FetchSessionTopicIdError));
}

#[test]
fn the_final_epoch_and_the_last_partition_end_a_session() {
    let mut world = World::new(10);
    world.fetch(0, 0, &[(0, 0)], &[]).unwrap();
    assert_eq!(world.fetch(1, -1, &[(0, 0)], &[]), Ok((0, vec![0])));
    assert_eq!(world.fetch(1, 1, &[], &[]), Err(ErrorCode::FetchSessionIdNotFound));
    world.fetch(0, 0, &[(0, 0)], &[]).unwrap();
    assert_eq!(world.fetch(2, 1, &[], &[0]), Ok((0, vec![])));
    assert_eq!(world.cache.count(), 0);
    // Epoch 0 with an id ends that session and begins another.
    world.fetch(0, 0, &[(0, 0)], &[]).unwrap();
    assert_eq!(world.fetch(3, 0, &[(0, 0)], &[]), Ok((4, vec![0])));
    assert_eq!(world.cache.count(), 1);
}

#[test]
fn a_full_cache_gives_up_only_who_is_silent_or_small_and_old() {
    let mut world = World::new(2);
    world.fetch(0, 0, &[(0, 0)], &[]).unwrap();
    world.fetch(0, 0, &[(0, 0), (1, 0)], &[]).unwrap();
    // Nobody is old: no session.
    assert_eq!(world.fetch(0, 0, &[(0, 0), (1, 0), (2, 0)], &[]), Ok((0, vec![0, 1, 2])));
    // Both are old, and in use: the smaller one goes, for a larger one only.
    world.now_ms = EVICTION_MS + 1;
    world.fetch(1, 1, &[], &[]).unwrap();
    world.fetch(2, 1, &[], &[]).unwrap();
    assert_eq!(world.fetch(0, 0, &[(0, 0)], &[]), Ok((0, vec![0])));
    assert_eq!(world.fetch(0, 0, &[(0, 0), (1, 0)], &[]), Ok((3, vec![0, 1])));
    assert_eq!(world.fetch(1, 2, &[], &[]), Err(ErrorCode::FetchSessionIdNotFound));
    // One was silent for long: it goes for anybody.
    world.now_ms += EVICTION_MS + 1;
    world.fetch(3, 1, &[], &[]).unwrap();
    assert_eq!(world.fetch(0, 0, &[(0, 0)], &[]), Ok((4, vec![0])));
    assert_eq!(world.fetch(2, 2, &[], &[]), Err(ErrorCode::FetchSessionIdNotFound));
}

#[test]
fn epochs_wrap_to_one() {
    assert_eq!(next_epoch(0), 1);
    assert_eq!(next_epoch(i32::MAX), 1);
}
