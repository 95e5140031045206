//! What a workload does next: drawn from a seed, or read from a fuzzer's input.

/// Decides what happens.
pub(crate) trait Choices {
    /// A number below `end`, which is at most 65,536.
    fn below(&mut self, end: u64) -> u64;

    /// Whether nothing is left to decide.
    fn is_spent(&self) -> bool;
}

/// splitmix64: a test's choices, from its seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

impl Choices for Random {
    fn below(&mut self, end: u64) -> u64 {
        Random::below(self, end)
    }

    fn is_spent(&self) -> bool {
        false
    }
}
