//! A wall clock that is set: intervals go on by what has passed, not by the time of day.

use varve_protocol::vocabulary::TimestampMs;
use varve_storage::LogShard;
use varve_storage::config::ShardId;

use crate::world::{World, tiny_options};

const HOUR_MS: i64 = 3_600_000;

/// Entries of the journal that a start after a kill would go through.
fn replayed(world: &World) -> usize {
    let now = TimestampMs(world.now);
    let disk = world.disk.after_kill();
    LogShard::open(disk, ShardId(0), tiny_options(), now).unwrap().1.journal_entries
}

fn written() -> World {
    let mut world = World::filled();
    assert_eq!(replayed(&world), 0);
    world.append(0, 10, 60, Some(7)).unwrap();
    world.commit().unwrap();
    assert!(replayed(&world) > 0);
    world
}

#[test]
fn checkpoints_go_on_when_the_clock_is_set_back() {
    let mut world = written();
    let interval_ms = world.options.checkpoint_interval_ms;
    world.maintain(-HOUR_MS).unwrap();
    world.maintain(interval_ms - 1).unwrap();
    assert!(replayed(&world) > 0, "before its time");
    world.maintain(1).unwrap();
    assert_eq!(replayed(&world), 0);
    world.check("afterwards");
}

/// The checkpoint that found no room is to be taken again a second later, not an hour.
#[test]
fn a_postponed_checkpoint_comes_when_the_clock_is_set_back() {
    let mut world = written();
    world.disk.set_capacity(Some(world.disk.bytes_used()));
    world.maintain(world.options.checkpoint_interval_ms).unwrap();
    assert!(replayed(&world) > 0, "there was room");
    world.disk.set_capacity(None);
    world.maintain(-HOUR_MS).unwrap();
    world.append(0, 10, 60, Some(7)).unwrap();
    world.commit().unwrap();
    world.maintain(world.options.checkpoint_interval_ms).unwrap();
    assert_eq!(replayed(&world), 0);
    world.check("afterwards");
}
