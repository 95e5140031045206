//! Power cuts at every sync point of random workloads: what was promised is there, what is there
//! was written, in order and without holes; and the log goes on.

use varve_storage::{SimDisk, check};

use crate::world::{Cut, Random, World, tiny_options};

/// A workload of `steps` random operations.
fn run(world: &mut World, random: &mut Random, steps: u64) -> Result<(), Cut> {
    for _ in 0..steps {
        let numbers: Vec<i32> = world.logs.keys().copied().collect();
        let choice = random.below(100);
        if numbers.is_empty() || choice < 4 {
            let number = i32::try_from(random.below(9)).unwrap();
            if !world.logs.contains_key(&number) {
                world.create(number)?;
            }
            continue;
        }
        let index = usize::try_from(random.below(numbers.len() as u64)).unwrap();
        let number = numbers[index];
        if std::env::var("VARVE_TRACE").is_ok() {
            let log = &world.logs[&number];
            let ends = (log.start, log.durable, log.end);
            eprintln!("  {choice} on {number} {ends:?}, sync {}", world.disk.counts().syncs);
        }
        match choice {
            4..=51 => {
                let count = i32::try_from(1 + random.below(5)).unwrap();
                let is_large = random.below(8) == 0;
                let size = random.below(if is_large { 1200 } else { 150 });
                let producer = (random.below(2) == 0).then(|| 7 + random.below(3) as i64);
                world.append(number, count, usize::try_from(size).unwrap(), producer)?;
            }
            52..=59 => {
                let gaps: Vec<i64> = (0..=random.below(4))
                    .map(|_| random.below(4).saturating_sub(1) as i64)
                    .collect();
                let is_large = random.below(6) == 0;
                let size = random.below(if is_large { 900 } else { 120 });
                let producer = (random.below(2) == 0).then(|| 7 + random.below(3) as i64);
                world.follow(number, &gaps, usize::try_from(size).unwrap(), producer)?;
            }
            60..=69 => world.commit()?,
            70..=75 => world.take_commit(),
            76..=79 => world.run_commit(),
            80..=83 => world.finish_commit()?,
            84..=89 => {
                let advance = i64::try_from(random.below(3_000)).unwrap();
                world.maintain(advance)?;
            }
            90..=91 => world.take_maintenance(i64::try_from(random.below(6_000)).unwrap()),
            92 => world.run_maintenance()?,
            93 => {
                // Past the end, so that the model can tell whether it happened.
                let offset = world.logs[&number].end + 1 + random.below(40) as i64;
                if random.below(3) == 0 {
                    world.reset(number, offset)?;
                }
            }
            94..=95 => {
                let log = &world.logs[&number];
                let span = u64::try_from(log.end - log.start).unwrap() + 1;
                let offset = log.start + i64::try_from(random.below(span)).unwrap();
                world.truncate(number, offset)?;
            }
            96..=97 => {
                let log = &world.logs[&number];
                let span = u64::try_from(log.durable - log.start).unwrap() + 1;
                let offset = log.start + i64::try_from(random.below(span)).unwrap();
                world.advance_start(number, offset)?;
            }
            98 => world.delete(number)?,
            _ => {
                // A restart without a power cut: everything written is there.
                if world.job.is_none() && world.done.is_none() {
                    let closes = random.below(2) == 0;
                    if closes && world.shard().close().is_err() {
                        return Err(Cut);
                    }
                    world.reopen()?;
                    for log in world.logs.values_mut() {
                        log.durable = log.end;
                    }
                    world.check("restart");
                    world.adopt();
                }
            }
        }
    }
    Ok(())
}

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
