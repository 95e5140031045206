//! What a quorum keeps: entries, hard state and snapshots, and their bytes.
//!
//! The bytes are the same on the disk and between brokers. Integers are big endian. No protobuf
//! parser ever sees them.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;
use varve_protocol::vocabulary::BrokerId;

/// One entry of the quorum's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place, from 1, without gaps.
    pub index: u64,
    /// The term of the leader that made it.
    pub term: u64,
    /// What it says.
    pub payload: Payload,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: a new leader's first entry.
    Empty,
    /// A command of the state machine.
    Data(Bytes),
    /// Another membership from here on.
    Membership(MembershipChange),
}

/// A change of who takes part. One at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipChange {
    /// A broker votes from now on.
    AddVoter(BrokerId),
    /// A broker gets the log and does not vote.
    AddLearner(BrokerId),
    /// A broker takes no part any more.
    Remove(BrokerId),
}

/// Who takes part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Those who vote, in order.
    pub voters: Vec<BrokerId>,
    /// Those who get the log and do not vote, in order.
    pub learners: Vec<BrokerId>,
}

/// What must be durable before a message leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The newest term that is known.
    pub term: u64,
    /// Whom this broker voted for in it.
    pub vote: Option<BrokerId>,
    /// Entries up to here are committed, as far as is known.
    pub commit: u64,
    /// Its log was lost, as far as is known: it has no say in elections before it has all entries up
    /// to here.
    pub abstains_below: Option<u64>,
}

/// A state that stands for all entries up to `index`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumSnapshot {
    /// The last entry that it stands for.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// Who took part as of that entry.
    pub membership: Membership,
    /// The state machine.
    pub data: Bytes,
}

/// Bytes that no version of this program wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct MalformedBytes(pub &'static str);

const VERSION: u8 = 1;
/// A hard state of a broker that has no say in elections.
const VERSION_ABSTAINING: u8 = 2;
/// Payload kinds. A metadata log of before there was a quorum has payloads without one: they
/// begin with the version of their batch, which is far from these.
const KIND_EMPTY: u8 = 0xf0;
const KIND_DATA: u8 = 0xf1;
const KIND_ADD_VOTER: u8 = 0xf2;
const KIND_ADD_LEARNER: u8 = 0xf3;
const KIND_REMOVE: u8 = 0xf4;
/// Members of one quorum, at most: bounds what a decoder allocates.
const MEMBERS_MAX: usize = 4_096;

impl Payload {
    /// The bytes of the payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Empty => out.put_u8(KIND_EMPTY),
            Self::Data(data) => {
                out.reserve(data.len() + 1);
                out.put_u8(KIND_DATA);
                out.put_slice(data);
            }
            Self::Membership(change) => {
                let (kind, broker) = match change {
                    MembershipChange::AddVoter(broker) => (KIND_ADD_VOTER, broker),
                    MembershipChange::AddLearner(broker) => (KIND_ADD_LEARNER, broker),
                    MembershipChange::Remove(broker) => (KIND_REMOVE, broker),
                };
                out.put_u8(kind);
                out.put_i32(broker.0);
            }
        }
        out.freeze()
    }

    /// Reads a payload. One without a kind is data of a log from before there was a quorum.
    ///
    /// # Errors
    /// [`MalformedBytes`].
    pub fn decode(mut bytes: Bytes) -> Result<Self, MalformedBytes> {
        let Some(&kind) = bytes.first() else { return Ok(Self::Empty) };
        if kind < KIND_EMPTY {
            return Ok(Self::Data(bytes));
        }
        bytes.advance(1);
        match kind {
            KIND_EMPTY if bytes.is_empty() => Ok(Self::Empty),
            KIND_DATA => Ok(Self::Data(bytes)),
            KIND_ADD_VOTER | KIND_ADD_LEARNER | KIND_REMOVE if bytes.len() == 4 => {
                let broker = BrokerId(bytes.get_i32());
                Ok(Self::Membership(match kind {
                    KIND_ADD_VOTER => MembershipChange::AddVoter(broker),
                    KIND_ADD_LEARNER => MembershipChange::AddLearner(broker),
                    _ => MembershipChange::Remove(broker),
                }))
            }
            _ => Err(MalformedBytes("an entry of a kind that this version does not know")),
        }
    }
}

