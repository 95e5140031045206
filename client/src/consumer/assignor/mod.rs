//! Sharing partitions out among the members of a group. Pure: the leader's view in, everybody's share out.

mod range;
mod round_robin;
mod sticky;

use crate::config::AssignmentStrategy;
use crate::record::TopicPartition;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One member as the leader sees it.
#[derive(Debug, Clone, Default)]
pub(super) struct Member {
    /// Those that it subscribes to.
    pub(super) topics: BTreeSet<Arc<str>>,
    pub(super) instance_id: Option<String>,
    /// What it has now, or had, as far as its strategy tells.
    pub(super) owned: Vec<TopicPartition>,
    /// In which generation it got that; -1 if unknown.
    pub(super) generation: i32,
}

/// What there is to share.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    /// By member id.
    pub(super) members: BTreeMap<String, Member>,
    /// Number of partitions of each topic that exists.
    pub(super) partition_counts: BTreeMap<Arc<str>, i32>,
}

/// Each member's partitions; every member is named.
pub(super) type Shares = BTreeMap<String, Vec<TopicPartition>>;

/// Shares a group's partitions out.
pub(super) fn assign(strategy: AssignmentStrategy, group: &Group) -> Shares {
    match strategy {
        AssignmentStrategy::Range => range::assign(group),
        AssignmentStrategy::RoundRobin => round_robin::assign(group),
        AssignmentStrategy::Sticky => sticky::assign(group),
        AssignmentStrategy::CooperativeSticky => sticky::assign_cooperatively(group),
    }
}

impl Group {
    /// An empty share for each member.
    fn no_shares(&self) -> Shares {
        self.members.keys().map(|id| (id.clone(), Vec::new())).collect()
    }

    /// Members in Kafka's order: static ones first, by instance id; then by member id.
    fn members_in_order(&self) -> Vec<(&String, &Member)> {
        let mut members: Vec<_> = self.members.iter().collect();
        members.sort_by_key(|(id, member)| {
            (member.instance_id.is_none(), member.instance_id.clone(), (*id).clone())
        });
        members
    }

