//! Answers that name a leader wait for a moment while that leader's process seems to be gone.
//!
//! A client whose connection breaks asks another broker at once, sooner than the cluster can have
//! moved what the dead broker led. Told the dead leader again, many clients ask next after a second:
//! librdkafka does. Told the next leader some milliseconds later, they go on.

use std::collections::BTreeSet;
use std::time::Duration;

use varve_protocol::vocabulary::BrokerId;

use crate::broker::Broker;
use crate::metadata::MetadataImage;

/// How long an answer waits: other answers of the same connection wait behind it.
const DOUBT_MAX: Duration = Duration::from_millis(300);
/// How often it is looked whether the doubt is over, besides at changes of the metadata.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits while brokers are in doubt that `concerns` the answer.
pub(super) async fn wait_out(
    broker: &Broker,
    concerns: impl Fn(&MetadataImage, &BTreeSet<BrokerId>) -> bool,
) {
    let Some(forwarder) = &broker.forwarder else { return };
    let is_in_doubt = || {
        let doubtful = forwarder.peers().doubtful();
        !doubtful.is_empty() && concerns(&broker.metadata.load(), &doubtful)
    };
    if !is_in_doubt() {
        return;
    }
    let mut updates = broker.metadata.subscribe();
    let over = async {
        while is_in_doubt() {
            let _ = tokio::time::timeout(LOOK_EVERY, updates.recv()).await;
        }
    };
    // The metadata as it is has to do then.
    let _ = tokio::time::timeout(DOUBT_MAX, over).await;
}
