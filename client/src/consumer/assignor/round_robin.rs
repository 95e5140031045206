//! Round robin: all partitions in order, dealt to the members in turn; who does not subscribe is passed over.

use super::{Group, Shares};

pub(super) fn assign(group: &Group) -> Shares {
    let mut shares = group.no_shares();
    let members = group.members_in_order();
    let mut turn = 0;
    for at in group.partitions() {
        let taker = (0..members.len())
            .map(|step| (turn + step) % members.len())
            .find(|index| members[*index].1.topics.contains(&at.topic));
        let Some(taker) = taker else { continue };
        shares.get_mut(members[taker].0).expect("every member has a share").push(at);
        turn = taker + 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;
    use crate::config::AssignmentStrategy::RoundRobin;

    #[test]
    fn partitions_are_dealt_in_turn() {
        check(
            RoundRobin,
            "a=3 b=3",
            &["m1: a,b", "m2: a,b"],
            &["m1: a-0 a-2 b-1", "m2: a-1 b-0 b-2"],
        );
        // Kafka's own example of uneven subscriptions.
        check(
            RoundRobin,
            "t0=1 t1=2 t2=3",
            &["c0: t0", "c1: t0,t1", "c2: t0,t1,t2"],
            &["c0: t0-0", "c1: t1-0", "c2: t1-1 t2-0 t2-1 t2-2"],
        );
    }
}
