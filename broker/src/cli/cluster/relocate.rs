//! Where the replicas of a broker go when it is taken out: pure.

use std::collections::{BTreeMap, BTreeSet};

use varve_broker::survey::{Survey, SurveyedBroker, SurveyedPartition};

/// New replicas for every partition that `id` holds: its place goes to the broker with the fewest replicas,
/// of a rack that the partition is not in if there is one. Partitions keep their number of replicas, and the
/// place of each.
///
/// # Errors
/// Where a partition has no other broker to go to.
pub(super) fn relocations(
    survey: &Survey,
    id: i32,
) -> Result<Vec<(&SurveyedPartition, Vec<i32>)>, String> {
    let is_host =
        |broker: &&SurveyedBroker| broker.id != id && !broker.is_fenced && !broker.is_draining;
    let hosts: Vec<&SurveyedBroker> = survey.brokers.iter().filter(is_host).collect();
    let racks: BTreeMap<i32, Option<&str>> =
        survey.brokers.iter().map(|broker| (broker.id, broker.rack.as_deref())).collect();
    let rack_of = |broker: i32| racks.get(&broker).copied().flatten();
    let mut loads: BTreeMap<i32, usize> = hosts.iter().map(|host| (host.id, 0)).collect();
    for holder in survey.partitions.iter().flat_map(wanted) {
        loads.entry(holder).and_modify(|load| *load += 1);
    }
    let mut moves = Vec::new();
    for partition in &survey.partitions {
        let replicas: Vec<i32> = wanted(partition).collect();
        let Some(place) = replicas.iter().position(|holder| *holder == id) else { continue };
        let others: BTreeSet<_> = replicas.iter().filter(|other| **other != id).copied().collect();
        let taken: BTreeSet<_> = others.iter().map(|other| rack_of(*other)).collect();
        let free = hosts.iter().filter(|host| !others.contains(&host.id));
        let heir = free.min_by_key(|host| {
            let is_rack_taken = taken.contains(&rack_of(host.id));
            (is_rack_taken, loads.get(&host.id).copied().unwrap_or(0), host.id)
        });
        let Some(heir) = heir else {
            return Err(format!(
                "{} has {} replicas, and no other broker that is alive could take over that of broker \
                 {id}: add a broker, or give the topic fewer replicas first",
                partition.name(),
                replicas.len()
            ));
        };
        loads.entry(heir.id).and_modify(|load| *load += 1);
        let mut to = replicas;
        to[place] = heir.id;
        moves.push((partition, to));
    }
    Ok(moves)
}

/// The replicas that stay once a move under way is over.
fn wanted(partition: &SurveyedPartition) -> impl Iterator<Item = i32> {
    let stays = |id: &&i32| !partition.removing.contains(id);
    partition.replicas.iter().filter(stays).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(racks: &[&str], partitions: &[&[i32]]) -> Survey {
        let broker = |(id, rack): (i32, &&str)| SurveyedBroker {
            id,
            rack: Some((*rack).to_owned()),
            ..SurveyedBroker::default()
        };
        let partition = |(partition, replicas): (i32, &&[i32])| SurveyedPartition {
            topic: "t".to_owned(),
            partition,
            replicas: replicas.to_vec(),
            ..SurveyedPartition::default()
        };
        Survey {
            brokers: (1..).zip(racks).map(broker).collect(),
            partitions: (0..).zip(partitions).map(partition).collect(),
            ..Survey::default()
        }
    }

    #[track_caller]
    fn check(survey: &Survey, id: i32, expected: &[(i32, &[i32])]) {
        let moves = relocations(survey, id).unwrap();
        let found: Vec<(i32, &[i32])> =
            moves.iter().map(|(partition, to)| (partition.partition, to.as_slice())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_rack_comes_before_the_load_and_both_are_spread() {
        let world = survey(&["a", "b", "b", "c"], &[&[1, 2], &[2, 1], &[4], &[3, 4]]);
        // Another rack than that of broker 1 first; then the least loaded.
        check(&world, 2, &[(0, &[1, 3]), (1, &[3, 1])]);
        check(&world, 4, &[(2, &[3]), (3, &[3, 1])]);
    }

    #[test]
    fn the_dead_and_the_drained_take_nothing() {
        let mut world = survey(&["a", "b", "c", "d"], &[&[1]]);
        world.brokers[1].is_fenced = true;
        world.brokers[2].is_draining = true;
        check(&world, 1, &[(0, &[4])]);
    }

    #[test]
    fn without_a_broker_to_spare_nothing_moves() {
        let world = survey(&["a", "b", "c"], &[&[1, 2, 3]]);
        assert!(relocations(&world, 2).unwrap_err().contains("t/0 has 3 replicas"));
    }
}
