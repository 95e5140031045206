//! The one writer of the metadata: plans, makes durable, and hands on.
//!
//! A thread of its own, since it waits for the disk. It takes all changes that wait, plans each
//! on the image that the ones before leave, appends all their records with one sync, and passes the
//! new image to the finisher (see [`super::finisher`]). A log that failed once is never written
//! again: whether its last bytes are on the disk, nobody can know before a restart.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use varve_protocol::vocabulary::BrokerId;

use super::change::{Applied, ChangeError, MetadataChange};
use super::delta::Delta;
use super::handle::Command;
use super::image::MetadataImage;
use super::plan::PlanSettings;
use super::planning::Planning;
use super::store::{AppendError, RecordLog};

/// Changes that are made durable together.
const BATCH_CHANGES_MAX: usize = 256;

/// Where fresh ids come from: a random source at the edge, a seeded one in simulation.
pub type IdSource = Box<dyn FnMut() -> u128 + Send>;

/// Answers one change.
pub(super) type Answer = oneshot::Sender<Result<Applied, ChangeError>>;

/// A durable batch on its way to the finisher.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) image: Arc<MetadataImage>,
    pub(super) delta: Delta,
    pub(super) answers: Vec<(Answer, Applied)>,
}

/// The writer; its owner calls [`Self::run`] on a thread of its own.
pub struct MetadataWriter {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) batches: mpsc::Sender<Batch>,
    pub(super) core: WriterCore,
}

impl MetadataWriter {
    /// Serves changes until [`super::MetadataHandle::shutdown`] or until every handle is gone.
    /// Blocks: not for an async worker.
    pub fn run(mut self) {
        while let Some(first) = self.commands.blocking_recv() {
            let mut changes = Vec::new();
            let mut is_stopping = false;
            let mut next = Some(first);
            while let Some(command) = next.take() {
                match command {
                    Command::Change(change, answer) => changes.push((change, answer)),
                    Command::Stop => is_stopping = true,
                }
                if changes.len() < BATCH_CHANGES_MAX && !is_stopping {
                    next = self.commands.try_recv().ok();
                }
            }
            if let Some(batch) = self.core.step(changes)
                && self.batches.blocking_send(batch).is_err()
            {
                return;
            }
            if is_stopping {
                return;
            }
        }
    }
}

/// The writer without its queues.
pub(super) struct WriterCore {
    pub(super) image: Arc<MetadataImage>,
    pub(super) log: Box<dyn RecordLog>,
    pub(super) settings: PlanSettings,
    pub(super) broker_id: BrokerId,
    pub(super) ids: IdSource,
    pub(super) failure: Option<ChangeError>,
}

impl WriterCore {
    /// Plans the changes and makes them durable. None when all were answered with an error.
    pub(super) fn step(&mut self, changes: Vec<(MetadataChange, Answer)>) -> Option<Batch> {
        if let Some(failure) = &self.failure {
            answer_all(changes.into_iter().map(|(_, answer)| answer), failure);
            return None;
        }
        let mut planning = Planning {
            image: (*self.image).clone(),
            delta: Delta::default(),
            entries: Vec::new(),
            settings: &self.settings,
            broker_id: self.broker_id,
            ids: &mut self.ids,
        };
        let mut answers = Vec::new();
        for (change, answer) in changes {
            match planning.plan(change) {
                Ok(applied) => answers.push((answer, applied)),
                // Whoever asked may be gone.
                Err(error) => drop(answer.send(Err(error))),
            }
        }
        let Planning { image, delta, entries, .. } = planning;
        if entries.is_empty() {
            return Some(Batch { image: self.image.clone(), delta, answers });
        }
        if let Err(error) = self.log.append(&entries) {
            let failure = self.failed(&error);
            answer_all(answers.into_iter().map(|(answer, _)| answer), &failure);
            return None;
        }
        self.image = Arc::new(image);
        if let Err(error) = self.log.snapshot_if_due(&self.image) {
            // What was appended is durable and stands; only later changes are refused.
            self.failed(&error);
        }
        Some(Batch { image: self.image.clone(), delta, answers })
    }

    /// What to answer; after a failure of the disk, from now on.
    fn failed(&mut self, error: &AppendError) -> ChangeError {
        match error {
            AppendError::Full => {
                tracing::warn!("the disk is full; a metadata change was refused");
                ChangeError::DiskFull
            }
            AppendError::Failed(reason) => {
                tracing::error!(%reason, "the metadata log failed; no changes until a restart");
                let failure = ChangeError::StoreFailed(reason.clone());
                self.failure = Some(failure.clone());
                failure
            }
        }
    }
}

fn answer_all(answers: impl Iterator<Item = Answer>, failure: &ChangeError) {
    for answer in answers {
        // Whoever asked may be gone.
        let _ = answer.send(Err(failure.clone()));
    }
}
