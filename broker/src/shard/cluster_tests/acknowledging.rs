//! What is acknowledged, and what is not.

use super::*;

#[test]
fn a_record_is_acknowledged_when_all_in_sync_have_it_durable() {
    let mut world = World::new();
    world.produce(1, 7, Acks::All, "one");
    world.node(1).commit();
    world.catch_up(2);
    assert_eq!(world.told(1), "");
    world.fetch(3);
    world.tell(3);
    assert_eq!(world.told(1), "", "it is not durable on 3");
    world.node(3).commit();
    world.tell(3);
    assert_eq!(world.told(1), "hw=1 7:0");
    assert_eq!(world.told(3), "");
    world.fetch(3);
    assert_eq!(world.told(3), "hw=1");
    let leader = world.node(1).bytes(Offset(0));
    assert_eq!(world.node(3).bytes(Offset(0)), leader);
}

#[test]
fn nobody_appends_but_at_the_leader() {
    let mut world = World::new();
    world.produce(2, 7, Acks::Leader, "one");
    assert_eq!(world.told(2), "7:this broker is not the partition's leader");
    assert_eq!(world.node(2).core.role(&TIP).unwrap().name, RoleName::Follower);
}

#[test]
fn who_lags_leaves_and_comes_back() {
    let mut world = World::new();
    world.produce(1, 7, Acks::All, "one");
    world.node(1).commit();
    world.catch_up(2);
    world.tick(1_500);
    assert_eq!(world.grant(), "1,2");
    assert_eq!(world.told(1), "hw=1 7:0");
    world.catch_up(3);
    assert_eq!(world.grant(), "1,2,3");
}

#[test]
fn too_few_in_sync_are_told_before_and_after_the_append() {
    let mut world = World::new();
    world.min_in_sync = 2;
    world.assign(&[1, 2, 3]);
    world.produce(1, 7, Acks::All, "one");
    world.node(1).commit();
    world.assign(&[1]);
    assert_eq!(
        world.told(1),
        "7:the batch was appended, but replicas fell out of sync before enough of them had it"
    );
    world.produce(1, 8, Acks::All, "two");
    assert_eq!(
        world.told(1),
        "8:fewer replicas are in sync than min.insync.replicas demands, or in fewer racks"
    );
    world.produce(1, 9, Acks::Leader, "three");
    assert_eq!(world.told(1), "9:1");
    world.node(1).commit();
    // KIP-966: below the minimum nothing becomes committed.
    assert_eq!(world.told(1), "");
}

#[test]
fn racks_count_too() {
    let mut world = World::new();
    world.min_domains = 2;
    world.assign(&[1, 2]);
    world.produce(1, 7, Acks::All, "one");
    assert_eq!(
        world.told(1),
        "7:fewer replicas are in sync than min.insync.replicas demands, or in fewer racks"
    );
    world.assign(&[1, 3]);
    world.produce(1, 8, Acks::All, "one");
    world.node(1).commit();
    world.catch_up(3);
    assert_eq!(world.told(1), "hw=1 8:0");
}
