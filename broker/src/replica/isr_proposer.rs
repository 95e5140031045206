//! Leaders' wishes for other in-sync sets, asked of the controller (KIP-497).
//!
//! All wishes that wait are one request; one request is under way at a time. A wish stands until the
//! controller has decided it, or the metadata shows here that the partition has moved on; a later wish
//! of a partition takes the place of an earlier one.
//!
//! That a wish is stale is never taken from the controller's word alone. It may have been the last word
//! of a controller that knew less than the leader; then no metadata would ever come that ends the
//! wish, and a leader with a pending wish makes no other.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::alter_partition::{
    AlterPartitionData, AlterPartitionResult, AlterPartitionTopic, BrokerState,
};
use varve_protocol::messages::{AlterPartitionRequest, AlterPartitionResponse};
use varve_protocol::vocabulary::{BrokerId, PartitionIndex, TopicId, TopicIdPartition};

use crate::shard::{IsrAnswer, IsrVerdict, Partitions, ProposedIsr};

const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Wishes that nobody has asked yet. Bounded by the partitions that are led here.
#[derive(Debug, Default)]
pub(crate) struct IsrWishes {
    /// Guards the wishes; held to add some, or to take them out.
    wishes: Mutex<BTreeMap<TopicIdPartition, ProposedIsr>>,
    notify: Notify,
}

impl IsrWishes {
    pub(super) fn add(&self, proposals: Vec<ProposedIsr>) {
        let named = proposals.into_iter().map(|proposal| (proposal.partition, proposal));
        self.wishes.lock().extend(named);
        self.notify.notify_one();
    }

    fn take(&self) -> BTreeMap<TopicIdPartition, ProposedIsr> {
        std::mem::take(&mut *self.wishes.lock())
    }
}

/// Who asks the controller, wherever it is, and knows what the metadata says.
pub(crate) trait IsrController: Send + Sync + 'static {
    /// The controller's answer; none if nobody answered.
    fn alter_partition(
        &self,
        request: AlterPartitionRequest,
    ) -> Pin<Box<dyn Future<Output = Option<AlterPartitionResponse>> + Send + '_>>;

    /// This broker and the epoch that it is registered with.
    fn registration(&self) -> (BrokerId, i64);

    /// Whether the metadata shows here that the partition has moved on since the wish was made. The
    /// shard learns its roles before the metadata is shown, so that a wish may well be ahead of it.
    fn is_overtaken(&self, proposal: &ProposedIsr) -> bool;
}

