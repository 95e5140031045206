//! A12: whatever a consumer reads is committed, and stays what it was; whoever thinks that it leads may
//! have answered.

use bytes::Bytes;
use varve_protocol::records::Batches;
use varve_protocol::vocabulary::{BrokerId, TopicIdPartition};

use super::{Committed, Violation};

/// Looks at what broker `id` let somebody read; where that goes on, if it was anything.
///
/// # Errors
/// If it is not committed.
pub(in crate::sim) fn check(
    tip: TopicIdPartition,
    id: BrokerId,
    records: Bytes,
    committed: &Committed,
) -> Result<Option<i64>, Violation> {
    let wrong = |what: String| Violation { invariant: "A12: reads are stable", what };
    let known = committed.of(tip);
    let mut next = None;
    for batch in Batches::new(records) {
        let batch = batch.map_err(|error| wrong(error.to_string()))?;
        let header = batch.header();
        let at = known.binary_search_by_key(&header.base_offset.0, |known| known.base);
        let is_known = at.is_ok_and(|at| {
            (known[at].crc, known[at].epoch) == (header.crc, header.partition_leader_epoch.0)
        });
        if !is_known {
            let (base, crc) = (header.base_offset, header.crc);
            return Err(wrong(format!("{tip} on {id}: a batch at {base}, crc {crc}, is read")));
        }
        next = Some(header.next_offset().0);
    }
    Ok(next)
}
