//! R7: one leader in a leader epoch; R3: it counts itself in sync.

use std::collections::BTreeMap;

use varve_broker::shard::RoleName;
use varve_broker::simulation::ReplicaView;
use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, TopicIdPartition};

use super::{Seen, Verdict, violated};

#[derive(Debug, Default)]
pub(super) struct Leaders {
    leaders: BTreeMap<(TopicIdPartition, LeaderEpoch), (BrokerId, u64)>,
}

impl Leaders {
    pub(super) fn check(
        &mut self,
        seen: &Seen,
        tip: TopicIdPartition,
        view: &ReplicaView,
    ) -> Verdict {
        if view.role.name != RoleName::Leader {
            return Ok(());
        }
        let epoch = view.role.leader_epoch;
        let own = (seen.id, seen.run);
        let known = *self.leaders.entry((tip, epoch)).or_insert(own);
        // A process that comes back must not go on in the epoch of the one before, either: what that
        // wrote and had not made durable is gone (KIP-320).
        if known != own {
            let what = format!("{tip}, epoch {epoch}: {known:?} and {own:?}");
            return violated("R7: one leader an epoch", what);
        }
        if !view.isr.as_ref().is_some_and(|isr| isr.members().contains(&seen.id)) {
            let what = format!("{tip}: {} leads with {:?}", seen.id, view.isr);
            return violated("R3: the leader is in sync", what);
        }
        Ok(())
    }
}
