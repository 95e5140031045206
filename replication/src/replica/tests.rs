//! Ways between the roles.

use super::*;
use crate::assignment::AckRule;

fn assignment(leader: Option<i32>, leader_epoch: i32, partition_epoch: i32) -> Assignment {
    Assignment {
        leader: leader.map(BrokerId),
        leader_epoch: LeaderEpoch(leader_epoch),
        partition_epoch,
        replicas: [(BrokerId(1), None), (BrokerId(2), None)].into(),
        isr: [BrokerId(1), BrokerId(2)].into(),
        rule: AckRule::default(),
    }
}

fn replica() -> Replica {
    let settings =
        ReplicaSettings { broker: BrokerId(1), durability: Durability::Disk, lag_ms_max: 100 };
    Replica::new(settings, Positions::recovered(Offset(0), Offset(3), Offset(8)))
}

/// Each step is an assignment and what it changes.
#[track_caller]
fn check(steps: &[(Option<i32>, i32, i32, RoleChange)]) {
    let mut replica = replica();
    for (leader, leader_epoch, partition_epoch, expected) in steps {
        let change = replica.on_assignment(assignment(*leader, *leader_epoch, *partition_epoch), 0);
        assert_eq!(change, *expected, "at {leader_epoch}/{partition_epoch}");
        assert_eq!(replica.positions().high_watermark, Offset(3));
        assert_eq!(replica.positions().log_end, Offset(8));
    }
}

#[test]
fn it_goes_where_the_metadata_says() {
    use RoleChange::*;
    check(&[
        (None, 0, 0, Kept),
        (Some(1), 1, 1, Leads),
        (Some(1), 1, 2, Kept),
        (Some(1), 1, 1, Stale),
        (Some(2), 2, 3, Follows),
        (Some(2), 2, 4, Kept),
        (Some(1), 1, 2, Stale),
        (Some(1), 3, 5, Leads),
        (Some(1), 4, 6, Leads),
        (None, 5, 7, WaitsForLeader),
        (Some(2), 6, 8, Follows),
    ]);
}

#[test]
fn a_leader_that_is_not_in_sync_is_none() {
    let mut replica = replica();
    let mut damaged = assignment(Some(1), 1, 1);
    damaged.isr = [BrokerId(2)].into();
    assert_eq!(replica.on_assignment(damaged.clone(), 0), RoleChange::WaitsForLeader);
    assert_eq!(replica.on_assignment(assignment(Some(1), 2, 2), 0), RoleChange::Leads);
    damaged.leader_epoch = LeaderEpoch(2);
    damaged.partition_epoch = 3;
    assert_eq!(replica.on_assignment(damaged, 0), RoleChange::WaitsForLeader);
}

#[test]
fn what_was_only_in_the_page_cache_is_not_durable_in_the_next_role() {
    let settings =
        ReplicaSettings { broker: BrokerId(1), durability: Durability::PageCache, lag_ms_max: 100 };
    let mut replica = Replica::new(settings, Positions::recovered(Offset(0), Offset(0), Offset(0)));
    replica.on_assignment(assignment(Some(1), 1, 1), 0);
    replica.leader_mut().unwrap().on_appended(Offset(5));
    assert_eq!(replica.positions().durable_end, Offset(5));
    replica.on_assignment(assignment(Some(2), 2, 2), 0);
    assert_eq!(replica.positions().durable_end, Offset(0));
}
