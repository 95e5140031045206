//! What the controller decides of brokers and in-sync sets: tables and short stories.

use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::{
    BrokerId, LeaderEpoch, PartitionIndex, TopicId, TopicIdPartition,
};

use super::{apply, image_with, registration};
use crate::metadata::liveness::Liveness;
use crate::metadata::plan::{
    leads_nothing_movable, plan_alter_partition, plan_config_effects, plan_create_topic,
    plan_election, plan_fence, plan_maintenance, plan_preferred_leaders, plan_reassignment,
    plan_register_member, plan_remove_broker, plan_shutdown, plan_unfence, unbalanced,
};
use crate::metadata::record::{
    ConfigRecord, ConfigTarget, MetadataRecord, PartitionRecord, TopicRecord,
};
use crate::metadata::{
    Election, ElectionRefused, Heartbeat, IsrChange, MetadataChange, MetadataImage, NewTopic,
    PartitionImage, Reassignment, ReassignmentRefused, RemovalRefused,
};
use crate::metadata::{MetadataLimits, PlanSettings};
use crate::topic_config::StaticConfig;

const TOPIC: TopicId = TopicId(1);

fn fixed() -> StaticConfig {
    StaticConfig::default()
}

fn ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

fn name(partition: i32) -> TopicIdPartition {
    TopicIdPartition { topic_id: TOPIC, partition: PartitionIndex(partition) }
}

/// Three brokers in three racks, one topic with these replicas.
fn world(partitions: &[&[i32]], configs: &[(&str, &str)]) -> MetadataImage {
    let mut image = image_with(3, &[]);
    let name = "t".to_owned();
    let mut records =
        vec![MetadataRecord::Topic(TopicRecord { id: TOPIC, name, is_internal: false })];
    records.extend((0..).zip(partitions).map(|(partition, replicas)| {
        MetadataRecord::Partition(PartitionRecord {
            topic_id: TOPIC,
            partition: PartitionIndex(partition),
            replicas: ids(replicas),
            directories: vec![0; replicas.len()],
            isr: ids(replicas),
            leader: Some(BrokerId(replicas[0])),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            elr: Vec::new(),
            adding: Vec::new(),
            removing: Vec::new(),
        })
    }));
    records.extend(configs.iter().map(|(name, value)| {
        MetadataRecord::Config(ConfigRecord {
            target: ConfigTarget::Topic(TOPIC),
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
        })
    }));
    apply(&mut image, &records);
    image
}

fn epoch(image: &MetadataImage, id: i32) -> i64 {
    image.broker(BrokerId(id)).unwrap().epoch
}

fn fence(image: &mut MetadataImage, id: i32) -> usize {
    let records = plan_fence(image, &fixed(), BrokerId(id), epoch(image, id));
    apply(image, &records);
    records.len()
}

fn unfence(image: &mut MetadataImage, id: i32) {
    let records = plan_unfence(image, &fixed(), BrokerId(id), epoch(image, id));
    apply(image, &records);
}

/// `leader@epoch isr/elr`, as in `1@0 1,2,3/`.
fn shown(partition: &PartitionImage) -> String {
    let list =
        |ids: &[BrokerId]| ids.iter().map(|id| id.0.to_string()).collect::<Vec<_>>().join(",");
    let leader = partition.leader.map_or("-".to_owned(), |leader| leader.0.to_string());
    let epoch = partition.leader_epoch.0;
    format!("{leader}@{epoch} {}/{}", list(&partition.isr), list(&partition.elr))
}

#[track_caller]
fn check(image: &MetadataImage, partition: i32, expected: &str) {
    assert_eq!(shown(image.partition(&name(partition)).unwrap()), expected);
}

fn isr_change(image: &MetadataImage, partition: i32, isr: &[i32]) -> IsrChange {
    let known = image.partition(&name(partition)).unwrap();
    IsrChange {
        partition: name(partition),
        leader_epoch: known.leader_epoch,
        partition_epoch: known.partition_epoch,
        isr: isr.iter().map(|id| (BrokerId(*id), Some(epoch(image, *id)))).collect(),
    }
}

