//! Which brokers hold the replicas of new partitions (KIP-36, KIP-455's rules for manual lists).

use std::collections::BTreeMap;

use varve_protocol::vocabulary::BrokerId;

/// A broker that can be given replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which broker.
    pub id: BrokerId,
    /// Its failure domain; brokers without one share one.
    pub rack: Option<String>,
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn brokers(racks: &[Option<&str>]) -> Vec<Candidate> {
        let candidate = |(id, rack): (i32, &Option<&str>)| Candidate {
            id: BrokerId(id),
            rack: rack.map(str::to_owned),
        };
        (1..).zip(racks).map(candidate).collect()
    }

    #[test]
    fn one_broker_holds_everything() {
        let replicas = choose_replicas(&brokers(&[None]), 3, 1, 17);
        assert_eq!(replicas, vec![vec![BrokerId(1)]; 3]);
    }

    #[test]
    fn leaders_rotate() {
        let candidates = brokers(&[Some("a"), Some("b"), Some("c")]);
        let leaders: Vec<_> =
            choose_replicas(&candidates, 6, 2, 1).iter().map(|replicas| replicas[0].0).collect();
        assert_eq!(leaders, [2, 3, 1, 2, 3, 1]);
    }

    proptest! {
        /// KIP-36: replicas of a partition are distinct, in as many racks as possible, and every broker
        /// leads as many partitions as any other, give or take one.
        #[test]
        fn replicas_are_distinct_spread_and_balanced(
            racks in prop::collection::vec(0u8..4, 1..9),
            factor in 1usize..6,
            partitions in 1usize..40,
            start in 0usize..1000,
        ) {
            let names: Vec<_> = racks.iter().map(|rack| format!("r{rack}")).collect();
            let racks: Vec<_> = names.iter().map(|rack| Some(rack.as_str())).collect();
            let candidates = brokers(&racks);
            let factor = factor.min(candidates.len());
            let rack_count = racks.iter().collect::<BTreeSet<_>>().len();
            let rack_of = |id: &BrokerId| {
                candidates.iter().find(|broker| broker.id == *id).unwrap().rack.clone()
            };
            let mut leads: BTreeMap<BrokerId, usize> =
                candidates.iter().map(|broker| (broker.id, 0)).collect();
            for replicas in choose_replicas(&candidates, partitions, factor, start) {
                prop_assert_eq!(replicas.len(), factor);
                prop_assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), factor);
                let in_racks = replicas.iter().map(rack_of).collect::<BTreeSet<_>>().len();
                prop_assert_eq!(in_racks, factor.min(rack_count));
                *leads.get_mut(&replicas[0]).unwrap() += 1;
            }
            let (least, most) = (leads.values().min().unwrap(), leads.values().max().unwrap());
            prop_assert!(most - least <= 1);
        }
    }
}