impl HardState {
    const BYTES: usize = 22;
    const ABSTAINING_BYTES: usize = Self::BYTES + 8;

    /// The bytes of the state.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(Self::ABSTAINING_BYTES);
        out.put_u8(if self.abstains_below.is_some() { VERSION_ABSTAINING } else { VERSION });
        out.put_u64(self.term);
        out.put_u8(u8::from(self.vote.is_some()));
        out.put_i32(self.vote.map_or(0, |vote| vote.0));
        out.put_u64(self.commit);
        if let Some(below) = self.abstains_below {
            out.put_u64(below);
        }
        out.freeze()
    }

    /// Reads a state from the beginning of `bytes`; what is behind it is left there.
    ///
    /// # Errors
    /// [`MalformedBytes`].
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, MalformedBytes> {
        let version = bytes.first().copied().unwrap_or_default();
        let len = if version == VERSION_ABSTAINING { Self::ABSTAINING_BYTES } else { Self::BYTES };
        if ![VERSION, VERSION_ABSTAINING].contains(&version) || bytes.len() < len {
            return Err(MalformedBytes("a vote in a form that this version does not know"));
        }
        bytes.advance(1);
        let term = bytes.get_u64();
        let has_vote = bytes.get_u8() == 1;
        let vote = Some(BrokerId(bytes.get_i32())).filter(|_| has_vote);
        let commit = bytes.get_u64();
        let abstains_below = (version == VERSION_ABSTAINING).then(|| bytes.get_u64());
        Ok(Self { term, vote, commit, abstains_below })
    }
}

impl QuorumSnapshot {
    /// The bytes of membership and state; index and term are kept beside them.
    #[must_use]
    pub fn encode_data(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.data.len() + 64);
        out.put_u8(KIND_DATA);
        self.membership.encode(&mut out);
        out.put_slice(&self.data);
        out.freeze()
    }

    /// Reads membership and state. A snapshot of before there was a quorum has no membership, and
    /// gets `bootstrap`.
    ///
    /// # Errors
    /// [`MalformedBytes`].
    pub fn decode(
        index: u64,
        term: u64,
        mut bytes: Bytes,
        bootstrap: &Membership,
    ) -> Result<Self, MalformedBytes> {
        if bytes.first() != Some(&KIND_DATA) {
            return Ok(Self { index, term, membership: bootstrap.clone(), data: bytes });
        }
        bytes.advance(1);
        let membership = Membership::decode(&mut bytes)?;
        Ok(Self { index, term, membership, data: bytes })
    }
}

impl Membership {
    /// Who takes part after a change.
    pub(super) fn apply(&mut self, change: MembershipChange) {
        let (MembershipChange::AddVoter(broker)
        | MembershipChange::AddLearner(broker)
        | MembershipChange::Remove(broker)) = change;
        self.voters.retain(|voter| *voter != broker);
        self.learners.retain(|learner| *learner != broker);
        match change {
            MembershipChange::AddVoter(_) => self.voters.push(broker),
            MembershipChange::AddLearner(_) => self.learners.push(broker),
            MembershipChange::Remove(_) => {}
        }
        self.voters.sort_unstable();
        self.learners.sort_unstable();
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        for list in [&self.voters, &self.learners] {
            out.put_u32(u32::try_from(list.len()).expect("members are few"));
            for broker in list {
                out.put_i32(broker.0);
            }
        }
    }

    pub(super) fn decode(bytes: &mut Bytes) -> Result<Self, MalformedBytes> {
        let mut lists = [Vec::new(), Vec::new()];
        for list in &mut lists {
            let count = bytes.try_get_u32().map_err(|_| SHORT)? as usize;
            if count > MEMBERS_MAX || bytes.len() < count * 4 {
                return Err(MalformedBytes("more members than there can be"));
            }
            list.extend((0..count).map(|_| BrokerId(bytes.get_i32())));
        }
        let [voters, learners] = lists;
        Ok(Self { voters, learners })
    }
}

pub(super) const SHORT: MalformedBytes = MalformedBytes("it ends too early");