fn alter(image: &mut MetadataImage, partition: i32, isr: &[i32]) -> Result<(), ErrorCode> {
    let leader = image.partition(&name(partition)).unwrap().leader.unwrap();
    let wish = isr_change(image, partition, isr);
    let (records, altered) = plan_alter_partition(image, &fixed(), leader, &wish)?;
    apply(image, &records);
    let known = image.partition(&name(partition)).unwrap();
    assert_eq!((altered.leader, altered.leader_epoch), (known.leader, known.leader_epoch));
    assert_eq!((&altered.isr, altered.partition_epoch), (&known.isr, known.partition_epoch));
    Ok(())
}

/// A new run of a broker's process.
fn restart(image: &mut MetadataImage, id: i32) {
    let rack = format!("r{id}");
    let mut again = registration(id, Some(&rack));
    again.incarnation += 100;
    let records = plan_register_member(image, &fixed(), &again);
    apply(image, &records);
}

#[test]
fn all_partitions_of_a_dead_broker_move_in_one_commit() {
    let mut image = world(&[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2], &[2], &[1]], &[]);
    // The broker, four partitions; the one that it has nothing to do with stays as it is.
    assert_eq!(fence(&mut image, 1), 5);
    check(&image, 0, "2@1 2,3/");
    check(&image, 1, "2@0 2,3/");
    check(&image, 2, "3@0 3,2/");
    check(&image, 3, "2@0 2/");
    check(&image, 4, "-@1 1/");
    assert_eq!(fence(&mut image, 1), 0);
    unfence(&mut image, 1);
    check(&image, 0, "2@1 2,3/");
    check(&image, 4, "1@2 1/");
}

#[test]
fn the_last_in_sync_replica_dies_and_comes_back() {
    let mut image = world(&[&[1, 2, 3]], &[]);
    fence(&mut image, 2);
    fence(&mut image, 1);
    check(&image, 0, "3@1 3/");
    fence(&mut image, 3);
    check(&image, 0, "-@2 3/");
    // Who fell out before lacks what the last one acknowledged by itself.
    unfence(&mut image, 1);
    check(&image, 0, "-@2 3/");
    unfence(&mut image, 3);
    check(&image, 0, "3@3 3/");
    alter(&mut image, 0, &[1, 3]).unwrap();
    check(&image, 0, "3@3 1,3/");
}

#[test]
fn who_leaves_a_set_that_cannot_commit_without_it_may_lead() {
    let mut image = world(&[&[1, 2, 3]], &[("min.insync.replicas", "2")]);
    fence(&mut image, 3);
    check(&image, 0, "1@0 1,2/");
    fence(&mut image, 2);
    check(&image, 0, "1@0 1/2");
    fence(&mut image, 1);
    check(&image, 0, "-@1 1/2");
    unfence(&mut image, 3);
    check(&image, 0, "-@1 1/2");
    // Nothing was committed without broker 2; broker 1 holds all of that too.
    unfence(&mut image, 2);
    check(&image, 0, "2@2 2/1");
    unfence(&mut image, 1);
    check(&image, 0, "2@2 2/1");
    alter(&mut image, 0, &[2, 3]).unwrap();
    check(&image, 0, "2@2 2,3/");
}

#[test]
fn a_lower_min_insync_replicas_ends_eligibility() {
    let mut image = world(&[&[1, 2]], &[("min.insync.replicas", "2")]);
    fence(&mut image, 2);
    check(&image, 0, "1@0 1/2");
    let lower = ConfigRecord {
        target: ConfigTarget::Topic(TOPIC),
        name: "min.insync.replicas".to_owned(),
        value: Some("1".to_owned()),
    };
    let lower = [MetadataRecord::Config(lower)];
    apply(&mut image, &lower);
    let records = plan_config_effects(&image, &fixed(), &lower);
    apply(&mut image, &records);
    check(&image, 0, "1@0 1/");
}

