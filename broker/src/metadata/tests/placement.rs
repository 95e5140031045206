//! Placement: balance, distinct brokers, distinct racks.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use varve_protocol::vocabulary::BrokerId;

use crate::metadata::{Candidate, choose_replicas};

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
