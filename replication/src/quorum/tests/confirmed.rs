//! A leader that asks whether it leads still.

use super::*;

impl World {
    /// Messages that the question alone costs.
    fn confirm(&mut self, id: BrokerId, round: u64, is_urgent: bool) -> usize {
        let before = self.wire.len();
        self.running.get_mut(&id).unwrap().0.confirm(round, is_urgent);
        self.drain(id, true);
        self.wire.len() - before
    }

    fn cut_off(&mut self, id: BrokerId) {
        let others = self.voters.iter().filter(|other| **other != id);
        self.cut.extend(others.flat_map(|other| [(id, *other), (*other, id)]));
    }
}

#[test]
fn a_round_goes_along_with_the_next_heartbeat() {
    let mut world = World::new(&[0, 1, 2], 3);
    let leader = world.tick_until_led();
    world.deliver_all();
    assert_eq!(world.confirm(leader, 1, false), 0);
    world.deliver_all();
    assert_eq!(world.confirmed.get(&leader), None);
    world.tick();
    world.tick();
    world.deliver_all();
    assert_eq!(world.confirmed.get(&leader), Some(&1));
}

#[test]
fn an_urgent_round_is_answered_without_a_tick() {
    let mut world = World::new(&[0, 1, 2], 3);
    let leader = world.tick_until_led();
    world.deliver_all();
    assert_eq!(world.confirm(leader, 1, true), 2);
    world.deliver_all();
    assert_eq!(world.confirmed.get(&leader), Some(&1));
}

#[test]
fn who_votes_alone_confirms_itself() {
    let mut world = World::new(&[0], 3);
    assert_eq!(world.confirm(BrokerId(0), 1, false), 0);
    assert_eq!(world.confirmed.get(&BrokerId(0)), Some(&1));
}

/// Heartbeats that were answered before the question say nothing about it.
#[test]
fn a_leader_that_was_cut_off_is_not_confirmed() {
    for is_urgent in [false, true] {
        let mut world = World::new(&[0, 1, 2], 3);
        let leader = world.tick_until_led();
        world.tick();
        world.tick();
        let sent = std::mem::take(&mut world.wire);
        world.confirm(leader, 1, is_urgent);
        let asked = std::mem::replace(&mut world.wire, sent);
        world.deliver_all();
        assert_eq!(world.confirmed.get(&leader), None);
        world.wire.extend(asked);
        world.cut_off(leader);
        for _ in 0..30 {
            world.tick();
            world.deliver_all();
        }
        assert!(world.leader().is_some_and(|other| other != leader), "another one is elected");
        assert_eq!(world.confirmed.get(&leader), None);
    }
}
