//! B3: a generation is given out once: it has one leader and one set of members, and no partition is
//! assigned to two of them.

use std::collections::BTreeMap;

use varve_broker::groups::JoinAnswer;

use super::{Verdict, violated};

#[derive(Debug, Default)]
struct Generation {
    leader: String,
    members: Vec<String>,
    /// By partition: to whom it is assigned.
    owners: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
pub(super) struct Generations {
    known: BTreeMap<(String, i32), Generation>,
}

impl Generations {
    /// A member is told its generation.
    pub(super) fn on_joined(&mut self, group: &str, answer: &JoinAnswer) -> Verdict {
        let known = self.known.entry((group.to_owned(), answer.generation)).or_default();
        if known.leader.is_empty() {
            known.leader.clone_from(&answer.leader);
        }
        let mut members: Vec<_> =
            answer.members.iter().map(|member| member.member_id.clone()).collect();
        members.sort_unstable();
        if known.members.is_empty() {
            known.members.clone_from(&members);
        }
        if known.leader != answer.leader || (!members.is_empty() && known.members != members) {
            let what = format!("{group}: {known:?}, then {answer:?}");
            return violated("B3: a generation is given out once", what);
        }
        Ok(())
    }

    /// A member is told its assignment.
    pub(super) fn on_assigned(
        &mut self,
        (group, generation): (&str, i32),
        member: &str,
        assignment: &str,
    ) -> Verdict {
        let known = self.known.entry((group.to_owned(), generation)).or_default();
        for partition in assignment.split(',').filter(|partition| !partition.is_empty()) {
            let owner = known.owners.entry(partition.to_owned()).or_insert(member.to_owned());
            if owner != member {
                let what =
                    format!("{group}, {generation}: {partition} is {owner}'s and {member}'s");
                return violated("B3: a partition has one owner", what);
            }
        }
        Ok(())
    }
}