#[test]
fn a_topic_may_prefer_a_leader_that_lost_records() {
    let mut image = world(&[&[1, 2]], &[("unclean.leader.election.enable", "true")]);
    fence(&mut image, 2);
    fence(&mut image, 1);
    unfence(&mut image, 2);
    check(&image, 0, "2@2 2/");
}

#[test]
fn a_restarted_broker_has_to_catch_up_where_others_are_in_sync() {
    let mut image = world(&[&[1, 2, 3], &[2, 1], &[1]], &[]);
    restart(&mut image, 1);
    check(&image, 0, "2@1 2,3/");
    check(&image, 1, "2@0 2/");
    check(&image, 2, "-@1 1/");
    unfence(&mut image, 1);
    check(&image, 0, "2@1 2,3/");
    check(&image, 2, "1@2 1/");
    // The run of before is not admitted any more.
    let mut wish = isr_change(&image, 0, &[1, 2, 3]);
    wish.isr[0].1 = Some(1);
    let refused = plan_alter_partition(&image, &fixed(), BrokerId(2), &wish);
    assert_eq!(refused, Err(ErrorCode::IneligibleReplica));
    alter(&mut image, 0, &[1, 2, 3]).unwrap();
    check(&image, 0, "2@1 1,2,3/");
}

#[test]
fn a_restarted_broker_keeps_what_it_made_durable_and_not_what_was_cached() {
    for (caching, expected) in [("false", "1@0 1/2"), ("true", "1@0 1/")] {
        let configs = [("min.insync.replicas", "2"), ("write.caching", caching)];
        let mut image = world(&[&[1, 2]], &configs);
        restart(&mut image, 2);
        check(&image, 0, expected);
    }
}

#[test]
fn only_the_leader_of_the_partition_as_it_is_changes_its_set() {
    let image = world(&[&[1, 2, 3]], &[]);
    let check = |change: &dyn Fn(&mut IsrChange), leader, expected| {
        let mut wish = isr_change(&image, 0, &[1, 2]);
        change(&mut wish);
        let planned = plan_alter_partition(&image, &fixed(), BrokerId(leader), &wish);
        assert_eq!(planned.map(|(records, _)| records.len()), expected);
    };
    check(&|_| {}, 1, Ok(1));
    check(&|wish| wish.partition.topic_id = TopicId(9), 1, Err(ErrorCode::UnknownTopicId));
    check(
        &|wish| wish.partition.partition = PartitionIndex(9),
        1,
        Err(ErrorCode::UnknownTopicOrPartition),
    );
    check(&|_| {}, 2, Err(ErrorCode::FencedLeaderEpoch));
    check(&|wish| wish.leader_epoch = LeaderEpoch(1), 1, Err(ErrorCode::NotController));
    check(&|wish| wish.leader_epoch = LeaderEpoch(-1), 1, Err(ErrorCode::FencedLeaderEpoch));
    check(&|wish| wish.partition_epoch = -1, 1, Err(ErrorCode::InvalidUpdateVersion));
    check(&|wish| wish.partition_epoch = 1, 1, Err(ErrorCode::NotController));
    check(&|wish| wish.isr.clear(), 1, Err(ErrorCode::InvalidRequest));
    check(&|wish| wish.isr = vec![wish.isr[1]], 1, Err(ErrorCode::InvalidRequest));
    check(&|wish| wish.isr.push((BrokerId(4), None)), 1, Err(ErrorCode::InvalidRequest));
    check(&|wish| wish.isr.push(wish.isr[1]), 1, Err(ErrorCode::InvalidRequest));
    check(&|wish| wish.isr[1].1 = Some(0), 1, Err(ErrorCode::IneligibleReplica));
    // A member that has not said its epoch yet may stay.
    check(&|wish| wish.isr[1].1 = None, 1, Ok(1));
}

