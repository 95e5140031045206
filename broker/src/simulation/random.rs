//! The one source of chance: everything that a run draws follows from its seed.

/// Steele and others' SplitMix64.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A source of its own, which later draws from this one do not move.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self { state: self.draw() }
    }

    /// 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.state;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    /// Within `from..=last`.
    pub fn between(&mut self, from: u64, last: u64) -> u64 {
        from + self.below(last - from + 1)
    }

    /// Whether something that happens once in `n` times happens.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// An index of a list that is not empty.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("it is below a length")
    }

    /// Mostly around `mean`, at times much more: the sum of geometric halvings.
    pub fn skewed(&mut self, mean: u64) -> u64 {
        let bits = self.draw();
        let doublings = (bits | 1 << 40).trailing_zeros().min(6);
        let spread = (mean << doublings) / 2;
        spread / 2 + (bits >> 32) % (spread + 1)
    }
}
