//! The metadata log on the disk.
//!
//! An entry of storage's [`EntryLog`] is an entry of the quorum, mostly one batch of records (see
//! `codec`), durable once [`QuorumLog::persist`] has returned. A snapshot is the image as one batch; it replaces the
//! entries before it, so that replay stays short. Beside the vote lies whose log it is, and who voted
//! at first: a file that says otherwise later does not change what the log means.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use varve_protocol::vocabulary::BrokerId;
use varve_replication::quorum::{
    HardState, LogEntry, MalformedBytes, Membership, Payload, Persist, QuorumSnapshot,
    RecoveredQuorum,
};
use varve_replication::sabotage::{self, Sabotage};
use varve_storage::{Disk, Entry, EntryLog, EntryLogError};

use super::codec::{self, DecodeError};
use super::image::{ApplyError, MetadataImage};
use super::record::MetadataRecord;
use crate::peers::internal_address;

/// Where the metadata log lies in the data directory.
pub const METADATA_DIRECTORY: &str = "metadata";
/// A snapshot is due after so many bytes of entries, or as many as the last snapshot had, if more:
/// so that all snapshots together cost no more than the entries.
const SNAPSHOT_ENTRY_BYTES_MIN: u64 = 1 << 20;

/// A durable log of the quorum's entries, its vote and a snapshot.
pub trait QuorumLog: Send {
    /// Takes room for an entry that is about to be proposed, so that it can be written whatever else
    /// fills the disk meanwhile.
    ///
    /// # Errors
    /// [`AppendError`]; nothing has changed.
    fn reserve(&mut self, entry_bytes: usize) -> Result<(), AppendError>;

    /// Writes what a step of the quorum wants durable, with one sync. Can be repeated after
    /// [`AppendError::Full`].
    ///
    /// # Errors
    /// [`AppendError::Full`]: there is no room. [`AppendError::Failed`]: what was written is not
    /// known, and nothing may be written any more.
    fn persist(&mut self, persist: &Persist) -> Result<(), AppendError>;

    /// Other voters were the first, as is known before there is any entry. Durable on return.
    ///
    /// # Errors
    /// [`AppendError`].
    fn adopt_voters(&mut self, voters: &[BrokerId]) -> Result<(), AppendError>;

    /// Whether a snapshot is worth its cost by now.
    fn is_snapshot_due(&self) -> bool;

    /// Replaces the entries up to a snapshot by it.
    ///
    /// # Errors
    /// [`AppendError::Failed`]: nothing may be written any more. A full disk is no error: the
    /// entries stay, and a snapshot is due later.
    fn compact(&mut self, snapshot: &QuorumSnapshot) -> Result<(), AppendError>;
}

/// Whose log it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOwner {
    /// The broker.
    pub broker: BrokerId,
    /// Of the data directory; chosen when it was made.
    pub directory: u128,
    /// Those who vote as long as the log says nothing else.
    pub voters: Vec<BrokerId>,
}

/// Why the metadata log did not take a change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// There is no room; nothing has changed.
    #[error("the disk is full, the metadata cannot be changed; free some space and try again")]
    Full,
    /// The disk failed.
    #[error("{0}")]
    Failed(String),
}

