//! Brokers whose disks were lost, and messages that contradict a log.

use super::*;

impl World {
    fn take_snapshot(&mut self, id: BrokerId) {
        let (quorum, state) = self.running.get_mut(&id).unwrap();
        let snapshot = quorum.snapshot(Bytes::from(state.clone()));
        let disk = self.disks.get_mut(&id).unwrap();
        disk.entries.retain(|entry| entry.index > snapshot.index);
        disk.snapshot = Some(snapshot);
    }

    /// Delivers until `id` has got entries, of which only the first is on its disk when it crashes.
    fn fill_by_one(&mut self, id: BrokerId) {
        for _ in 0..20 {
            self.tick();
            while !self.wire.is_empty() {
                if self.wire[0].1 != id {
                    self.deliver(0);
                    continue;
                }
                let (from, _, bytes) = self.wire.remove(0);
                let (quorum, _) = self.running.get_mut(&id).unwrap();
                quorum.on_message(from, bytes).unwrap();
                while let Some(mut step) = quorum.poll() {
                    let mut persist = step.persist.take().unwrap_or_default();
                    let is_filled = !persist.entries.is_empty();
                    if is_filled {
                        persist.entries.truncate(1);
                        persist.hard_state.iter_mut().for_each(|state| state.commit = 0);
                    }
                    self.disks.get_mut(&id).unwrap().write(persist);
                    if is_filled {
                        return;
                    }
                    let done = quorum.on_persisted();
                    let out = step.messages.into_iter().chain(done.messages);
                    self.wire.extend(out.map(|(to, bytes)| (id, to, bytes)));
                }
            }
        }
        panic!("nothing was sent");
    }

    /// Three of whom one is down since before the last entry: all, the leader, a follower that has
    /// everything, and the one that is behind.
    fn with_one_behind(seed: u64) -> (Self, BrokerId, BrokerId, BrokerId) {
        let mut world = Self::new(&[1, 2, 3], seed);
        let leader = world.tick_until_led();
        world.propose(leader, "a").unwrap();
        world.turn(3);
        let mut others = world.voters.clone().into_iter().filter(|id| *id != leader);
        let (whole, behind) = (others.next().unwrap(), others.next().unwrap());
        world.crash(behind);
        world.propose(leader, "b").unwrap();
        world.turn(3);
        (world, leader, whole, behind)
    }

    fn turn(&mut self, ticks: usize) {
        for _ in 0..ticks {
            self.tick();
            self.deliver_all();
        }
    }
}

/// A voter that had acknowledged an entry lost its disk, and came back without a log while the leader
/// was down too. With its vote the third one would be elected, which does not have the entry: who has
/// nothing of a cluster that exists has no say before it has caught up.
#[test]
fn a_voter_that_lost_its_disk_elects_nobody_who_has_less() {
    let (mut world, leader, lost, behind) = World::with_one_behind(7);
    assert_eq!(world.state(leader), "ab");
    world.crash(leader);
    world.crash(lost);
    world.disks.insert(lost, Disk::default());
    world.start(behind);
    world.start(lost);
    world.introduce(behind, lost);
    assert!(world.running[&lost].0.abstains());
    world.turn(100);
    assert_eq!(world.leader(), None);
    world.start(leader);
    world.introduce(leader, lost);
    world.tick_until_led();
    world.turn(5);
    assert!(world.voters.clone().into_iter().all(|id| world.state(id) == "ab"));
    assert!(!world.running[&lost].0.abstains());
}

/// A leader that went on while a follower lost its disk believed to know what it had, told it so, and
/// the follower's process ended. Now the leader sends all of it again.
#[test]
fn a_follower_that_lost_its_disk_is_filled_again() {
    let mut world = World::new(&[1, 2, 3], 8);
    let leader = world.tick_until_led();
    world.propose(leader, "a").unwrap();
    world.turn(3);
    let lost = world.voters.iter().copied().find(|id| *id != leader).unwrap();
    world.crash(lost);
    world.disks.insert(lost, Disk::default());
    world.start_unheard(lost);
    // A heartbeat from before they connected.
    world.tick();
    world.tick();
    let (quorum, _) = world.running.get_mut(&lost).unwrap();
    let heartbeat = world.wire.iter().find(|(_, to, _)| *to == lost).unwrap().2.clone();
    let taken = quorum.on_message(leader, heartbeat);
    assert!(matches!(taken, Err(MessageError::Contradiction(_))), "{taken:?}");
    world.wire.retain(|(_, to, _)| *to != lost);
    world.introduce(leader, lost);
    world.turn(10);
    assert_eq!(world.state(lost), "a");
    assert!(!world.running[&lost].0.abstains());
}

/// A new cluster is not held up by the rule for lost logs.
#[test]
fn brokers_that_never_had_anything_elect_each_other() {
    let mut world = World::new(&[1, 2, 3], 9);
    for (one, other) in [(1, 2), (2, 3), (1, 3)] {
        world.introduce(BrokerId(one), BrokerId(other));
    }
    let leader = world.tick_until_led();
    world.propose(leader, "a").unwrap();
    world.turn(3);
    assert!(world.voters.clone().into_iter().all(|id| world.state(id) == "a"));
}

