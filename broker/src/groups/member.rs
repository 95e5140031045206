//! One member of a group.

use bytes::Bytes;

use super::effect::JoinedMember;
use super::ids::{MemberId, Token};
use super::timers::Millis;

/// An assignor that a member supports, and what it tells the leader for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Its name, such as `range`.
    pub name: String,
    /// Opaque bytes for the leader.
    pub metadata: Bytes,
}

/// A member: who it is, what it supports, what it waits for.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// The instance id of a static member.
    pub instance_id: Option<String>,
    /// The client id of the connection that joined.
    pub client_id: String,
    /// The address that joined, in Kafka's spelling (`/127.0.0.1`).
    pub client_host: String,
    /// How long a rebalance waits for it.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// Supported protocols, in order of preference, names unique.
    pub protocols: Vec<Protocol>,
    /// The leader's bytes for it.
    pub assignment: Bytes,
    pub(super) awaiting_join: Option<Token>,
    pub(super) awaiting_sync: Option<Token>,
    /// It has not been in a generation yet: its session timeout does not bind, since a client of
    /// JoinGroup v0 to v3 does not know its id before.
    pub(super) is_new: bool,
    /// The order of joining, by which a new leader is chosen.
    pub(super) seniority: u64,
    pub(super) session: Session,
}

impl Member {
    /// Whether it brings exactly what it brought before.
    pub(super) fn matches(&self, protocols: &[Protocol]) -> bool {
        self.protocols == protocols
    }

    /// Its metadata for a protocol.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|known| known.name == protocol)
            .map(|known| known.metadata.clone())
            .unwrap_or_default()
    }

    pub(super) fn joined(&self, protocol: &str) -> JoinedMember {
        JoinedMember {
            member_id: self.id.to_string(),
            group_instance_id: self.instance_id.clone(),
            metadata: self.metadata(protocol),
        }
    }

    /// Members that wait for the others need not send heartbeats.
    pub(super) fn satisfies_session(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }
}

/// A deadline that moves often, behind a timer that is armed seldom.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Session {
    deadline: Millis,
    /// The one timer entry that counts.
    armed: Option<Millis>,
}

impl Session {
    /// Moves the deadline; the caller arms a timer when one is returned.
    pub(super) fn extend(&mut self, deadline: Millis) -> Option<Millis> {
        self.deadline = deadline;
        if self.armed.is_some_and(|armed| armed <= deadline) {
            return None;
        }
        self.armed = Some(deadline);
        Some(deadline)
    }

    /// A timer entry came due.
    pub(super) fn on_timer(&mut self, entry: Millis, now: Millis) -> SessionTimer {
        if self.armed != Some(entry) {
            return SessionTimer::Stale;
        }
        if self.deadline > now {
            self.armed = Some(self.deadline);
            return SessionTimer::Rearm(self.deadline);
        }
        self.armed = None;
        SessionTimer::Expired
    }
}

/// What a session's timer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionTimer {
    /// The entry was superseded.
    Stale,
    /// The deadline has moved; arm again.
    Rearm(Millis),
    /// The deadline has passed.
    Expired,
}
