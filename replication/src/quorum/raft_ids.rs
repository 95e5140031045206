//! Broker ids as the raft crate takes them: it keeps 0 for nobody, and a broker may be number 0.

use varve_protocol::vocabulary::BrokerId;

/// # Panics
/// When the id is negative; configuration refuses that.
pub(super) fn raft_id(broker: BrokerId) -> u64 {
    u64::try_from(broker.0).expect("broker ids are not negative") + 1
}

pub(super) fn broker_id(raft_id: u64) -> Option<BrokerId> {
    i32::try_from(raft_id.checked_sub(1)?).ok().map(BrokerId)
}