/// Asks until the broker ends.
pub(crate) async fn propose(
    wishes: Arc<IsrWishes>,
    partitions: Partitions,
    controller: impl IsrController,
) {
    let mut pause = PAUSE_MIN;
    let mut waiting = BTreeMap::new();
    loop {
        if waiting.is_empty() {
            pause = PAUSE_MIN;
            wishes.notify.notified().await;
        }
        waiting.extend(wishes.take());
        let mut answers = Vec::new();
        waiting.retain(|tip, proposal: &mut ProposedIsr| {
            let is_over = controller.is_overtaken(proposal) || partitions.get(tip).is_none();
            if is_over {
                answers.push(stale(*tip, proposal));
            }
            !is_over
        });
        if !waiting.is_empty() {
            let (broker, epoch) = controller.registration();
            let asked = controller.alter_partition(request(broker, epoch, &waiting)).await;
            answers.extend(asked.into_iter().flat_map(|answer| judged(answer, &mut waiting)));
        }
        if !answers.is_empty() {
            partitions.isr_answered(answers).await;
        }
        if !waiting.is_empty() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

pub(crate) fn request(
    broker: BrokerId,
    broker_epoch: i64,
    waiting: &BTreeMap<TopicIdPartition, ProposedIsr>,
) -> AlterPartitionRequest {
    let mut topics: BTreeMap<TopicId, Vec<AlterPartitionData>> = BTreeMap::new();
    for (tip, proposal) in waiting {
        let member = |(id, epoch): (&BrokerId, &i64)| BrokerState {
            broker_id: id.0,
            broker_epoch: if *id == broker { broker_epoch } else { *epoch },
        };
        topics.entry(tip.topic_id).or_default().push(AlterPartitionData {
            partition_index: tip.partition.0,
            leader_epoch: proposal.leader_epoch.0,
            new_isr_with_epochs: proposal.isr.iter().map(member).collect(),
            partition_epoch: proposal.partition_epoch,
            ..AlterPartitionData::default()
        });
    }
    let topics = topics
        .into_iter()
        .map(|(topic_id, partitions)| AlterPartitionTopic { topic_id, partitions });
    AlterPartitionRequest { broker_id: broker.0, broker_epoch, topics: topics.collect() }
}

/// What the shards are to be told; what has to be asked again, or ended by the metadata, stays in
/// `waiting`.
pub(crate) fn judged(
    response: AlterPartitionResponse,
    waiting: &mut BTreeMap<TopicIdPartition, ProposedIsr>,
) -> Vec<IsrAnswer> {
    let mut answers = Vec::new();
    if response.error_code != 0 {
        // Nobody is the controller, or this broker is not registered: the same wish may stand later.
        return answers;
    }
    for topic in response.topics {
        for result in topic.partitions {
            let partition = PartitionIndex(result.partition_index);
            let tip = TopicIdPartition { topic_id: topic.topic_id, partition };
            let Some(verdict) = verdict(result) else { continue };
            if let Some(proposal) = waiting.remove(&tip) {
                answers.push(answer(tip, &proposal, verdict));
            }
        }
    }
    answers
}

fn verdict(result: AlterPartitionResult) -> Option<IsrVerdict> {
    match ErrorCode::from_code(result.error_code) {
        ErrorCode::None => Some(IsrVerdict::Committed {
            isr: result.isr.into_iter().map(BrokerId).collect(),
            partition_epoch: result.partition_epoch,
        }),
        ErrorCode::IneligibleReplica
        | ErrorCode::InvalidRequest
        | ErrorCode::OperationNotAttempted => Some(IsrVerdict::Refused),
        // What says that the partition has moved on is seen by the metadata, sooner or later.
        _ => None,
    }
}

pub(crate) fn stale(tip: TopicIdPartition, proposal: &ProposedIsr) -> IsrAnswer {
    answer(tip, proposal, IsrVerdict::Stale)
}

fn answer(tip: TopicIdPartition, proposal: &ProposedIsr, verdict: IsrVerdict) -> IsrAnswer {
    let ProposedIsr { leader_epoch, partition_epoch, .. } = *proposal;
    IsrAnswer { partition: tip, leader_epoch, partition_epoch, verdict }
}

#[cfg(test)]
mod tests {
    use varve_protocol::messages::alter_partition::AlterPartitionTopicResponse;
    use varve_protocol::vocabulary::LeaderEpoch;

    use super::*;

    fn wish(partition: i32) -> (TopicIdPartition, ProposedIsr) {
        let partition = PartitionIndex(partition);
        let partition = TopicIdPartition { topic_id: TopicId(1), partition };
        let isr = BTreeMap::from([(BrokerId(1), -1), (BrokerId(2), 7)]);
        let leader_epoch = LeaderEpoch(3);
        (partition, ProposedIsr { partition, leader_epoch, partition_epoch: 4, isr })
    }

    #[test]
    fn all_wishes_are_one_request_and_each_has_its_verdict() {
        let mut waiting = BTreeMap::from([wish(0), wish(1), wish(2), wish(3)]);
        let request = request(BrokerId(1), 9, &waiting);
        assert_eq!((request.broker_epoch, request.topics.len()), (9, 1));
        let members = &request.topics[0].partitions[3].new_isr_with_epochs;
        let members: Vec<_> = members.iter().map(|one| (one.broker_id, one.broker_epoch)).collect();
        assert_eq!(members, [(1, 9), (2, 7)]);
        let result = |partition_index, code: ErrorCode| AlterPartitionResult {
            partition_index,
            error_code: code.code(),
            isr: vec![1, 2],
            partition_epoch: 5,
            ..AlterPartitionResult::default()
        };
        let partitions = vec![
            result(0, ErrorCode::None),
            result(1, ErrorCode::IneligibleReplica),
            result(2, ErrorCode::InvalidUpdateVersion),
            result(3, ErrorCode::NotController),
        ];
        let topics = vec![AlterPartitionTopicResponse { topic_id: TopicId(1), partitions }];
        let response = AlterPartitionResponse { topics, ..AlterPartitionResponse::default() };
        let verdicts: Vec<_> =
            judged(response, &mut waiting).into_iter().map(|answer| answer.verdict).collect();
        let isr = vec![BrokerId(1), BrokerId(2)];
        let committed = IsrVerdict::Committed { isr, partition_epoch: 5 };
        assert_eq!(verdicts, [committed, IsrVerdict::Refused]);
        // The answer of a controller that knows less than the leader ends no wish.
        assert_eq!(waiting.keys().map(|tip| tip.partition.0).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn a_refused_request_is_asked_again_as_a_whole() {
        let mut waiting = BTreeMap::from([wish(0)]);
        let error_code = ErrorCode::StaleBrokerEpoch.code();
        let response = AlterPartitionResponse { error_code, ..AlterPartitionResponse::default() };
        assert_eq!(judged(response, &mut waiting), []);
        assert_eq!(waiting.len(), 1);
    }
}
