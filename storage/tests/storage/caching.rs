//! `write.caching`: acknowledged from the page cache, on the disk about a second later.

use varve_protocol::vocabulary::Offset;
use varve_storage::SimDisk;
use varve_storage::config::LogConfig;

use crate::world::{World, partition, tiny_config, tiny_options};

#[test]
fn what_was_acknowledged_early_is_synced_with_the_next_turn() {
    let mut world = World::open(SimDisk::new(3), tiny_options()).unwrap();
    world.config = LogConfig { write_caching: true, ..tiny_config() };
    world.create(0).unwrap();
    world.config = tiny_config();
    world.create(1).unwrap();
    let ends = |disk: &SimDisk| -> Vec<i64> {
        let end = |seed| {
            let after = World::open(disk.after_power_cut(seed), tiny_options()).unwrap();
            after.shard.unwrap().log(&partition(0)).map_or(0, |log| log.log_end().0)
        };
        (0..20).map(end).collect()
    };
    for turn in 1..=3 {
        for _ in 0..10 {
            world.append(0, 5, 200, None).unwrap();
        }
        assert!(world.shard().take_commit().is_none(), "nothing waits for a sync");
        let log = world.shard().log(&partition(0)).unwrap();
        assert_eq!(log.durable_end(), Offset(turn * 50));
        assert!(ends(&world.disk).iter().any(|end| *end < turn * 50));
        let before = world.disk.counts().syncs;
        world.maintain(1_000).unwrap();
        let syncs = world.disk.counts().syncs - before;
        assert!((1..10).contains(&syncs), "{syncs}");
        assert_eq!(ends(&world.disk), [turn * 50; 20]);
        let before = world.disk.counts().syncs;
        world.maintain(10).unwrap();
        assert_eq!(world.disk.counts().syncs, before, "once is enough");
    }
}
