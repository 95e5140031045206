//! What a client takes from outside itself, besides monotonic time: connections, randomness, the date. All three can be
//! given to it, so that what it does can be the same twice.

use crate::clock;
use crate::net::Dial;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;

/// Tells milliseconds since 1970.
pub(crate) type WallClock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Where they come from; the system, unless something else is set.
#[derive(Clone, Default)]
pub(crate) struct Surroundings {
    pub(crate) dial: Option<Arc<dyn Dial>>,
    /// What is left of the seed; shared by all clients made from one builder.
    random: Option<Arc<Mutex<u64>>>,
    pub(crate) wall_clock: Option<WallClock>,
}

impl Surroundings {
    pub(crate) fn set_seed(&mut self, seed: u64) {
        self.random = Some(Arc::new(Mutex::new(seed)));
    }

    /// 64 random bits.
    pub(crate) fn draw(&self) -> u64 {
        let Some(state) = &self.random else { return rand::random() };
        let mut state = state.lock();
        // Steele and others' SplitMix64.
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Milliseconds since 1970, for the timestamps of records.
    pub(crate) fn wall_ms(&self) -> i64 {
        self.wall_clock.as_ref().map_or_else(clock::wall_ms, |clock| clock())
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("dial", &self.dial)
            .field("is_seeded", &self.random.is_some())
            .field("has_wall_clock", &self.wall_clock.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_twice() {
        let draws = |seed| {
            let mut surroundings = Surroundings::default();
            surroundings.set_seed(seed);
            [surroundings.draw(), surroundings.clone().draw(), surroundings.draw()]
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
        assert_ne!(draws(7)[0], draws(7)[1]);
    }
}