/// Why the metadata cannot be read. Nothing was changed on the disk.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log itself cannot be opened.
    #[error("the metadata log: {0}")]
    Log(#[from] EntryLogError),
    /// A snapshot or an entry has bytes that this version does not understand.
    #[error("the metadata log, {place}: {reason}")]
    Decode {
        /// Which snapshot or entry.
        place: Place,
        /// What is wrong with it.
        reason: DecodeError,
    },
    /// A snapshot, an entry or the vote is not one that this version wrote.
    #[error("the metadata log, {place}: {reason}")]
    Entry {
        /// Which.
        place: Place,
        /// What is wrong with it.
        reason: MalformedBytes,
    },
    /// Entries are gone that this broker knew to be committed.
    #[error(
        "the metadata log ends with entry {last}, but entry {committed} was committed: entries were \
         lost. Restore the directory '{METADATA_DIRECTORY}' from a copy, or, in a cluster, remove this \
         broker's data directory, so that the others fill it again"
    )]
    Lost {
        /// The last entry.
        last: u64,
        /// The last one that was committed.
        committed: u64,
    },
    /// The data directory belongs to another broker.
    #[error(
        "the data directory belongs to broker {found}, but node.id is {expected}; a broker keeps its \
         number for life: set node.id to {found}, or choose an empty data directory"
    )]
    OtherBroker {
        /// Whose it is.
        found: BrokerId,
        /// Who opens it.
        expected: BrokerId,
    },
    /// The file names another cluster.
    #[error(
        "the data directory belongs to cluster {found}, but cluster.id is {expected}: set it to \
         {found}, or choose an empty data directory"
    )]
    OtherCluster {
        /// Whose it is.
        found: String,
        /// What the file says.
        expected: String,
    },
    /// The file makes this a cluster of one, but it is not.
    #[error(
        "the data directory belongs to a cluster with the brokers {found:?}, but cluster.voters \
         names no other; restore the key"
    )]
    NotAlone {
        /// The brokers.
        found: Vec<i32>,
    },
    /// A snapshot or an entry contradicts what comes before it.
    #[error(
        "the metadata log, {place}: {reason}. The log is damaged in a way that its checksums do not \
         show: restore the directory '{METADATA_DIRECTORY}' from a copy"
    )]
    Apply {
        /// Which snapshot or entry.
        place: Place,
        /// What is wrong with it.
        reason: ApplyError,
    },
}

/// A place in the metadata log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The snapshot that stands for all entries up to this index.
    Snapshot(u64),
    /// The entry of this index.
    Entry(u64),
    /// Term and vote.
    HardState,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Snapshot(index) => write!(f, "snapshot at index {index}"),
            Self::Entry(index) => write!(f, "entry {index}"),
            Self::HardState => f.write_str("term and vote"),
        }
    }
}

/// The metadata log of a data directory. Owned by one thread.
#[derive(Debug)]
pub struct MetadataStore<D: Disk> {
    log: EntryLog<D>,
    owner: LogOwner,
    /// As it was written last.
    hard_state: HardState,
    /// Entries are snapshot once they have so many bytes.
    snapshot_due_bytes: u64,
    snapshot_bytes_min: u64,
}

/// What a metadata log held.
#[derive(Debug)]
pub struct RecoveredMetadata {
    /// What the quorum takes up.
    pub quorum: RecoveredQuorum,
    /// The image of the snapshot; the entries after it are not applied.
    pub image: MetadataImage,
    /// The cluster's id, as far as it is known to be committed.
    pub cluster_id: Option<String>,
    /// Where the brokers of the entries listen for each other, committed or not: before anything is
    /// committed again, they must find each other.
    pub addresses: BTreeMap<BrokerId, String>,
}

impl<D: Disk> MetadataStore<D> {
    /// Opens the log and reads it. One that belongs to nobody yet is given to `owner`.
    ///
    /// # Errors
    /// [`OpenError`] when it is damaged, was written by a version that knows more, or belongs to
    /// somebody else.
    pub fn open(disk: D, owner: LogOwner) -> Result<(Self, RecoveredMetadata), OpenError> {
        Self::open_with(disk, owner, SNAPSHOT_ENTRY_BYTES_MIN)
    }

