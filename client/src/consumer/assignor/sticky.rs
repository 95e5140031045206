//! Sticky (KIP-54) and cooperative sticky (KIP-429): balanced, with as few moves as balance allows.
//!
//! Balanced means that no partition could move to a subscriber with at least two fewer. From what members had, only
//! what breaks that is moved; each move brings the sum of squares down, so it ends.

use super::{Group, Shares};
use crate::record::TopicPartition;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) fn assign(group: &Group) -> Shares {
    let mut shares = kept(group);
    let taken: BTreeSet<TopicPartition> = shares.values().flatten().cloned().collect();
    let takers = takers(group);
    let mut open: Vec<TopicPartition> =
        group.partitions().into_iter().filter(|at| !taken.contains(at)).collect();
    // Those with the fewest possible takers first, so that they do not find their takers full.
    open.sort_by_key(|at| (takers[&at.topic].len(), at.clone()));
    for at in open {
        let least = takers[&at.topic].iter().min_by_key(|id| shares[**id].len());
        if let Some(least) = least {
            shares.get_mut(*least).expect("every member has a share").push(at);
        }
    }
    balance(&mut shares, &takers);
    for share in shares.values_mut() {
        share.sort();
    }
    shares
}

/// As [`assign`], without what another member still has: that is handed over in the next generation, after its
/// owner has let go.
pub(super) fn assign_cooperatively(group: &Group) -> Shares {
    let mut owners: BTreeMap<&TopicPartition, Vec<&String>> = BTreeMap::new();
    for (id, member) in &group.members {
        for at in &member.owned {
            owners.entry(at).or_default().push(id);
        }
    }
    let mut shares = assign(group);
    for (id, share) in &mut shares {
        share.retain(|at| {
            owners.get(at).is_none_or(|owners| owners.iter().all(|owner| *owner == id))
        });
    }
    shares
}

/// Who subscribes to each topic, in order.
fn takers(group: &Group) -> BTreeMap<Arc<str>, Vec<&String>> {
    let mut takers: BTreeMap<Arc<str>, Vec<&String>> = BTreeMap::new();
    for (id, member) in group.members_in_order() {
        for topic in &member.topics {
            takers.entry(Arc::clone(topic)).or_default().push(id);
        }
    }
    takers
}

/// What members had and may keep. Where two claim the same partition the later generation has it, and within one
/// generation nobody (KIP-792).
fn kept(group: &Group) -> Shares {
    let mut claims: BTreeMap<&TopicPartition, (i32, Option<&String>)> = BTreeMap::new();
    for (id, member) in &group.members {
        for at in &member.owned {
            let exists = group
                .partition_counts
                .get(&at.topic)
                .is_some_and(|c| (0..*c).contains(&at.partition));
            if !exists || !member.topics.contains(&at.topic) {
                continue;
            }
            let claim = claims.entry(at).or_insert((member.generation, Some(id)));
            if claim.1 == Some(id) || claim.0 > member.generation {
                continue;
            }
            *claim = match claim.0 < member.generation {
                true => (member.generation, Some(id)),
                false => (member.generation, None),
            };
        }
    }
    let mut shares = group.no_shares();
    for (at, (_, id)) in claims {
        if let Some(id) = id {
            shares.get_mut(id).expect("every member has a share").push(at.clone());
        }
    }
    shares
}

/// Moves partitions from members with more to subscribers with at least two fewer, until there are none.
fn balance(shares: &mut Shares, takers: &BTreeMap<Arc<str>, Vec<&String>>) {
    loop {
        let mut givers: Vec<(usize, String)> =
            shares.iter().map(|(id, share)| (share.len(), id.clone())).collect();
        givers.sort_by(|a, b| b.cmp(a));
        let found = givers.into_iter().find_map(|(size, giver)| {
            // The partition whose best taker has the least; of those the last, which was likely added last.
            let best = shares[&giver]
                .iter()
                .enumerate()
                .filter_map(|(index, at)| {
                    let taker =
                        takers.get(&at.topic)?.iter().min_by_key(|id| shares[**id].len())?;
                    Some((shares[*taker].len(), index, (*taker).clone()))
                })
                .min_by_key(|(taker_size, index, _)| (*taker_size, std::cmp::Reverse(*index)))?;
            (best.0 + 1 < size).then_some((giver, best.1, best.2))
        });
        let Some((giver, index, taker)) = found else { return };
        let at = shares.get_mut(&giver).expect("every member has a share").remove(index);
        shares.get_mut(&taker).expect("every member has a share").push(at);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{carry, check, group};
    use super::*;
    use crate::config::AssignmentStrategy::Sticky;

    #[test]
    fn a_first_assignment_is_balanced() {
        check(Sticky, "a=3 b=2", &["m1: a,b", "m2: a,b"], &["m1: a-0 a-2 b-1", "m2: a-1 b-0"]);
    }

    #[test]
    fn a_newcomer_takes_only_its_part() {
        let mut before = group("a=6", &["m1: a", "m2: a"]);
        let first = assign(&before);
        carry(&mut before, &first, 1);
        let topics = before.members["m1"].topics.clone();
        before
            .members
            .insert("m3".to_owned(), super::super::Member { topics, ..Default::default() });
        let second = assign(&before);
        assert!(second.values().all(|share| share.len() == 2));
        for id in ["m1", "m2"] {
            assert!(second[id].iter().all(|at| first[id].contains(at)), "{id} only gives");
        }
        let cooperative = assign_cooperatively(&before);
        assert!(cooperative["m3"].is_empty(), "its part is still with the others");
        assert_eq!(cooperative["m1"], second["m1"]);
    }

    #[test]
    fn an_old_claim_loses_and_an_equal_one_is_nobodys() {
        let mut group = group("a=2", &["m1: a", "m2: a"]);
        let at = TopicPartition::new("a", 0);
        for (id, generation) in [("m1", 4), ("m2", 5)] {
            let member = group.members.get_mut(id).unwrap();
            member.owned = vec![at.clone()];
            member.generation = generation;
        }
        assert_eq!(kept(&group)["m2"], std::slice::from_ref(&at));
        assert!(kept(&group)["m1"].is_empty());
        group.members.get_mut("m1").unwrap().generation = 5;
        assert!(kept(&group).values().all(Vec::is_empty));
    }
}