/// Its log is damaged, and what it lacks soon is no part of what makes a replica in sync or eligible.
#[test]
fn a_replica_takes_itself_out_of_sync() {
    let mut image = world(&[&[1, 2, 3]], &[("min.insync.replicas", "2")]);
    let mut withdraw = |broker: i32, expected: &str| {
        let known = image.partition(&name(0)).unwrap().clone();
        let rest: Vec<i32> = known.isr.iter().map(|id| id.0).filter(|id| *id != broker).collect();
        let wish = isr_change(&image, 0, &rest);
        let planned = plan_alter_partition(&image, &fixed(), BrokerId(broker), &wish);
        let result = planned.map(|(records, altered)| {
            apply(&mut image, &records);
            let known = image.partition(&name(0)).unwrap();
            assert_eq!((altered.leader, altered.leader_epoch), (known.leader, known.leader_epoch));
            assert_eq!(altered.partition_epoch, known.partition_epoch);
        });
        check(&image, 0, expected);
        result
    };
    // Another one leads.
    assert_eq!(withdraw(1, "2@1 2,3/"), Ok(()));
    // The same one leads, in a new epoch.
    assert_eq!(withdraw(3, "2@2 2/"), Ok(()));
    // It was out of sync already, and begins anew.
    assert_eq!(withdraw(1, "2@3 2/"), Ok(()));
    assert_eq!(withdraw(2, "2@3 2/"), Err(ErrorCode::IneligibleReplica), "the last copy stays");
    assert_eq!(withdraw(4, "2@3 2/"), Err(ErrorCode::FencedLeaderEpoch));
}

#[test]
fn the_dead_and_the_ending_are_not_admitted() {
    let mut image = world(&[&[1, 2, 3]], &[]);
    fence(&mut image, 2);
    assert_eq!(alter(&mut image, 0, &[1, 2, 3]), Err(ErrorCode::IneligibleReplica));
    unfence(&mut image, 2);
    let ending = plan_shutdown(&image, &fixed(), BrokerId(2), epoch(&image, 2));
    apply(&mut image, &ending);
    assert_eq!(alter(&mut image, 0, &[1, 2, 3]), Err(ErrorCode::IneligibleReplica));
}

#[test]
fn an_orderly_end_moves_what_others_can_lead() {
    let mut image = world(&[&[1, 2, 3], &[1], &[2, 1]], &[]);
    let records = plan_shutdown(&image, &fixed(), BrokerId(1), epoch(&image, 1));
    assert!(!leads_nothing_movable(&image, BrokerId(1)));
    apply(&mut image, &records);
    check(&image, 0, "2@1 2,3/");
    check(&image, 1, "1@0 1/");
    check(&image, 2, "2@0 2/");
    assert!(leads_nothing_movable(&image, BrokerId(1)));
    // All end at once: the last one stays in sync, and leads again.
    for id in [2, 3] {
        let records = plan_shutdown(&image, &fixed(), BrokerId(id), epoch(&image, id));
        apply(&mut image, &records);
    }
    check(&image, 0, "3@2 3/");
}

#[test]
fn maintenance_moves_leaders_and_keeps_the_set() {
    let mut image = world(&[&[1, 2, 3], &[1]], &[]);
    let records = plan_maintenance(&image, &fixed(), BrokerId(1), true);
    apply(&mut image, &records);
    check(&image, 0, "2@1 1,2,3/");
    check(&image, 1, "1@0 1/");
    // It outlives the process.
    restart(&mut image, 1);
    unfence(&mut image, 1);
    assert!(image.broker(BrokerId(1)).unwrap().is_draining);
    check(&image, 1, "1@2 1/");
    assert_eq!(unbalanced(&image, 10), []);
    alter(&mut image, 0, &[1, 2, 3]).unwrap();
    let records = plan_maintenance(&image, &fixed(), BrokerId(1), false);
    apply(&mut image, &records);
    assert_eq!(unbalanced(&image, 10), [name(0)]);
}

