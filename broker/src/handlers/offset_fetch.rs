//! OffsetFetch (API 9): a group's positions.
//!
//! `require_stable` is taken and means nothing as long as there are no transactional commits.

use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchResponse, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};

use super::RequestContext;
use crate::broker::Broker;
use crate::groups::{Committed, Offsets};

/// The first version that asks for several groups (KIP-709).
const BATCH_VERSION_MIN: i16 = 8;
/// The first version with an error for the whole group.
const GROUP_ERROR_VERSION_MIN: i16 = 2;

/// Topics and partitions asked for; `None` is all of them.
type Wanted = Option<Vec<(String, Vec<i32>)>>;
/// What was found, in the order asked for.
type Found = Vec<(String, Vec<(i32, Position)>)>;

#[derive(Clone)]
struct Position {
    offset: i64,
    leader_epoch: i32,
    metadata: String,
}

impl Position {
    /// Nothing was committed.
    const fn none() -> Self {
        Self { offset: -1, leader_epoch: -1, metadata: String::new() }
    }

    fn of(committed: &Committed) -> Self {
        Self {
            offset: committed.offset,
            leader_epoch: committed.leader_epoch,
            metadata: committed.metadata.clone(),
        }
    }
}

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    context.remotely(broker.until_up_to_date()).await;
    let response = answer(broker, context.api_version, request).await;
    let of_groups = response.groups.iter().map(|group| group.error_code);
    let codes = of_groups.chain(response.groups.is_empty().then_some(response.error_code));
    // A coordinator that is cut off does not know of what its successor committed. There is no error
    // that makes every client look for that one; librdkafka asks nobody again (its issue 5586). The end of
    // the connection does.
    let mut told = codes.clone().filter(|code| *code == ErrorCode::None.code());
    if !broker.is_up_to_date() && told.next().is_some() {
        context.note_error(ErrorCode::NotCoordinator);
        context.hang_up();
    }
    context.note_codes(codes);
    response
}

async fn answer(
    broker: &Arc<Broker>,
    version: i16,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    if version < BATCH_VERSION_MIN {
        return handle_single(broker, version, request).await;
    }
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        let wanted: Wanted = group.topics.map(|topics| {
            topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect()
        });
        let (found, error) = match fetch(broker, &group.group_id, wanted).await {
            Ok(found) => (found, ErrorCode::None),
            Err(error) => (Vec::new(), error),
        };
        let topics = found.into_iter().map(|(name, partitions)| OffsetFetchResponseTopics {
            name,
            partitions: partitions.into_iter().map(batch_partition).collect(),
            ..Default::default()
        });
        groups.push(OffsetFetchResponseGroup {
            group_id: group.group_id,
            topics: topics.collect(),
            error_code: error.code(),
        });
    }
    OffsetFetchResponse { groups, ..Default::default() }
}

fn batch_partition((partition_index, position): (i32, Position)) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: position.offset,
        committed_leader_epoch: position.leader_epoch,
        metadata: Some(position.metadata),
        ..Default::default()
    }
}

async fn handle_single(
    broker: &Arc<Broker>,
    version: i16,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let wanted: Wanted = request.topics.map(|topics| {
        topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect()
    });
    let (found, error) = match fetch(broker, &request.group_id, wanted.clone()).await {
        Ok(found) => (found, ErrorCode::None),
        Err(error) if version >= GROUP_ERROR_VERSION_MIN => (Vec::new(), error),
        // Version 1 can only say it for each partition.
        Err(error) => {
            let none = |(name, partitions): (String, Vec<i32>)| {
                let partitions = partitions.into_iter();
                (name, partitions.map(|index| (index, Position::none())).collect())
            };
            (wanted.unwrap_or_default().into_iter().map(none).collect(), error)
        }
    };
    let topics = found.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(partition_index, position)| {
            OffsetFetchResponsePartition {
                partition_index,
                committed_offset: position.offset,
                committed_leader_epoch: position.leader_epoch,
                metadata: Some(position.metadata),
                error_code: error.code(),
            }
        });
        OffsetFetchResponseTopic { name, partitions: partitions.collect() }
    });
    let topics = topics.collect();
    OffsetFetchResponse { topics, error_code: error.code(), ..Default::default() }
}

async fn fetch(broker: &Arc<Broker>, group_id: &str, wanted: Wanted) -> Result<Found, ErrorCode> {
    let is_live =
        |topic: &str, committed: &Committed| broker.groups.is_live(topic, committed.topic_id);
    let step = broker.groups.step(group_id, |core, _| {
        let empty = Offsets::default();
        let offsets = core.group(group_id)?.map_or(&empty, |group| group.offsets());
        Ok(match &wanted {
            Some(wanted) => pick(offsets, wanted, is_live),
            None => all(offsets, is_live),
        })
    });
    match step.await {
        Ok(found) => found,
        // Before anybody has made a coordinator nothing was committed. In a cluster this broker may
        // only not know of it yet.
        Err(ErrorCode::CoordinatorNotAvailable) if broker.metadata.load().broker_count() <= 1 => {
            Ok(pick(&Offsets::default(), &wanted.unwrap_or_default(), is_live))
        }
        Err(error) => Err(error),
    }
}

fn pick(
    offsets: &Offsets,
    wanted: &[(String, Vec<i32>)],
    is_live: impl Fn(&str, &Committed) -> bool,
) -> Found {
    let position = |topic: &str, partition: i32| {
        let committed = offsets.get(topic, partition).filter(|it| is_live(topic, it));
        committed.map_or_else(Position::none, Position::of)
    };
    let topics = wanted.iter().map(|(topic, partitions)| {
        let partitions = partitions.iter().map(|index| (*index, position(topic, *index)));
        (topic.clone(), partitions.collect())
    });
    topics.collect()
}

fn all(offsets: &Offsets, is_live: impl Fn(&str, &Committed) -> bool) -> Found {
    let mut found: Found = Vec::new();
    for (topic, partition, committed) in offsets.iter() {
        if !is_live(topic, committed) {
            continue;
        }
        let position = (partition, Position::of(committed));
        match found.last_mut().filter(|(last, _)| last == topic) {
            Some((_, partitions)) => partitions.push(position),
            None => found.push((topic.to_owned(), vec![position])),
        }
    }
    found
}
