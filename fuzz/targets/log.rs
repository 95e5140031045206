//! A log against its model: any operations in any order, with power cuts between them; see
//! `storage/tests/storage/world`.
#![no_main]

#[path = "../../storage/tests/storage/world/mod.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod world;

use libfuzzer_sys::fuzz_target;
use varve_storage::SimDisk;
use world::{Choices, World, run, tiny_options};

/// Power cuts survived by one input.
const CUTS_MAX: u64 = 4;
/// Operations between two of them.
const STEPS_MAX: u64 = 200;

/// A fuzzer's input: a byte a choice, two where one is too few; zeros behind its end.
struct Given<'a>(&'a [u8]);

impl Given<'_> {
    fn byte(&mut self) -> u64 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        u64::from(*first)
    }
}

impl Choices for Given<'_> {
    fn below(&mut self, end: u64) -> u64 {
        let low = self.byte();
        let word = if end > 256 { low | self.byte() << 8 } else { low };
        word % end
    }

    fn is_spent(&self) -> bool {
        self.0.is_empty()
    }
}

fuzz_target!(|input: &[u8]| {
    let mut choices = Given(input);
    let disk = SimDisk::new(choices.below(256));
    let mut world = World::open(disk, tiny_options()).expect("the power is on");
    for _ in 0..CUTS_MAX {
        world.disk.power_cut_at_sync(choices.below(64));
        let is_cut = run(&mut world, &mut choices, STEPS_MAX).is_err() || world.disk.is_off();
        if !is_cut {
            world.check("without a cut");
        }
        // Power may be cut between two syncs as well.
        world.disk = world.disk.after_power_cut(choices.below(65_536));
        world.reopen().expect("the power is on");
        world.check("after the cut");
        world.adopt();
        world.check_duplicates("after the cut");
        world.check("after duplicates");
        if choices.is_spent() {
            break;
        }
    }
});