    /// Every partition that somebody subscribes to, in order.
    fn partitions(&self) -> Vec<TopicPartition> {
        let subscribed: BTreeSet<&Arc<str>> =
            self.members.values().flat_map(|m| &m.topics).collect();
        self.partition_counts
            .iter()
            .filter(|(topic, _)| subscribed.contains(topic))
            .flat_map(|(topic, count)| {
                (0..*count).map(|p| TopicPartition::new(Arc::clone(topic), p))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `members` as `id: topic,topic` and `topics` as `name=count`; answers `id: a-0 a-1` by line.
    #[track_caller]
    pub(super) fn check(
        strategy: AssignmentStrategy,
        topics: &str,
        members: &[&str],
        expected: &[&str],
    ) {
        let shares = assign(strategy, &group(topics, members));
        let found: Vec<String> = shares
            .iter()
            .map(|(id, share)| {
                let share: Vec<String> = share.iter().map(ToString::to_string).collect();
                format!("{id}: {}", share.join(" ")).trim_end().to_owned()
            })
            .collect();
        assert_eq!(found, expected);
    }

    pub(super) fn group(topics: &str, members: &[&str]) -> Group {
        let partition_counts = topics
            .split_whitespace()
            .map(|topic| {
                let (name, count) = topic.split_once('=').unwrap();
                (Arc::from(name), count.parse().unwrap())
            })
            .collect();
        let members = members
            .iter()
            .map(|member| {
                let (id, topics) = member.split_once(": ").unwrap();
                let topics = topics.split(',').map(Arc::from).collect();
                (id.to_owned(), Member { topics, generation: -1, ..Member::default() })
            })
            .collect();
        Group { members, partition_counts }
    }

    /// Lets a group carry its shares into the next generation.
    pub(super) fn carry(group: &mut Group, shares: &Shares, generation: i32) {
        for (id, share) in shares {
            if let Some(member) = group.members.get_mut(id) {
                member.owned = share.clone();
                member.generation = generation;
            }
        }
    }

    fn a_group() -> impl Strategy<Value = Group> {
        let topics = prop::collection::vec(0i32..12, 1..5);
        let members = prop::collection::vec(prop::collection::vec(any::<bool>(), 5), 1..7);
        (topics, members).prop_map(|(counts, subscriptions)| {
            let names: Vec<Arc<str>> = ["a", "b", "c", "d", "e"].map(Arc::from).into();
            let members = subscriptions
                .iter()
                .enumerate()
                .map(|(index, bits)| {
                    let topics = names
                        .iter()
                        .zip(bits)
                        .filter(|(_, bit)| **bit)
                        .map(|(n, _)| n.clone())
                        .collect();
                    (format!("m{index}"), Member { topics, generation: -1, ..Member::default() })
                })
                .collect();
            Group { members, partition_counts: names.into_iter().zip(counts).collect() }
        })
    }

    fn check_complete(group: &Group, shares: &Shares) -> Result<(), TestCaseError> {
        let mut seen = BTreeSet::new();
        for (id, share) in shares {
            for at in share {
                prop_assert!(
                    group.members[id].topics.contains(&at.topic),
                    "{} is not subscribed",
                    id
                );
                prop_assert!(seen.insert(at.clone()), "{} is assigned twice", at);
            }
        }
        prop_assert_eq!(seen, group.partitions().into_iter().collect::<BTreeSet<_>>());
        prop_assert_eq!(shares.len(), group.members.len());
        Ok(())
    }

    /// No partition could move to a member with at least two fewer.
    fn check_balanced(group: &Group, shares: &Shares) -> Result<(), TestCaseError> {
        for (id, share) in shares {
            for at in share {
                for (other, member) in &group.members {
                    let fits = member.topics.contains(&at.topic);
                    prop_assert!(
                        !fits || shares[other].len() + 1 >= share.len(),
                        "{} of {} ({}) could go to {} ({})",
                        at,
                        id,
                        share.len(),
                        other,
                        shares[other].len()
                    );
                }
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn every_strategy_assigns_each_partition_once(group in a_group()) {
            for strategy in [AssignmentStrategy::Range, AssignmentStrategy::RoundRobin, AssignmentStrategy::Sticky] {
                check_complete(&group, &assign(strategy, &group))?;
            }
        }

        #[test]
        fn sticky_is_balanced_and_keeps_what_it_can(mut group in a_group(), leaver in 0usize..7) {
            let first = assign(AssignmentStrategy::Sticky, &group);
            check_balanced(&group, &first)?;
            carry(&mut group, &first, 1);
            let again = assign(AssignmentStrategy::Sticky, &group);
            prop_assert_eq!(&again, &first, "nothing changed, so nothing moves");
            // One member leaves: the others keep everything that they had if all subscribe to the same.
            let id = format!("m{leaver}");
            let uniform = group.members.values().all(|m| m.topics == group.members["m0"].topics);
            if group.members.remove(&id).is_some() && !group.members.is_empty() {
                let after = assign(AssignmentStrategy::Sticky, &group);
                check_complete(&group, &after)?;
                check_balanced(&group, &after)?;
                if uniform {
                    for (id, share) in &after {
                        let kept: BTreeSet<_> = share.iter().collect();
                        prop_assert!(first[id].iter().all(|at| kept.contains(at)), "{} lost something", id);
                    }
                }
            }
        }

        #[test]
        fn cooperation_never_gives_what_another_still_has(mut group in a_group(), joiner in any::<bool>()) {
            let mut shares = assign(AssignmentStrategy::CooperativeSticky, &group);
            carry(&mut group, &shares, 1);
            if joiner {
                let topics = group.members["m0"].topics.clone();
                group.members.insert("new".to_owned(), Member { topics, generation: -1, ..Member::default() });
            }
            // Whoever lets go joins again, until nobody has to. With equal subscriptions that takes two rounds, one
            // to let go and one to take; with others a few more.
            for generation in 2..12 {
                let next = assign(AssignmentStrategy::CooperativeSticky, &group);
                for (id, share) in &next {
                    for (other, member) in &group.members {
                        prop_assert!(id == other || share.iter().all(|at| !member.owned.contains(at)));
                    }
                }
                carry(&mut group, &next, generation);
                shares = next;
            }
            check_complete(&group, &shares)?;
            check_balanced(&group, &shares)?;
        }
    }
}
