//! Where the controller is, and the way to one that is another broker.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use varve_protocol::vocabulary::BrokerId;
use varve_replication::quorum::QuorumStatus;

use super::change::{ChangeError, CreatedTopic};
use super::handle::{Command, MetadataHandle, Urgent};
use super::host::HostFuture;
use super::liveness::{Heartbeat, HeartbeatAnswer};
use super::plan::{NewTopic, ProducerIdBlock, TopicError};
use crate::peers::LogExtent;

/// Carries this broker's own wishes to a controller that is another broker. Each returns when this
/// broker's metadata shows what was done.
pub trait ControllerGateway: Debug + Send + Sync + 'static {
    /// Creates topics.
    fn create_topics(
        &self,
        topics: Vec<NewTopic>,
    ) -> HostFuture<'_, Result<Vec<Result<CreatedTopic, TopicError>>, ChangeError>>;

    /// Takes the next block of producer ids.
    fn allocate_producer_ids(&self) -> HostFuture<'_, Result<ProducerIdBlock, ChangeError>>;
}

impl MetadataHandle {
    /// Says how wishes reach a controller that is another broker. To be called once, before requests
    /// are served.
    pub fn set_gateway(&self, gateway: Arc<dyn ControllerGateway>) {
        let first = self.shared.gateway.set(gateway).is_ok();
        assert!(first, "there is one way to the controller");
    }

    /// The way to the controller, if that is another broker.
    pub(super) fn gateway(&self) -> Option<&Arc<dyn ControllerGateway>> {
        self.shared.gateway.get().filter(|_| !self.is_controller())
    }

    /// The broker that decides changes now, as far as is known here.
    #[must_use]
    pub fn controller(&self) -> Option<BrokerId> {
        *self.shared.controller.borrow()
    }

    /// Whether this broker decides changes.
    #[must_use]
    pub fn is_controller(&self) -> bool {
        self.controller() == Some(self.broker_id())
    }

    /// Tells when another broker decides.
    #[must_use]
    pub fn watch_controller(&self) -> watch::Receiver<Option<BrokerId>> {
        self.shared.controller.clone()
    }

    /// How far the quorum is, as of the last step of this broker's member.
    #[must_use]
    pub fn quorum_status(&self) -> Arc<QuorumStatus> {
        Arc::clone(&self.shared.status.borrow())
    }

    /// How much of the metadata log the image shows.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        *self.shared.applied.borrow()
    }

    /// Returns when the image shows the log up to `index`.
    pub async fn wait_applied(&self, index: u64) {
        // An error means that the broker ends.
        let _ = self.shared.applied.subscribe().wait_for(|applied| *applied >= index).await;
    }

    /// Returns when the cluster has an id, and gives it.
    pub async fn wait_cluster_id(&self) -> String {
        let mut applied = self.shared.applied.subscribe();
        loop {
            let id = self.load().cluster_id().to_owned();
            if !id.is_empty() || applied.changed().await.is_err() {
                return id;
            }
        }
    }

    /// Messages of another broker's member of the quorum. They are dropped when the thread has too
    /// much to do: the quorum sends again what matters.
    pub fn on_quorum_messages(&self, from: BrokerId, messages: Vec<Bytes>) {
        // Dropped, or the broker ends.
        let _ = self.commands.try_send(Command::Messages(from, messages));
    }

    /// The process of another broker is known to be dead.
    pub fn on_peer_lost(&self, broker: BrokerId) {
        // It may be there again, as another process, before this broker is the controller.
        let epoch = self.load().broker(broker).map_or(-1, |known| known.epoch);
        self.urge(|urgent| {
            urgent.lost.insert(broker, epoch);
        });
    }

    /// A broker has connected, and has said how far its log goes.
    pub fn on_peer_log(&self, broker: BrokerId, log: LogExtent) {
        self.urge(|urgent| drop(urgent.logs.insert(broker, log)));
    }

    /// How far this broker's log goes, as of the last step of its member of the quorum.
    #[must_use]
    pub fn log_extent(&self) -> LogExtent {
        let status = self.shared.status.borrow();
        let first_voters = status.first_voters.clone();
        LogExtent { last: status.last, commit: status.commit, first_voters }
    }

    fn urge(&self, tell: impl FnOnce(&mut Urgent)) {
        tell(&mut self.shared.urgent.lock());
        // A thread that has a full queue is awake, and one that is gone needs no telling.
        let _ = self.commands.try_send(Command::Wake);
    }

    /// Tells the controller, which must be this broker, that a broker is alive.
    ///
    /// # Errors
    /// [`ChangeError::ShuttingDown`].
    pub async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<HeartbeatAnswer, ChangeError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.commands.send(Command::Heartbeat(heartbeat, answer)).await;
        sent.map_err(|_| ChangeError::ShuttingDown)?;
        answered.await.map_err(|_| ChangeError::ShuttingDown)
    }

    /// Hands the quorum's leadership to the voter that can take it best, if this broker has it.
    pub fn hand_over(&self) {
        let _ = self.commands.try_send(Command::HandOver);
    }

    /// Hands the quorum's leadership to another voter, if this broker has it.
    pub fn transfer_leadership(&self, to: BrokerId) {
        let _ = self.commands.try_send(Command::TransferLeadership(to));
    }
}
