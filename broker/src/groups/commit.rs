//! OffsetCommit's checks, and what offsets do when time passes.

use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::TimestampMs;
use varve_replication::sabotage::{self, Sabotage};

use super::effect::{Now, Step};
use super::group::{Group, State};
use super::offsets::{Committed, Positions};
use super::subscription;

/// An OffsetCommit request, of which the caller has taken out what it refuses itself: unknown
/// topics, texts that are too long.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The group's id.
    pub group_id: String,
    /// The member's id, or empty.
    pub member_id: String,
    /// Its instance id.
    pub instance_id: Option<String>,
    /// Its generation, or −1 for a commit without membership.
    pub generation: i32,
    /// The positions. Must not be empty.
    pub offsets: Vec<CommitOffset>,
    /// For how long, if the version can say so and does (v2 to v4).
    pub retention_ms: Option<i64>,
    /// Whether a group that is not there has its own error code (v9 and later).
    pub knows_group_id_not_found: bool,
}

/// One position to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitOffset {
    /// The topic's name.
    pub topic: String,
    /// The topic's id.
    pub topic_id: varve_protocol::vocabulary::TopicId,
    /// The partition.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record read, or −1.
    pub leader_epoch: i32,
    /// The consumer's text.
    pub metadata: String,
}

impl CommitOffset {
    pub(super) fn committed(&self, retention_ms: Option<i64>, now: Now) -> Committed {
        let expires_at = retention_ms.map(|ms| TimestampMs(now.wall.0.saturating_add(ms)));
        Committed {
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            metadata: self.metadata.clone(),
            committed_at: now.wall,
            expires_at,
            topic_id: self.topic_id,
        }
    }
}

impl Group {
    /// Whether this member may commit now.
    pub(super) fn validate_commit(&self, commit: &Commit) -> Result<(), ErrorCode> {
        let generation = commit.generation;
        if sabotage::is_on(Sabotage::CommitWithoutFencing) {
            return Ok(());
        }
        match self.state {
            State::Dead => return Err(ErrorCode::CoordinatorNotAvailable),
            // An administrator, or a consumer that assigns itself.
            State::Empty if generation < 0 => return Ok(()),
            _ => {}
        }
        if generation >= 0 || !commit.member_id.is_empty() || commit.instance_id.is_some() {
            self.validate_member(&commit.member_id, commit.instance_id.as_deref())?;
            if generation != self.generation {
                return Err(ErrorCode::IllegalGeneration);
            }
        } else {
            return Err(ErrorCode::UnknownMemberId);
        }
        if matches!(self.state, State::CompletingRebalance { .. }) {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// A commit keeps its member's session alive.
    pub(super) fn on_commit_accepted(&mut self, step: &mut Step<'_>, member_id: &str) {
        if matches!(self.state, State::Stable(_) | State::PreparingRebalance(_)) {
            self.heard_of(step, member_id);
        }
    }

    /// The offsets whose time is over, and whether none would be left.
    ///
    /// Without members time counts from the moment when the last one went; in a stable group of
    /// consumers, for topics that nobody subscribes to any more, from the commit; in a group that
    /// only holds offsets, from the commit. An expiry in the request overrules all of these.
    pub(super) fn expired_offsets(&self, now: Now, retention_ms: i64) -> (Positions, bool) {
        let since_empty = match (&self.protocol_type, &self.state) {
            (Some(_), State::Empty) => self.state_since,
            (Some(kind), State::Stable(_))
                if kind == subscription::CONSUMER && self.subscribed.is_some() =>
            {
                None
            }
            (Some(_), _) | (None, State::Dead) => return (Vec::new(), false),
            (None, _) => None,
        };
        let is_expired = |committed: &Committed| match committed.expires_at {
            Some(at) => now.wall >= at,
            None => {
                let since = since_empty.unwrap_or(committed.committed_at);
                now.wall.0.saturating_sub(since.0) >= retention_ms
            }
        };
        let expired: Positions = self
            .offsets
            .iter()
            .filter(|(topic, _, committed)| !self.is_subscribed(topic) && is_expired(committed))
            .map(|(topic, partition, _)| (topic.to_owned(), partition))
            .collect();
        let is_all = expired.len() == self.offsets.len();
        (expired, is_all)
    }
}
