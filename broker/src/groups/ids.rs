//! Names of groups, members and pending work.

use std::sync::Arc;

/// A group's id, as clients spell it.
pub type GroupId = Arc<str>;

/// A member's id: client id or instance id, and a suffix that the broker gave.
pub type MemberId = Arc<str>;

/// A request that will be answered by an effect. The caller chooses it; each is answered once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// An append to the offsets partition that the core has asked for. They count up, and complete in
/// their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppendId(pub u64);
