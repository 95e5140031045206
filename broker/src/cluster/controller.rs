//! The controller, wherever it is, as leaders of partitions ask it for other in-sync sets.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use varve_protocol::messages::{AlterPartitionRequest, AlterPartitionResponse};
use varve_protocol::vocabulary::BrokerId;

use crate::metadata::MetadataHandle;
use crate::peers::forward::Forwarder;
use crate::peers::{Peers, decide};
use crate::replica::IsrController;
use crate::shard::ProposedIsr;

/// The controller, wherever it is, as leaders of partitions ask it.
pub(super) struct Controller {
    pub(super) metadata: MetadataHandle,
    pub(super) peers: Peers,
    pub(super) forwarder: Arc<Forwarder>,
}

impl IsrController for Controller {
    fn alter_partition(
        &self,
        request: AlterPartitionRequest,
    ) -> Pin<Box<dyn Future<Output = Option<AlterPartitionResponse>> + Send + '_>> {
        Box::pin(async move {
            if self.metadata.is_controller() {
                return Some(decide::alter_partition(&self.metadata, request).await);
            }
            self.forwarder.ask(&request, |response| response.error_code == 0).await.ok()
        })
    }

    fn registration(&self) -> (BrokerId, i64) {
        (self.metadata.broker_id(), self.peers.epoch())
    }

    fn is_overtaken(&self, proposal: &ProposedIsr) -> bool {
        let image = self.metadata.load();
        let partition = image.partition(&proposal.partition);
        partition.is_some_and(|it| proposal.is_before(it.leader_epoch, it.partition_epoch))
    }
}