#[test]
fn elections_by_order() {
    let mut image = world(&[&[1, 2], &[1, 3]], &[]);
    let elect = |image: &mut MetadataImage, election, partition| {
        let planned = plan_election(image, &fixed(), election, name(partition));
        planned.map(|records| apply(image, &records)).map(|_| ())
    };
    let not_needed = Err(ElectionRefused::NotNeeded);
    assert_eq!(elect(&mut image, Election::Preferred, 0), not_needed);
    assert_eq!(elect(&mut image, Election::Unclean, 0), not_needed);
    assert!(elect(&mut image, Election::Preferred, 7).is_err());
    fence(&mut image, 1);
    let unavailable = Err(ElectionRefused::PreferredNotAvailable(BrokerId(1)));
    assert_eq!(elect(&mut image, Election::Preferred, 0), unavailable);
    unfence(&mut image, 1);
    assert_eq!(elect(&mut image, Election::Preferred, 0), unavailable);
    alter(&mut image, 0, &[1, 2]).unwrap();
    assert_eq!(elect(&mut image, Election::Preferred, 0), Ok(()));
    check(&image, 0, "1@2 1,2/");
    // Broker 3 has the second partition alone, and dies: nobody clean is left.
    fence(&mut image, 3);
    check(&image, 1, "-@2 3/");
    assert_eq!(elect(&mut image, Election::Unclean, 1), Ok(()));
    check(&image, 1, "1@3 1/");
    fence(&mut image, 1);
    assert_eq!(elect(&mut image, Election::Unclean, 1), Err(ElectionRefused::NobodyAlive));
}

fn reassign(
    image: &mut MetadataImage,
    replicas: Option<&[i32]>,
) -> Result<(), ReassignmentRefused> {
    let replicas = replicas.map(<[i32]>::to_vec);
    let topic = "t".to_owned();
    let wish = Reassignment { topic, partition: 0, replicas, may_change_factor: true };
    let records = plan_reassignment(image, &fixed(), &wish)?;
    apply(image, &records);
    Ok(())
}

#[test]
fn replicas_move_when_the_new_ones_are_in_sync() {
    let mut image = world(&[&[1, 2]], &[]);
    reassign(&mut image, Some(&[3, 2])).unwrap();
    let moving = image.partition(&name(0)).unwrap();
    assert_eq!(moving.replicas, ids(&[3, 2, 1]));
    assert_eq!((moving.adding.clone(), moving.removing.clone()), (ids(&[3]), ids(&[1])));
    assert_eq!(moving.directories.len(), 3);
    check(&image, 0, "1@0 1,2/");
    alter(&mut image, 0, &[1, 2, 3]).unwrap();
    let moved = image.partition(&name(0)).unwrap();
    assert_eq!(moved.replicas, ids(&[3, 2]));
    assert!(!moved.is_reassigning());
    check(&image, 0, "3@1 3,2/");
}

/// A replica is taken off a partition and put on it again before its broker has heard of either. Within
/// one leader epoch it could tell its leader of the log that it still has, be taken into the in-sync
/// set for that, delete the log when it hears that it is off, begin an empty one when it hears that it is
/// on again, and be elected with it. Whoever is taken off ends the leader's epoch, as with Kafka.
#[test]
fn a_replica_that_is_taken_off_ends_the_leaders_epoch() {
    let mut image = world(&[&[1, 2, 3]], &[]);
    reassign(&mut image, Some(&[1, 2])).unwrap();
    check(&image, 0, "1@1 1,2/");
    reassign(&mut image, Some(&[1, 2, 3])).unwrap();
    check(&image, 0, "1@1 1,2/");
}

#[test]
fn a_move_is_cancelled_or_changed_while_it_is_under_way() {
    let mut image = world(&[&[1, 2]], &[]);
    assert_eq!(reassign(&mut image, None), Err(ReassignmentRefused::NotInProgress));
    reassign(&mut image, Some(&[3])).unwrap();
    reassign(&mut image, None).unwrap();
    assert_eq!(image.partition(&name(0)).unwrap().replicas, ids(&[1, 2]));
    check(&image, 0, "1@1 1,2/");
    reassign(&mut image, Some(&[3])).unwrap();
    // Back to where it was, in another order: done at once.
    reassign(&mut image, Some(&[2, 1])).unwrap();
    let back = image.partition(&name(0)).unwrap();
    assert_eq!((back.replicas.clone(), back.is_reassigning()), (ids(&[2, 1]), false));
    // Fewer replicas need nobody to catch up.
    reassign(&mut image, Some(&[2])).unwrap();
    check(&image, 0, "2@3 2/");
    let refused = [
        (vec![], ReassignmentRefused::Empty),
        (vec![1, 1], ReassignmentRefused::BrokerTwice(1)),
        (vec![7], ReassignmentRefused::UnknownBroker(7)),
    ];
    for (replicas, expected) in refused {
        assert_eq!(reassign(&mut image, Some(&replicas)), Err(expected));
    }
}

