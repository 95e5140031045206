//! The thread of the metadata: steps this broker's member of the quorum.
//!
//! A thread of its own, since it waits for the disk. It takes all that waits at once, so that many
//! changes share one sync, and passes what was committed to the finisher (see [`super::finisher`]).

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use varve_protocol::vocabulary::BrokerId;
use varve_replication::quorum::QuorumStatus;

use super::change::MetadataChange;
use super::handle::Command;
use super::node::{Answer, Batch, Node, QuorumTransport};

/// Commands that are taken together.
const BATCH_COMMANDS_MAX: usize = 256;

/// What the thread owns; its owner calls [`Self::run`] on a thread of its own.
pub struct MetadataWriter {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) batches: mpsc::Sender<Batch>,
    pub(super) node: Node,
    pub(super) transport: Arc<dyn QuorumTransport>,
    /// The broker that decides changes.
    pub(super) controller: watch::Sender<Option<BrokerId>>,
    pub(super) status: watch::Sender<QuorumStatus>,
}

impl MetadataWriter {
    /// Serves until [`super::MetadataHandle::shutdown`] or until every handle is gone. Blocks: not for
    /// an async worker.
    ///
    /// A panic ends the process: what this broker knows of the quorum is not certain any more, and a
    /// restart finds out.
    pub fn run(mut self) {
        let _abort = crate::spawn::AbortOnPanic("metadata");
        let mut commands = Vec::with_capacity(BATCH_COMMANDS_MAX);
        loop {
            // What the start left to be done comes first.
            if let Some(batch) = self.node.step(&*self.transport)
                && self.batches.blocking_send(batch).is_err()
            {
                return;
            }
            self.publish();
            if self.commands.blocking_recv_many(&mut commands, BATCH_COMMANDS_MAX) == 0 {
                return;
            }
            let mut changes: Vec<(MetadataChange, Answer)> = Vec::new();
            for command in commands.drain(..) {
                match command {
                    Command::Change(change, answer) => changes.push((change, answer)),
                    Command::Tick => {
                        self.node.on_tick();
                        self.node.admit_registered();
                    }
                    Command::Messages(from, messages) => self.node.on_messages(from, messages),
                    Command::PeerLost(broker) => self.node.on_peer_lost(broker),
                    Command::TransferLeadership(to) => self.node.transfer_leadership(to),
                    Command::Stop => return,
                }
            }
            self.node.on_changes(changes);
        }
    }

    fn publish(&self) {
        let controller = self.node.controller();
        self.controller
            .send_if_modified(|known| std::mem::replace(known, controller) != controller);
        let status = self.node.status();
        self.status.send_if_modified(|known| {
            let is_news = *known != status;
            *known = status;
            is_news
        });
    }
}
