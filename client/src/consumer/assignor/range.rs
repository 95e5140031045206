//! Range: each topic's partitions in order, cut into neighbouring stretches, one for each member.

use super::{Group, Shares};
use crate::record::TopicPartition;
use std::sync::Arc;

pub(super) fn assign(group: &Group) -> Shares {
    let mut shares = group.no_shares();
    let members = group.members_in_order();
    for (topic, count) in &group.partition_counts {
        let takers: Vec<&String> = members
            .iter()
            .filter(|(_, member)| member.topics.contains(topic))
            .map(|(id, _)| *id)
            .collect();
        let Ok(taker_count) = i32::try_from(takers.len()) else { continue };
        if taker_count == 0 {
            continue;
        }
        let (each, extra) = (count / taker_count, count % taker_count);
        let mut next = 0;
        for (index, id) in (0..).zip(takers) {
            let end = next + each + i32::from(index < extra);
            let share = shares.get_mut(id).expect("every member has a share");
            share.extend((next..end).map(|p| TopicPartition::new(Arc::clone(topic), p)));
            next = end;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;
    use crate::config::AssignmentStrategy::Range;

    #[test]
    fn the_first_members_get_the_rest() {
        check(Range, "a=3 b=3", &["m1: a,b", "m2: a,b"], &["m1: a-0 a-1 b-0 b-1", "m2: a-2 b-2"]);
        check(Range, "a=2", &["m1: a", "m2: a", "m3: a"], &["m1: a-0", "m2: a-1", "m3:"]);
        check(Range, "a=2 b=2", &["m1: a", "m2: a,b"], &["m1: a-0", "m2: a-1 b-0 b-1"]);
    }
}
