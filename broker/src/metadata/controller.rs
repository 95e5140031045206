//! Where the controller is, and the way to one that is another broker.

use std::fmt::Debug;
use std::sync::Arc;

use tokio::sync::watch;
use varve_protocol::vocabulary::BrokerId;

use super::change::{ChangeError, CreatedTopic};
use super::handle::MetadataHandle;
use super::host::HostFuture;
use super::plan::{NewTopic, ProducerIdBlock, TopicError};

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

    /// The broker that decides changes now, as far as is known here. A cluster of one decides itself.
    #[must_use]
    pub fn controller(&self) -> Option<BrokerId> {
        Some(self.broker_id())
    }

    /// Whether this broker decides changes.
    #[must_use]
    pub fn is_controller(&self) -> bool {
        self.controller() == Some(self.broker_id())
    }

    /// Tells when another broker decides.
    #[must_use]
    pub fn watch_controller(&self) -> watch::Receiver<Option<BrokerId>> {
        watch::channel(self.controller()).1
    }

    /// How much of the metadata log the image shows.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        0
    }

    /// Returns when the image shows the log up to `index`.
    pub async fn wait_applied(&self, index: u64) {
        let _ = index;
    }
}
