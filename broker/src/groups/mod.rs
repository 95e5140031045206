//! Consumer groups and committed offsets.
//!
//! The group protocol is decided by a pure core: [`Coordinator`] (one for each partition of the
//! offsets topic) with its [`Group`]s, stepped with inputs that carry the time, drained of
//! [`Effect`]s. Around it stands a shell that reads clocks, keeps the waiting requests, appends
//! records and reads them back. What assignments mean is the clients' business.
//!
//! Absent: transactional offset commits, and the protocols of KIP-848, KIP-932 and KIP-1071.
//! Source: Kafka's `group-coordinator` (classic groups), KIP-62, 345, 394, 496, 518, 814.

mod batch;
mod commit;
mod coordinator;
mod effect;
mod group;
mod ids;
mod join;
mod load;
mod member;
mod membership;
mod offsets;
mod pending;
mod placement;
pub mod records;
mod replay;
mod seat;
mod service;
mod settings;
mod subscription;
mod sync;
#[cfg(test)]
mod tests;
mod timers;

pub(crate) use batch::{Operation, OperationBatch};
pub use commit::{Commit, CommitOffset};
pub use coordinator::Coordinator;
pub use effect::{
    Answer, Effect, GroupEvent, JoinAnswer, JoinedMember, Now, RebalanceCause, SyncAnswer,
};
pub use group::{Group, StateName};
pub use ids::{AppendId, GroupId, MemberId, Token};
pub use join::Join;
pub(crate) use load::load;
pub use member::{Member, Protocol};
pub use membership::{Heartbeat, Leaving};
pub use offsets::{Committed, Offsets};
pub use placement::partition_of;
pub use replay::Replay;
pub(crate) use seat::is_live;
pub use service::{GroupCoordinator, GroupSnapshot, OffsetSnapshot};
pub use settings::GroupSettings;
pub use sync::Sync;
pub use timers::Millis;
