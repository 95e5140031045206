//! Leaders that change.

use super::*;

#[test]
fn a_deposed_leader_answers_who_waits_and_takes_back_what_nobody_has() {
    let mut world = World::new();
    world.produce(1, 7, Acks::All, "one");
    world.node(1).commit();
    world.catch_up(2);
    world.catch_up(3);
    world.told(1);
    // Two more that only the leader has, one of them durable.
    world.produce(1, 8, Acks::All, "two");
    world.node(1).commit();
    world.produce(1, 9, Acks::All, "three");
    world.elect(2, &[2, 3]);
    let not_leader = "this broker is not the partition's leader";
    assert_eq!(world.told(1), format!("8:{not_leader} 9:{not_leader}"));
    world.produce(2, 10, Acks::All, "four");
    world.node(2).commit();
    world.catch_up(1);
    assert_eq!(world.node(1).log(), [(0, 1), (1, 2)]);
    assert_eq!(world.told(1), "", "nothing is committed that 3 does not have");
    world.catch_up(3);
    assert_eq!(world.told(2), "hw=1 hw=2 10:1");
    world.fetch(1);
    assert_eq!(world.told(1), "hw=2");
    let leader = world.node(2).bytes(Offset(0));
    assert_eq!(world.node(1).bytes(Offset(0)), leader);
    assert_eq!(world.node(3).bytes(Offset(0)), leader);
}

/// KIP-207: what the old leader committed is not known to the new one before its followers say so.
#[test]
fn a_new_leaders_high_watermark_is_not_current_until_its_epoch_began() {
    let mut world = World::new();
    world.produce(1, 7, Acks::All, "one");
    world.node(1).commit();
    world.catch_up(2);
    world.catch_up(3);
    assert_eq!(world.told(1), "hw=1 7:0");
    world.elect(2, &[2, 3]);
    let view = world.node(2).core.role(&TIP).unwrap();
    let high_watermark = world.node(2).core.high_watermark(&TIP).unwrap();
    assert_eq!((view.epoch_start, high_watermark), (Offset(1), Offset(0)));
    world.catch_up(3);
    assert_eq!(world.told(2), "hw=1");
}

/// Kafka's KIP-101 case: a follower restarts with an old high watermark, becomes the leader, and
/// keeps what was acknowledged.
#[test]
fn a_restarted_follower_leads_with_all_that_was_acknowledged() {
    let mut world = World::new();
    for answer in 1..=3 {
        world.produce(1, answer, Acks::All, "record");
        world.node(1).commit();
        world.catch_up(2);
        world.catch_up(3);
    }
    assert!(world.told(1).ends_with("3:2"));
    let disk = world.node(2).disk.after_power_cut(3);
    world.nodes.insert(2, Node::new(2, disk));
    world.elect(2, &[2, 3]);
    assert_eq!(world.node(2).log().len(), 3);
    world.catch_up(3);
    world.catch_up(1);
    assert!(world.told(2).ends_with("hw=3"));
    assert_eq!(world.node(1).log(), [(0, 1), (1, 1), (2, 1)]);
}

#[test]
fn answers_of_another_epoch_or_position_change_nothing() {
    let mut world = World::new();
    world.produce(1, 7, Acks::Leader, "one");
    let stale = ReplicaAppend {
        partition: TIP,
        leader_epoch: LeaderEpoch(0),
        fetch_offset: Offset(0),
        fetched: Fetched::Records {
            records: world.node(1).bytes(Offset(0)),
            high_watermark: Offset(1),
            log_start: Offset(0),
        },
    };
    let late =
        ReplicaAppend { leader_epoch: LeaderEpoch(1), fetch_offset: Offset(5), ..stale.clone() };
    world.node(2).command(Command::ReplicaAppend { appends: vec![stale], answer: 99 }, 0);
    assert_eq!(world.told(2), "the partition is not followed here in that epoch");
    world.node(2).command(Command::ReplicaAppend { appends: vec![late], answer: 99 }, 0);
    assert_eq!(world.told(2), "");
    assert!(world.node(2).log().is_empty());
}
