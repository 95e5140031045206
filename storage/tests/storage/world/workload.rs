//! Anything that a log is asked to do, in any order.

use super::{Choices, Cut, World};

/// At most `steps` operations, as they are chosen.
pub(crate) fn run(world: &mut World, choices: &mut impl Choices, steps: u64) -> Result<(), Cut> {
    for _ in 0..steps {
        if choices.is_spent() {
            break;
        }
        let numbers: Vec<i32> = world.logs.keys().copied().collect();
        let choice = choices.below(100);
        if numbers.is_empty() || choice < 4 {
            let number = i32::try_from(choices.below(9)).unwrap();
            if !world.logs.contains_key(&number) {
                world.create(number)?;
            }
            continue;
        }
        let index = usize::try_from(choices.below(numbers.len() as u64)).unwrap();
        let number = numbers[index];
        if std::env::var("VARVE_TRACE").is_ok() {
            let log = &world.logs[&number];
            let ends = (log.start, log.durable, log.end);
            eprintln!("  {choice} on {number} {ends:?}, sync {}", world.disk.counts().syncs);
        }
        match choice {
            4..=51 => {
                let count = i32::try_from(1 + choices.below(5)).unwrap();
                let is_large = choices.below(8) == 0;
                let size = choices.below(if is_large { 1200 } else { 150 });
                let producer = (choices.below(2) == 0).then(|| 7 + choices.below(3) as i64);
                world.append(number, count, usize::try_from(size).unwrap(), producer)?;
            }
            52..=59 => {
                let gaps: Vec<i64> = (0..=choices.below(4))
                    .map(|_| choices.below(4).saturating_sub(1) as i64)
                    .collect();
                let is_large = choices.below(6) == 0;
                let size = choices.below(if is_large { 900 } else { 120 });
                let producer = (choices.below(2) == 0).then(|| 7 + choices.below(3) as i64);
                world.follow(number, &gaps, usize::try_from(size).unwrap(), producer)?;
            }
            60..=69 => world.commit()?,
            70..=75 => world.take_commit(),
            76..=79 => world.run_commit(),
            80..=83 => world.finish_commit()?,
            84..=89 => {
                let advance = i64::try_from(choices.below(3_000)).unwrap();
                world.maintain(advance)?;
            }
            90..=91 => world.take_maintenance(i64::try_from(choices.below(6_000)).unwrap()),
            92 => world.run_maintenance()?,
            93 => {
                // Past the end, so that the model can tell whether it happened.
                let offset = world.logs[&number].end + 1 + choices.below(40) as i64;
                if choices.below(3) == 0 {
                    world.reset(number, offset)?;
                }
            }
            94..=95 => {
                let log = &world.logs[&number];
                let span = u64::try_from(log.end - log.start).unwrap() + 1;
                let offset = log.start + i64::try_from(choices.below(span)).unwrap();
                world.truncate(number, offset)?;
            }
            96..=97 => {
                let log = &world.logs[&number];
                let span = u64::try_from(log.durable - log.start).unwrap() + 1;
                let offset = log.start + i64::try_from(choices.below(span)).unwrap();
                world.advance_start(number, offset)?;
            }
            98 => world.delete(number)?,
            _ => {
                // A restart without a power cut: everything written is there.
                if world.job.is_none() && world.done.is_none() {
                    let closes = choices.below(2) == 0;
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