    /// As [`Self::open`], with snapshots after so many bytes of entries at least.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(
        disk: D,
        owner: LogOwner,
        snapshot_bytes_min: u64,
    ) -> Result<(Self, RecoveredMetadata), OpenError> {
        let (mut log, recovered) = EntryLog::open(disk, METADATA_DIRECTORY)?;
        let vote = recovered.hard_state.as_ref().map(decode_vote).transpose();
        let vote = vote.map_err(|reason| OpenError::Entry { place: Place::HardState, reason })?;
        let hard_state = vote.as_ref().map(|(hard_state, _)| *hard_state);
        let owner = match vote {
            Some((_, Some(found))) => check_owner(found, &owner)?,
            _ => {
                log.set_hard_state(&encode_vote(&hard_state.unwrap_or_default(), &owner))?;
                log.sync()?;
                owner
            }
        };
        let (last, committed) = (log.last_index(), hard_state.map_or(0, |state| state.commit));
        if committed > last {
            return Err(OpenError::Lost { last, committed });
        }
        let bootstrap = Membership { voters: owner.voters.clone(), learners: Vec::new() };
        let mut image = MetadataImage::default();
        let mut snapshot_due_bytes = snapshot_bytes_min;
        let mut snapshot = None;
        if let Some(stored) = recovered.snapshot {
            let place = Place::Snapshot(stored.index);
            let decoded =
                QuorumSnapshot::decode(stored.index, stored.term, stored.data, &bootstrap);
            let decoded = decoded.map_err(|reason| OpenError::Entry { place, reason })?;
            replay(&mut image, &decoded.data, place)?;
            snapshot_due_bytes = snapshot_due_bytes.max(decoded.data.len() as u64);
            snapshot = Some(decoded);
        }
        let mut cluster_id = Some(image.cluster_id().to_owned()).filter(|id| !id.is_empty());
        let mut addresses = BTreeMap::new();
        let mut entries = Vec::new();
        for Entry { index, term, data } in recovered.entries {
            let place = Place::Entry(index);
            let payload =
                Payload::decode(data).map_err(|reason| OpenError::Entry { place, reason })?;
            // What cannot be understood is refused now, not when it is committed.
            if let Payload::Data(data) = &payload {
                let records = codec::decode_batch(data);
                let records = records.map_err(|reason| OpenError::Decode { place, reason })?;
                for record in records {
                    match record {
                        MetadataRecord::ClusterId(id) if index <= committed => {
                            cluster_id = Some(id);
                        }
                        MetadataRecord::RegisterBroker(broker) => {
                            let address = internal_address(&broker.endpoints);
                            addresses.extend(address.map(|address| (broker.id, address)));
                        }
                        _ => {}
                    }
                }
            }
            entries.push(LogEntry { index, term, payload });
        }
        let quorum = RecoveredQuorum { hard_state, snapshot, entries };
        let hard_state = hard_state.unwrap_or_default();
        let store = Self { log, owner, hard_state, snapshot_due_bytes, snapshot_bytes_min };
        Ok((store, RecoveredMetadata { quorum, image, cluster_id, addresses }))
    }

    /// Whose log it is.
    #[must_use]
    pub fn owner(&self) -> &LogOwner {
        &self.owner
    }
}

impl<D: Disk> QuorumLog for MetadataStore<D> {
    fn reserve(&mut self, entry_bytes: usize) -> Result<(), AppendError> {
        // The vote is written beside it.
        self.log.reserve(2, entry_bytes + VOTE_BYTES_MAX).map_err(refused)
    }

    fn persist(&mut self, persist: &Persist) -> Result<(), AppendError> {
        if let Some(snapshot) = &persist.snapshot {
            self.install(snapshot)?;
        }
        if let Some(first) = persist.entries.first() {
            self.log.truncate_from(first.index).map_err(refused)?;
            let entry = |entry: &LogEntry| Entry {
                index: entry.index,
                term: entry.term,
                data: entry.payload.encode(),
            };
            let entries: Vec<Entry> = persist.entries.iter().map(entry).collect();
            self.log.append(&entries).map_err(refused)?;
        }
        if let Some(state) = &persist.hard_state {
            // How much is committed is learned again from the leader: alone it is not worth a sync,
            // beside entries or a vote it costs none.
            let has_voted =
                (state.term, state.vote) != (self.hard_state.term, self.hard_state.vote);
            let is_alone = persist.entries.is_empty() && persist.snapshot.is_none();
            if !has_voted && is_alone && !persist.is_kept {
                return Ok(());
            }
            let mut kept = *state;
            if sabotage::is_on(Sabotage::ForgetVote) {
                kept.vote = None;
            }
            self.log.set_hard_state(&encode_vote(&kept, &self.owner)).map_err(refused)?;
            self.hard_state = *state;
        }
        self.log.sync().map_err(refused)
    }