#[test]
fn a_broker_that_holds_nothing_and_is_dead_can_be_taken_out() {
    let mut image = world(&[&[1, 2]], &[]);
    let remove =
        |image: &MetadataImage, id| plan_remove_broker(image, &[BrokerId(9)], BrokerId(id));
    assert_eq!(remove(&image, 9), Err(RemovalRefused::Unknown(BrokerId(9))));
    assert_eq!(remove(&image, 3), Err(RemovalRefused::Alive(BrokerId(3))));
    fence(&mut image, 3);
    fence(&mut image, 2);
    let holds = RemovalRefused::HoldsReplicas { broker: BrokerId(2), replicas: 1 };
    assert_eq!(remove(&image, 2), Err(holds));
    let records = remove(&image, 3).unwrap();
    apply(&mut image, &records);
    assert!(image.broker(BrokerId(3)).is_none());
}

#[test]
fn new_partitions_avoid_the_dead() {
    let mut image = image_with(3, &[]);
    fence(&mut image, 2);
    let wish = |factor| NewTopic {
        partition_count: Some(6),
        replication_factor: Some(factor),
        ..NewTopic::named("t")
    };
    let create = |image: &mut MetadataImage, factor| {
        let planned = plan_create_topic(image, &PlanSettings::default(), &wish(factor), TOPIC);
        let mut image = image.clone();
        apply(&mut image, &planned.unwrap().records);
        image.topic("t").unwrap().partitions.clone()
    };
    let is_on_dead = |partition: &PartitionImage| partition.replicas.contains(&BrokerId(2));
    assert!(!create(&mut image, 2).iter().any(is_on_dead));
    for partition in create(&mut image, 3) {
        assert_eq!((partition.replicas.len(), partition.isr.len()), (3, 2));
        assert!(partition.leader.is_some_and(|leader| leader != BrokerId(2)));
    }
}

/// The controller's memory of the world above, whose clock stands at 0.
fn elected(image: &MetadataImage) -> Liveness {
    let mut liveness = Liveness::default();
    liveness.on_elected(0, image);
    liveness
}

fn fences(changes: &[MetadataChange]) -> Vec<(i32, &'static str)> {
    let fence = |change: &MetadataChange| match change {
        MetadataChange::FenceBroker { id, why, .. } => Some((id.0, *why)),
        _ => None,
    };
    changes.iter().filter_map(fence).collect()
}

fn heard(liveness: &mut Liveness, image: &MetadataImage, id: i32, now_ms: i64) {
    let (broker, epoch) = (BrokerId(id), epoch(image, id));
    let heartbeat = Heartbeat { broker, epoch, applied: 1, wants_shutdown: false };
    let (answer, change) = liveness.on_heartbeat(heartbeat, 1, now_ms, image);
    assert_eq!((answer.code, change), (ErrorCode::None, None));
}

#[test]
fn the_silent_are_fenced_after_a_deadline_and_the_gone_at_once() {
    let image = world(&[&[1, 2, 3]], &[]);
    let mut liveness = elected(&image);
    for now_ms in (0..1_000).step_by(50) {
        assert_eq!(liveness.on_tick(now_ms, &image), []);
        heard(&mut liveness, &image, 1, now_ms);
        heard(&mut liveness, &image, 2, now_ms);
    }
    assert_eq!(fences(&liveness.on_tick(1_000, &image)), []);
    assert_eq!(fences(&liveness.on_tick(1_050, &image)), [(3, "it is silent")]);
    let id = BrokerId(2);
    let epoch = image.broker(id).unwrap().epoch;
    // An earlier process of that broker: another one lives.
    assert_eq!(liveness.on_peer_lost((id, epoch - 1), 1_050, &image), None);
    let change = liveness.on_peer_lost((id, epoch), 1_050, &image).unwrap();
    assert_eq!(fences(&[change]), [(2, "its process died")]);
}

