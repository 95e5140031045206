//! Followers whose disks have other bytes than were written.

use varve_storage::{Disk, DiskFile, OpenMode};

use super::*;

/// Where the records of a segment begin (FORMAT.md).
const RECORDS_AT: u64 = 4_096;

/// Each has an entry of its own in the index.
fn value(letter: &str) -> String {
    letter.repeat(5_000)
}

/// The leader wrote a record more than the next one has, and follower 3 has it. On 3's disk, another batch lies where
/// the last one is that both have; headers alone tell.
fn diverged() -> World {
    let mut world = World::new();
    for letter in ["a", "b", "c", "d"] {
        world.produce(1, NOBODY, Acks::Leader, &value(letter));
    }
    world.node(1).commit();
    world.catch_up(2);
    world.catch_up(3);
    world.produce(1, NOBODY, Acks::Leader, &value("e"));
    world.node(1).commit();
    world.catch_up(3);
    let batch_bytes = world.node(3).bytes(Offset(4)).len() as u64;
    let disk = &world.node(3).disk;
    let dir = format!("p/{}", disk.list("p").unwrap()[0].name);
    let files = disk.list(&dir).unwrap();
    let name = files.into_iter().find(|file| file.name.ends_with(".log")).unwrap().name;
    let file = disk.open(&format!("{dir}/{name}"), OpenMode::Write).unwrap();
    // All behind the base offset, which no CRC covers.
    let len = usize::try_from(batch_bytes - 8).unwrap();
    let other = file.map(RECORDS_AT + batch_bytes + 8, len).unwrap();
    file.write_at(RECORDS_AT + 3 * batch_bytes + 8, &[&other]).unwrap();
    world
}

/// It is not in sync: what it cuts off is counted by nobody.
#[test]
fn a_follower_that_is_to_truncate_harmed_records_cuts_them_too() {
    let mut world = diverged();
    world.elect(2, &[1, 2]);
    world.produce(2, NOBODY, Acks::Leader, &value("f"));
    world.node(2).commit();
    world.fetch(3);
    let position = world.node(3).position.unwrap();
    assert_eq!(position.fetch_offset, Offset(3), "{}", world.told(3));
    world.catch_up(3);
    assert_eq!(world.node(3).log(), [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2)]);
    assert_eq!(world.node(3).bytes(Offset(0)), world.node(2).bytes(Offset(0)));
}

/// What it has counts until another ISR is decided: it asks for that, and changes nothing.
#[test]
fn an_in_sync_follower_that_is_to_truncate_harmed_records_leaves_first() {
    let mut world = diverged();
    world.elect(2, &[1, 2, 3]);
    world.fetch(3);
    assert_eq!(world.told(3), "hw=4 the own log is damaged at or before offset 3");
    assert_eq!(world.node(3).core.reader(&TIP).unwrap().log_end(), Offset(5));
    let asked = world.node(3).proposals.pop().expect("it asks to leave");
    assert_eq!(asked.isr.keys().copied().collect::<Vec<_>>(), [BrokerId(1), BrokerId(2)]);
    world.assign(&[1, 2]);
    world.catch_up(3);
    assert_eq!(world.node(3).bytes(Offset(0)), world.node(2).bytes(Offset(0)));
}
