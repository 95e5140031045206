//! Voters that come and go, one at a time, from one to five and back.

use super::*;

impl World {
    fn change(&mut self, change: MembershipChange) {
        let leader = self.tick_until_led();
        let (quorum, _) = self.running.get_mut(&leader).unwrap();
        quorum.propose_membership(change).unwrap();
        self.drain(leader, true);
        for _ in 0..10 {
            self.tick();
            self.deliver_all();
        }
    }

    fn join(&mut self, id: BrokerId) {
        self.disks.insert(id, Disk::default());
        self.start(id);
        self.change(MembershipChange::AddLearner(id));
    }
}

#[test]
fn one_voter_becomes_five_and_five_become_one() {
    let mut world = World::new(&[1], 12);
    let ids: Vec<BrokerId> = (1..=5).map(BrokerId).collect();
    for (count, id) in ids.iter().enumerate().skip(1) {
        world.join(*id);
        world.change(MembershipChange::AddVoter(*id));
        let leader = world.tick_until_led();
        assert_eq!(world.running[&leader].0.membership().voters, ids[..=count]);
    }
    let leader = world.tick_until_led();
    world.propose(leader, "a").unwrap();
    for _ in 0..10 {
        world.tick();
        world.deliver_all();
    }
    // All of them restart, and know who votes.
    for id in &ids {
        world.crash(*id);
    }
    for id in &ids {
        world.start(*id);
    }
    // Two of five may be missing.
    let leader = world.tick_until_led();
    let others: Vec<BrokerId> = ids.iter().copied().filter(|id| *id != leader).take(2).collect();
    for id in &others {
        world.crash(*id);
    }
    let leader = world.tick_until_led();
    world.propose(leader, "b").unwrap();
    for _ in 0..10 {
        world.tick();
        world.deliver_all();
    }
    assert_eq!(world.state(leader), "ab");
    for id in &others {
        world.start(*id);
    }
    // A voter that is made a learner gets the log as before.
    let leader = world.tick_until_led();
    let others: Vec<BrokerId> = ids.iter().copied().filter(|id| *id != leader).collect();
    for id in &others {
        world.change(MembershipChange::AddLearner(*id));
    }
    let leader = world.tick_until_led();
    let membership = world.running[&leader].0.membership();
    assert_eq!(membership, Membership { voters: vec![leader], learners: others.clone() });
    world.propose(leader, "c").unwrap();
    for _ in 0..10 {
        world.tick();
        world.deliver_all();
    }
    assert!(ids.iter().all(|id| world.state(*id) == "abc"));
}

/// How much is committed is not always written. Brokers that had lost their votes long ago restarted
/// with the first voters, and elected a leader of their own.
#[test]
fn brokers_that_do_not_know_what_is_committed_count_by_the_voters_of_today() {
    let mut world = World::new(&[1, 2, 3], 13);
    for id in [4, 5].map(BrokerId) {
        world.join(id);
        world.change(MembershipChange::AddVoter(id));
    }
    for id in [1, 2].map(BrokerId) {
        while world.tick_until_led() == id {
            let (quorum, _) = world.running.get_mut(&id).unwrap();
            quorum.transfer_leadership(BrokerId(5));
            world.drain(id, true);
            world.deliver_all();
        }
        world.change(MembershipChange::AddLearner(id));
    }
    let all: Vec<BrokerId> = (1..=5).map(BrokerId).collect();
    for id in &all {
        world.crash(*id);
        let state = world.disks.get_mut(id).unwrap().hard_state.as_mut().unwrap();
        state.commit = 0;
    }
    for id in all.iter().take(2) {
        world.start(*id);
    }
    for _ in 0..100 {
        world.tick();
        world.deliver_all();
    }
    assert_eq!(world.leader(), None, "two of five elected somebody");
    for id in all.iter().skip(2) {
        world.start(*id);
    }
    let leader = world.tick_until_led();
    let membership = world.running[&leader].0.membership();
    assert_eq!(membership.voters, all[2..]);
    assert_eq!(membership.learners, all[..2]);
    for _ in 0..30 {
        world.tick();
        world.deliver_all();
    }
    let leader = world.leader().unwrap();
    assert!(all[2..].contains(&leader), "{leader} leads and has no vote");
}

/// That a new voter was committed was known to all and on no disk: after a restart they counted by the
/// voters of before, of whom too few ran.
#[test]
fn all_know_the_last_change_after_a_restart() {
    let mut world = World::new(&[1, 2, 3], 15);
    for id in [4, 5] {
        world.join(BrokerId(id));
    }
    for id in [4, 5] {
        world.change(MembershipChange::AddVoter(BrokerId(id)));
    }
    for id in 1..=5 {
        world.crash(BrokerId(id));
    }
    for id in [1, 4, 5] {
        world.start(BrokerId(id));
    }
    let leader = world.tick_until_led();
    assert_eq!(world.running[&leader].0.membership().voters.len(), 5);
}