/// A controller that did not run itself hears nobody meanwhile, and what was said to it waits in its
/// sockets: nobody is judged by that.
#[test]
fn a_controller_that_was_stopped_itself_judges_nobody_by_that() {
    let image = world(&[&[1, 2, 3]], &[]);
    let mut liveness = elected(&image);
    assert_eq!(fences(&liveness.on_tick(50, &image)), []);
    assert_eq!(fences(&liveness.on_tick(60_000, &image)), []);
    for now_ms in (60_050..=60_950).step_by(50) {
        heard(&mut liveness, &image, 1, now_ms);
        heard(&mut liveness, &image, 3, now_ms);
        assert_eq!(fences(&liveness.on_tick(now_ms, &image)), []);
    }
    assert_eq!(fences(&liveness.on_tick(61_000, &image)), [(2, "it is silent")]);
}

#[test]
fn preferred_leaders_return_when_all_has_been_calm() {
    let mut image = world(&[&[1, 2, 3], &[2, 3, 1]], &[]);
    let mut liveness = elected(&image);
    fence(&mut image, 1);
    unfence(&mut image, 1);
    alter(&mut image, 0, &[1, 2, 3]).unwrap();
    let mut asked = Vec::new();
    for now_ms in (0..20_000).step_by(50) {
        for id in 1..=3 {
            heard(&mut liveness, &image, id, now_ms);
        }
        for change in liveness.on_tick(now_ms, &image) {
            assert_eq!(change, MetadataChange::PreferLeaders);
            asked.push(now_ms);
            let records = plan_preferred_leaders(&image, &fixed());
            apply(&mut image, &records);
        }
    }
    assert_eq!(asked, [15_050]);
    check(&image, 0, "1@2 1,2,3/");
}

/// Ten thousand partitions of a dead broker are planned in a few dozen milliseconds; the bound is
/// generous, since tests are not optimised.
#[test]
fn a_broker_of_ten_thousand_partitions_is_fenced_quickly() {
    let mut image = image_with(3, &[]);
    let limits = MetadataLimits::default();
    let settings = PlanSettings { limits, ..PlanSettings::default() };
    for id in 1..=10_u128 {
        let wish = NewTopic {
            partition_count: Some(1_000),
            replication_factor: Some(3),
            ..NewTopic::named(format!("t{id}"))
        };
        let planned = plan_create_topic(&image, &settings, &wish, TopicId(id)).unwrap();
        apply(&mut image, &planned.records);
    }
    let began = crate::clock::now();
    let records = plan_fence(&image, &fixed(), BrokerId(1), epoch(&image, 1));
    let planned = began.elapsed();
    apply(&mut image.clone(), &records);
    let applied = began.elapsed();
    println!("planned in {planned:?}, planned and applied in {applied:?}");
    assert_eq!(records.len(), 10_001);
    assert!(applied.as_millis() < 2_000, "{applied:?}");
}

/// A broker that was cut off believes what it heard last, that it leads: it counts as alive again once it has applied that it does not.
#[test]
fn the_fenced_are_alive_again_when_they_know_of_it() {
    let mut image = world(&[&[1, 2, 3]], &[]);
    let mut liveness = elected(&image);
    fence(&mut image, 3);
    let (broker, epoch) = (BrokerId(3), epoch(&image, 3));
    let mut heard = |applied, last| {
        let heartbeat = Heartbeat { broker, epoch, applied, wants_shutdown: false };
        let (answer, change) = liveness.on_heartbeat(heartbeat, last, 10, &image);
        assert!(answer.is_fenced);
        (answer.is_caught_up, change.is_some())
    };
    assert_eq!(heard(19, 20), (false, false));
    assert_eq!(heard(19, 25), (false, false));
    // What came after that does not matter.
    assert_eq!(heard(20, 30), (true, true));
}