/// The first leader of a new cluster dies before anything of its log is durable. One voter has an entry
/// of it, but had not heard of everybody yet and has no say; the others must elect another all the same.
#[test]
fn a_new_cluster_outlives_its_first_leader() {
    let mut world = World::new(&[1, 2, 3], 14);
    let voters = world.voters.clone();
    voters.iter().for_each(|id| world.crash(*id));
    world.disks.clear();
    voters.iter().for_each(|id| world.start_unheard(*id));
    let late = BrokerId(1);
    world.introduce(late, BrokerId(2));
    world.introduce(BrokerId(2), BrokerId(3));
    world.running.get_mut(&BrokerId(3)).unwrap().0.on_member_log(late, 0, 0);
    while world.leader().is_none() {
        if world.wire.is_empty() {
            world.tick();
        } else {
            world.deliver(0);
        }
    }
    let leader = world.leader().unwrap();
    assert_ne!(leader, late);
    world.wire.retain(|(from, to, _)| *from == leader && *to == late);
    world.deliver_all();
    assert_eq!(world.last(late), (1, 1));
    world.crash(leader);
    world.disks.get_mut(&leader).unwrap().entries.clear();
    world.start(leader);
    world.introduce(BrokerId(2), BrokerId(3));
    world.introduce(late, voters.iter().copied().find(|id| *id != late && *id != leader).unwrap());
    world.turn(60);
    let leader = world.leader().expect("another leader");
    world.propose(leader, "a").unwrap();
    world.turn(10);
    assert!(voters.iter().all(|id| world.state(*id) == "a"));
}

/// A broker that joins after entries were replaced by a snapshot: it takes only one that names it.
#[test]
fn a_newcomer_behind_a_snapshot_gets_one_that_names_it() {
    let mut world = World::new(&[1, 2, 3], 10);
    let leader = world.tick_until_led();
    world.propose(leader, "a").unwrap();
    world.turn(3);
    world.take_snapshot(leader);
    let newcomer = BrokerId(9);
    world.disks.insert(newcomer, Disk::default());
    world.start(newcomer);
    world.introduce(leader, newcomer);
    let (quorum, _) = world.running.get_mut(&leader).unwrap();
    quorum.propose_membership(MembershipChange::AddLearner(newcomer)).unwrap();
    world.drain(leader, true);
    for _ in 0..20 {
        world.turn(1);
        if world.running[&leader].0.is_snapshot_wanted() {
            world.take_snapshot(leader);
        }
    }
    assert_eq!(world.state(newcomer), "a");
    assert_eq!(world.running[&newcomer].0.membership().learners, [newcomer]);
}

/// The file of a broker that joins late may name other voters than those of the beginning; what it
/// applied then led to other members than everywhere else.
#[test]
fn a_newcomer_takes_up_the_first_voters() {
    let mut world = World::new(&[1, 2, 3], 11);
    let leader = world.tick_until_led();
    let newcomer = BrokerId(9);
    world.disks.insert(newcomer, Disk::default());
    let voters = std::mem::replace(&mut world.voters, vec![BrokerId(1), BrokerId(9)]);
    world.start_unheard(newcomer);
    world.voters = voters.clone();
    let commit = world.last(leader).1;
    let (quorum, _) = world.running.get_mut(&newcomer).unwrap();
    quorum.adopt_voters(voters.clone(), commit);
    assert!(quorum.abstains());
    let (quorum, _) = world.running.get_mut(&leader).unwrap();
    quorum.propose_membership(MembershipChange::AddLearner(newcomer)).unwrap();
    world.drain(leader, true);
    world.turn(5);
    let expected = Membership { voters, learners: vec![newcomer] };
    assert_eq!(world.running[&newcomer].0.membership(), expected);
}

/// Two of three lost their disks, had nothing, and made a cluster of their own while the third was down.
#[test]
fn those_who_lost_everything_make_no_second_cluster() {
    let mut world = World::new(&[1, 2, 3], 12);
    let kept = world.tick_until_led();
    world.propose(kept, "a").unwrap();
    world.turn(3);
    let lost: Vec<BrokerId> = world.voters.iter().copied().filter(|id| *id != kept).collect();
    for id in [kept, lost[0], lost[1]] {
        world.crash(id);
    }
    for id in &lost {
        world.disks.insert(*id, Disk::default());
        world.start(*id);
    }
    world.turn(200);
    assert_eq!(world.leader(), None);
    assert_eq!(world.running[&lost[0]].0.unheard().iter().collect::<Vec<_>>(), [&kept]);
    // The third has what they had promised; they do not overrule it either.
    world.start(kept);
    world.turn(200);
    assert!(lost.iter().all(|id| world.running[id].0.abstains()));
    assert_eq!(world.leader(), None);
}

/// A voter that had lost its disk was filled half way when its process ended. Though it has a log again
/// it has no say: it would help one to the lead who lacks what had been committed with its vote.
#[test]
fn a_voter_that_is_filled_half_way_still_abstains() {
    let (mut world, leader, lost, behind) = World::with_one_behind(13);
    world.crash(lost);
    world.disks.insert(lost, Disk::default());
    world.start(lost);
    world.fill_by_one(lost);
    world.crash(leader);
    world.crash(lost);
    world.start(lost);
    assert!(world.running[&lost].0.abstains());
    world.start(behind);
    world.turn(200);
    assert_eq!(world.leader(), None);
    world.start(leader);
    world.tick_until_led();
    world.turn(5);
    assert!(world.voters.clone().into_iter().all(|id| world.state(id) == "ab"));
}
