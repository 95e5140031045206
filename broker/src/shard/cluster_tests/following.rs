//! Followers that become copies.

use super::*;

/// A power cut takes what a follower had not synced; it is not counted, and fetched again.
#[test]
fn a_follower_that_lost_its_tail_fetches_it_again() {
    let mut world = World::new();
    world.produce(1, 7, Acks::All, "one");
    world.node(1).commit();
    world.catch_up(2);
    world.catch_up(3);
    world.produce(1, 8, Acks::All, "two");
    world.node(1).commit();
    world.fetch(3);
    assert_eq!(world.node(3).log().len(), 2);
    let disk = world.node(3).disk.after_power_cut(1);
    world.nodes.insert(3, Node::new(3, disk));
    assert!(!world.node(3).log().is_empty());
    world.assign(&[1, 2, 3]);
    world.catch_up(3);
    assert_eq!(world.node(3).log(), [(0, 1), (1, 1)]);
    world.told(1);
    world.catch_up(2);
    assert_eq!(world.told(1), "hw=2 8:1");
}

#[test]
fn damaged_batches_are_refused() {
    let mut world = World::new();
    world.produce(1, 7, Acks::Leader, "one");
    let mut records = BytesMut::from(&world.node(1).bytes(Offset(0))[..]);
    let last = records.len() - 1;
    records[last] ^= 1;
    let fetched = Fetched::Records {
        records: records.freeze(),
        high_watermark: Offset(0),
        log_start: Offset(0),
    };
    let leader_epoch = LeaderEpoch(1);
    let append = ReplicaAppend { partition: TIP, leader_epoch, fetch_offset: Offset(0), fetched };
    world.node(2).command(Command::ReplicaAppend { appends: vec![append], answer: 99 }, 0);
    assert!(world.told(2).starts_with("the leader's answer is damaged"));
    assert!(world.node(2).log().is_empty());
    world.catch_up(2);
    assert_eq!(world.node(2).log(), [(0, 1)]);
}

#[test]
fn many_roles_come_in_one_command() {
    let mut node = Node::new(1, SimDisk::new(9));
    let tip = |index| TopicIdPartition { topic_id: TopicId(8), partition: PartitionIndex(index) };
    let config = Arc::new(LogConfig::default());
    let count = 300;
    let logs = (0..count).map(|index| NewLog { partition: tip(index), config: config.clone() });
    node.command(Command::Create { logs: logs.collect(), answer: NOBODY }, 0);
    let role = |index| PartitionRole::alone(tip(index), BrokerId(1), LeaderEpoch(0));
    let roles = (0..count).map(role).collect();
    node.command(Command::SetRoles { roles, answer: NOBODY }, 0);
    let is_led = |index| node.core.role(&tip(index)).unwrap().name == RoleName::Leader;
    assert!((0..count).all(is_led));
}

/// A replica is made for a partition to which nothing is written. It says how far it is before its leader
/// has heard of it, which refuses that; nothing else makes it speak, and so it says it again while it is
/// not in sync.
#[test]
fn a_replica_of_an_idle_partition_is_heard_though_it_spoke_too_early() {
    let mut world = World::new();
    world.elect(1, &[1, 2]);
    world.produce(1, 7, Acks::All, "one");
    world.node(1).commit();
    world.catch_up(2);
    world.fetch(3);
    world.node(3).commit();
    world.fetch(3);
    world.node(3).progress.clear();
    assert_eq!(world.grant(), "", "what it said is lost");
    world.tick(1_000);
    assert!(world.node(2).progress.is_empty(), "who is in sync need not");
    world.tell(3);
    assert_eq!(world.grant(), "1,2,3");
}
