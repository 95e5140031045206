//! Power cuts at every sync point of random workloads: what was promised is there, what is there
//! was written, in order and without holes; and the log goes on.

use varve_storage::{SimDisk, check};

use crate::world::{Random, World, run, tiny_options};

fn workload(disk: &SimDisk, seed: u64, steps: u64) -> (Option<World>, bool) {
    let Ok(mut world) = World::open(disk.clone(), tiny_options()) else { return (None, true) };
    let mut random = Random(seed);
    let cut = run(&mut world, &mut random, steps).is_err();
    (Some(world), cut)
}

fn survive(seed: u64, steps: u64, images: u64) -> u64 {
    let disk = SimDisk::new(seed);
    let (world, cut) = workload(&disk, seed, steps);
    assert!(!cut);
    world.unwrap().check("without a cut");
    let syncs = disk.counts().syncs;
    let mut cuts = 0;
    for nth in 0..syncs {
        let disk = SimDisk::new(seed);
        disk.power_cut_at_sync(nth);
        let (world, cut) = workload(&disk, seed, steps);
        // The workload may end before it hears of what became of its last job.
        assert!(cut || disk.is_off(), "sync {nth} of {syncs}");
        let Some(mut world) = world else { continue };
        let models = (world.logs.clone(), world.deleted.clone(), world.in_doubt);
        for image in 0..images {
            let context = format!("seed {seed}, sync {nth}, image {image}");
            world.disk = disk.after_power_cut(image * 1_000_003 + nth);
            (world.logs, world.deleted, world.in_doubt) = models.clone();
            // What a power cut leaves is no damage to who only looks, either.
            let report = check(&world.disk, world.options.shard_count, |_| {}).unwrap();
            assert!(report.is_whole(), "{context}: {:#?}", report.problems);
            world.reopen().unwrap();
            world.check(&context);
            world.adopt();
            if std::env::var("VARVE_TRACE").is_ok() {
                eprintln!("{context}: {:?}", world.logs.keys());
            }
            world.check_duplicates(&context);
            world.check(&context);
            // It goes on, and a second cut in the middle of that is survived as well.
            let mut random = Random(seed ^ nth ^ image);
            let second = random.below(12);
            world.disk.power_cut_at_sync(second);
            let _ = run(&mut world, &mut random, 25);
            world.disk = world.disk.after_power_cut(random.next());
            world.reopen().unwrap();
            world.check(&format!("{context}, second cut at {second}"));
            cuts += 2;
        }
    }
    cuts
}

#[test]
fn at_every_sync_of_many_workloads() {
    let seeds: u64 =
        std::env::var("VARVE_POWER_CUT_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(12);
    let first: u64 =
        std::env::var("VARVE_POWER_CUT_FIRST").ok().and_then(|s| s.parse().ok()).unwrap_or(0);
    let mut cuts = 0;
    for seed in first..first + seeds {
        cuts += survive(seed, 160, 3);
        println!("seed {seed} done");
    }
    println!("{cuts} power cuts survived");
    assert!(cuts >= seeds * 100, "{cuts}");
}
