//! The memory that request frames of all connections share.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory is counted in units, so that a semaphore's count holds it.
const UNIT_BYTES: usize = 1024;

/// A pool of bytes. Whoever wants some waits until there are; first come, first served.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    units: Arc<Semaphore>,
    units_max: usize,
}

/// Bytes taken from a budget, given back when dropped.
#[derive(Debug)]
pub struct MemoryPermit {
    permit: OwnedSemaphorePermit,
}

impl MemoryBudget {
    /// A budget of `bytes`.
    #[must_use]
    pub fn new(bytes: usize) -> MemoryBudget {
        let units_max = (bytes / UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        MemoryBudget { units: Arc::new(Semaphore::new(units_max)), units_max }
    }

    /// Takes `bytes`, at most the whole budget; waits for them.
    pub async fn take(&self, bytes: usize) -> MemoryPermit {
        let units = bytes.div_ceil(UNIT_BYTES).min(self.units_max);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.units).acquire_many_owned(units).await;
        MemoryPermit { permit: permit.expect("the budget is never closed") }
    }

    /// Bytes that are free.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        self.units.available_permits() * UNIT_BYTES
    }
}

impl MemoryPermit {
    /// Bytes taken.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.permit.num_permits() * UNIT_BYTES
    }
}
