//! `partition.state`: the log start and the leader epochs of one partition, replaced as a whole.
//!
//! Written when the log start moves (DeleteRecords, retention) and when the checkpoint would have
//! to carry many epochs; a partition to which neither has happened has no such file.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use varve_protocol::vocabulary::LeaderEpoch;

use crate::epochs::{EpochCache, EpochStart};
use crate::fields::{EnvelopeError, FieldReader, FieldWriter, open_envelope, seal_envelope};
use crate::file::{Disk, parent, read_file, replace_file};
use crate::layout::STATE_FILE;

const MAGIC: [u8; 8] = *b"VRVPSTAT";
const VERSION: u32 = 1;
const FILE_BYTES_MAX: u64 = 64 << 20;

/// What the file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionState {
    /// The log's generation when this was written: epochs that a later generation cut off are
    /// dropped when the file is read.
    pub(crate) generation: u32,
    pub(crate) log_start: i64,
    pub(crate) epochs: Vec<EpochStart>,
}

/// Why the file could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PartitionStateError {
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl PartitionState {
    fn encode(&self) -> Vec<u8> {
        let mut body = FieldWriter::with_capacity(64 + self.epochs.len() * 12);
        body.u32(self.generation).i64(self.log_start);
        EpochCache::encode(&self.epochs, &mut body);
        seal_envelope(MAGIC, VERSION, &body.bytes)
    }

    fn decode(file: &[u8]) -> Result<Self, EnvelopeError> {
        let mut reader = FieldReader::new(open_envelope(MAGIC, VERSION, file)?);
        let state = Self {
            generation: reader.generation()?,
            log_start: reader.i64()?,
            epochs: EpochCache::decode(&mut reader)?,
        };
        reader.end()?;
        Ok(state)
    }

    /// The state of the partition in `dir`; `None` if it never wrote one.
    pub(crate) fn load<D: Disk>(disk: &D, dir: &str) -> Result<Option<Self>, PartitionStateError> {
        match read_file(disk, &format!("{dir}/{STATE_FILE}"), FILE_BYTES_MAX) {
            Ok(file) => Ok(Some(Self::decode(&file)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Orders the writes of one partition's state: they come from the shard's thread and from
/// maintenance jobs, and an older one must not replace a newer one.
#[derive(Debug, Clone, Default)]
pub(crate) struct StateWriter {
    /// Guards what was written last, and the file while it is written.
    written: Arc<Mutex<Written>>,
    version: u64,
}

#[derive(Debug)]
struct Written {
    version: u64,
    /// Epochs up to here are in the file.
    epoch: LeaderEpoch,
    /// The log was truncated after the state of this version was taken, and kept epochs up to the
    /// second one: what later epochs that state may hold does not count.
    cut: (u64, LeaderEpoch),
}

impl Default for Written {
    fn default() -> Self {
        Self { version: 0, epoch: LeaderEpoch(-1), cut: (0, LeaderEpoch(i32::MAX)) }
    }
}

/// A state to be written.
#[derive(Debug)]
pub(crate) struct StateWrite {
    written: Arc<Mutex<Written>>,
    version: u64,
    dir: String,
    state: PartitionState,
    /// The directory's own name is not on the disk yet.
    is_dir_new: bool,
}

impl StateWriter {
    /// A writer for a file that holds the epochs up to `epoch`.
    pub(crate) fn new(epoch: LeaderEpoch) -> Self {
        Self { written: Arc::new(Mutex::new(Written { epoch, ..Written::default() })), version: 0 }
    }

    /// The newest epoch that is in the file.
    pub(crate) fn saved_epoch(&self) -> LeaderEpoch {
        self.written.lock().epoch
    }

    /// Epochs after this one were cut off; the file may still hold them, but they do not count.
    pub(crate) fn cut_epochs(&self, latest: LeaderEpoch) {
        let mut written = self.written.lock();
        written.epoch = written.epoch.min(latest);
        written.cut = (self.version, written.cut.1.min(latest));
    }

    /// Takes the state as it is now; it is written by [`StateWrite::run`].
    pub(crate) fn prepare(
        &mut self,
        dir: &str,
        state: PartitionState,
        is_dir_new: bool,
    ) -> StateWrite {
        self.version += 1;
        let written = Arc::clone(&self.written);
        StateWrite { written, version: self.version, dir: dir.to_owned(), state, is_dir_new }
    }
}

impl StateWrite {
    /// Durable on return, unless a newer state is already.
    pub(crate) fn run<D: Disk>(&self, disk: &D) -> io::Result<()> {
        let mut written = self.written.lock();
        if written.version >= self.version {
            return Ok(());
        }
        let path = format!("{}/{STATE_FILE}", self.dir);
        replace_file(disk, &path, &[&self.state.encode()])?;
        if self.is_dir_new {
            disk.sync_dir(parent(&self.dir))?;
        }
        written.version = self.version;
        written.epoch = self.state.epochs.last().map_or(LeaderEpoch(-1), |last| last.epoch);
        if self.version <= written.cut.0 {
            written.epoch = written.epoch.min(written.cut.1);
        }
        Ok(())
    }
}
