//! What happened, as a hash always and as lines when somebody wants to read it.

use std::fmt::Arguments;

/// The trace of a run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// Keeps lines if `is_read`.
    #[must_use]
    pub fn new(is_read: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: is_read.then(Vec::new) }
    }

    /// Whether lines are kept.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.lines.is_some()
    }

    /// Notes numbers that say what happened.
    pub fn note(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
    }

    /// Notes a line, for readers.
    pub fn line(&mut self, at_us: u64, text: Arguments<'_>) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>4}.{:06} {text}", at_us / 1_000_000, at_us % 1_000_000));
        }
    }

    /// The same seed gives the same.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The lines.
    #[must_use]
    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
