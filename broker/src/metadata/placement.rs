//! Which brokers hold the replicas of new partitions (KIP-36, KIP-455's rules for manual lists).

use std::collections::BTreeMap;

use varve_protocol::vocabulary::BrokerId;

use super::image::MetadataImage;

/// A broker that can be given replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which broker.
    pub id: BrokerId,
    /// Its failure domain; brokers without one share one.
    pub rack: Option<String>,
}

/// Every broker that is alive and stays, by id.
#[must_use]
pub(super) fn candidates(image: &MetadataImage) -> Vec<Candidate> {
    let candidate = |broker: &std::sync::Arc<super::broker_image::BrokerImage>| Candidate {
        id: broker.id,
        rack: broker.rack.clone(),
    };
    image.brokers().filter(|broker| is_there_to_stay(broker)).map(candidate).collect()
}

fn is_there_to_stay(broker: &super::broker_image::BrokerImage) -> bool {
    !(broker.is_fenced || broker.in_controlled_shutdown || broker.is_draining)
}

/// The replicas of `partition_count` new partitions, preferred leader first. Leaders rotate over the
/// brokers, and the replicas of a partition lie in as many racks as there are. `start` says where the
/// rotation begins: the number of partitions that exist, so that topics do not all begin alike.
///
/// # Panics
/// When `replication_factor` is 0 or more than there are candidates; the planner refuses both.
#[must_use]
pub fn choose_replicas(
    candidates: &[Candidate],
    partition_count: usize,
    replication_factor: usize,
    start: usize,
) -> Vec<Vec<BrokerId>> {
    assert!(replication_factor >= 1, "a partition has a replica");
    assert!(replication_factor <= candidates.len(), "each replica has a broker of its own");
    let ring = interleave_racks(candidates);
    (0..partition_count)
        .map(|partition| {
            let first = start.wrapping_add(partition) % ring.len();
            // After a whole round the followers shift, so that one broker's followers are not
            // always its neighbours.
            let shift = start.wrapping_add(partition) / ring.len();
            replicas_from(&ring, first, shift, replication_factor)
        })
        .collect()
}

/// The brokers in an order in which neighbours are in different racks, as far as racks allow.
fn interleave_racks(candidates: &[Candidate]) -> Vec<&Candidate> {
    let mut racks: BTreeMap<Option<&str>, Vec<&Candidate>> = BTreeMap::new();
    for candidate in candidates {
        racks.entry(candidate.rack.as_deref()).or_default().push(candidate);
    }
    let deepest = racks.values().map(Vec::len).max().unwrap_or(0);
    let layer = |depth: usize| racks.values().filter_map(move |rack| rack.get(depth).copied());
    (0..deepest).flat_map(layer).collect()
}

fn replicas_from(
    ring: &[&Candidate],
    first: usize,
    shift: usize,
    replication_factor: usize,
) -> Vec<BrokerId> {
    let leader = ring[first];
    let others = ring.len() - 1;
    let follower = |step: usize| ring[(first + 1 + (shift + step) % others) % ring.len()];
    let mut chosen = vec![leader];
    // Two passes: first brokers of racks that hold nothing yet, then whoever is left.
    for must_be_new_rack in [true, false] {
        for step in 0..others {
            if chosen.len() == replication_factor {
                break;
            }
            let candidate = follower(step);
            let is_taken = chosen.iter().any(|taken| taken.id == candidate.id);
            let rack_is_taken = chosen.iter().any(|taken| taken.rack == candidate.rack);
            if !(is_taken || must_be_new_rack && rack_is_taken) {
                chosen.push(candidate);
            }
        }
    }
    assert!(chosen.len() == replication_factor, "there are enough distinct brokers");
    chosen.into_iter().map(|candidate| candidate.id).collect()
}