    fn adopt_voters(&mut self, voters: &[BrokerId]) -> Result<(), AppendError> {
        self.owner.voters = voters.to_vec();
        let vote = encode_vote(&self.hard_state, &self.owner);
        self.log.set_hard_state(&vote).map_err(refused)?;
        self.log.sync().map_err(refused)
    }

    fn is_snapshot_due(&self) -> bool {
        self.log.size_bytes() >= self.snapshot_due_bytes
    }

    fn compact(&mut self, snapshot: &QuorumSnapshot) -> Result<(), AppendError> {
        match self.install(snapshot) {
            Err(AppendError::Full) => {
                self.snapshot_due_bytes += self.snapshot_bytes_min;
                tracing::warn!("the disk is full, a snapshot of the metadata has to wait");
                Ok(())
            }
            other => other,
        }
    }
}

impl<D: Disk> MetadataStore<D> {
    fn install(&mut self, snapshot: &QuorumSnapshot) -> Result<(), AppendError> {
        let data = snapshot.encode_data();
        let installed = self.log.install_snapshot(snapshot.index, snapshot.term, &data);
        installed.map_err(refused)?;
        self.snapshot_due_bytes = self.snapshot_bytes_min.max(data.len() as u64);
        Ok(())
    }
}

fn replay(image: &mut MetadataImage, data: &[u8], place: Place) -> Result<(), OpenError> {
    let records =
        codec::decode_batch(data).map_err(|reason| OpenError::Decode { place, reason })?;
    let applied = image.apply_all(&records);
    applied.map(drop).map_err(|reason| OpenError::Apply { place, reason })
}

/// With five voters it has 74 at most.
const VOTE_BYTES_MAX: usize = 256;

/// What lies beside the entries; one of before logs had owners ends after the hard state.
///
/// ```text
/// hard state, 22 or 30 bytes · broker i32 · directory u128 · number of voters u32 · their ids
/// ```
fn encode_vote(state: &HardState, owner: &LogOwner) -> Bytes {
    let mut out = BytesMut::from(&state.encode()[..]);
    out.put_i32(owner.broker.0);
    out.put_u128(owner.directory);
    out.put_u32(u32::try_from(owner.voters.len()).expect("voters are few"));
    for voter in &owner.voters {
        out.put_i32(voter.0);
    }
    out.freeze()
}

fn decode_vote(bytes: &Bytes) -> Result<(HardState, Option<LogOwner>), MalformedBytes> {
    const SHORT: MalformedBytes = MalformedBytes("it is not of the size that it should have");
    let mut rest = &bytes[..];
    let state = HardState::decode(&mut rest)?;
    if rest.is_empty() {
        return Ok((state, None));
    }
    let broker = BrokerId(rest.try_get_i32().map_err(|_| SHORT)?);
    let directory = rest.try_get_u128().map_err(|_| SHORT)?;
    let count = rest.try_get_u32().map_err(|_| SHORT)? as usize;
    if rest.len() != count.saturating_mul(4) {
        return Err(SHORT);
    }
    let voters = (0..count).map(|_| BrokerId(rest.get_i32())).collect();
    Ok((state, Some(LogOwner { broker, directory, voters })))
}

fn check_owner(found: LogOwner, expected: &LogOwner) -> Result<LogOwner, OpenError> {
    if found.broker != expected.broker {
        return Err(OpenError::OtherBroker { found: found.broker, expected: expected.broker });
    }
    if expected.voters == [expected.broker] && found.voters != expected.voters {
        let found = found.voters.iter().map(|voter| voter.0).collect();
        return Err(OpenError::NotAlone { found });
    }
    Ok(found)
}

fn refused(error: EntryLogError) -> AppendError {
    match error {
        EntryLogError::DiskFull => AppendError::Full,
        // The planner bounds a batch far below the largest entry, and indexes follow each other:
        // anything else means that the log cannot be trusted any more.
        other => AppendError::Failed(other.to_string()),
    }
}
