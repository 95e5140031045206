//! An open on a full disk, which has no room for the checkpoint that covers the journal.

use crate::world::{World, tiny_options};
use varve_storage::SimDisk;

/// What the journal held at the open is neither overwritten nor followed, so that a power cut takes nothing that was
/// promised and leaves nothing that looks like damage.
#[test]
fn the_journal_is_kept_until_a_checkpoint_covers_it() {
    for seed in 0..12 {
        let mut world = World::open(SimDisk::new(seed), tiny_options()).unwrap();
        world.create(0).unwrap();
        for round in 0..12 + seed {
            // Large ones go straight to the segment, and leave marks in the journal.
            let size = if round % 4 == 3 { 1_100 } else { 90 };
            world.append(0, 2, size, Some(7)).unwrap();
            world.commit().unwrap();
        }
        world.disk = world.disk.after_kill();
        world.disk.set_capacity(Some(world.disk.bytes_used()));
        world.reopen().unwrap();
        world.check("after the kill");
        world.adopt();
        world.disk.set_capacity(None);
        // More than both files of the journal hold, and no maintenance.
        for round in 0..seed * 60 {
            world.append(0, 1, 60, Some(7)).unwrap();
            if round % 2 == 0 {
                world.commit().unwrap();
            }
        }
        let written = world.disk.clone();
        let models = world.logs.clone();
        for image in 0..8 {
            world.disk = written.after_power_cut(seed * 100 + image);
            world.logs = models.clone();
            world.reopen().unwrap();
            world.check(&format!("seed {seed}, image {image}"));
        }
        // With a checkpoint the journal is used again.
        world.adopt();
        world.maintain(10_000).unwrap();
        world.append(0, 1, 60, Some(7)).unwrap();
        world.commit().unwrap();
        world.check("after the checkpoint");
    }
}
