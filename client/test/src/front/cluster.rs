//! What the metadata decides: topics, configuration, who leads, who coordinates, producer ids.
//!
//! Changes go to the controller, as they do in a broker that hands them on; if none is reached the broker that was asked
//! refuses them.

use varve_broker::groups::partition_of;
use varve_broker::metadata::{
    Applied, CONSUMER_OFFSETS, ChangeError, MetadataChange, MetadataImage, NewTopic,
    check_topic_name, is_internal_topic,
};
use varve_broker::simulation::{ClusterAnswer, ClusterQuestion};
use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::describe_cluster::DescribeClusterBroker;
use varve_protocol::messages::find_coordinator::Coordinator;
use varve_protocol::messages::metadata::MetadataResponseBroker;
use varve_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, FindCoordinatorRequest, FindCoordinatorResponse,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, InitProducerIdResponse, MetadataRequest,
};
use varve_protocol::vocabulary::{BrokerId, TopicId};

use super::Kind;
use crate::address;
use crate::world::{World, index_of};

/// Partitions of the topic that groups are kept in: enough for several coordinators, few enough for many quick elections.
const GROUP_PARTITIONS: i32 = 6;
/// How long FindCoordinator waits for the topic to be made, or for a leader to be elected.
const FIND_US: u64 = 2_000_000;
/// The kind of keys that are groups.
const GROUP: i8 = 0;

impl World {
    pub(super) fn metadata(&mut self, number: u64, mut request: MetadataRequest) {
        let Some(broker) = self.broker(number) else { return };
        let image = broker.metadata().image;
        let may_create = std::mem::take(&mut request.allow_auto_topic_creation);
        let missing = match may_create {
            true => missing_topics(&image, &request),
            false => Vec::new(),
        };
        if missing.is_empty() {
            let version = self.version(number);
            return self.ask_cluster(number, false, ClusterQuestion::Metadata(version, request));
        }
        let topics = missing.into_iter().map(|name| NewTopic {
            partition_count: Some(1),
            replication_factor: Some(self.options.replicas()),
            ..NewTopic::named(name)
        });
        let topics = topics.collect();
        self.wait_for(number, Kind::Create(request));
        self.change(number, MetadataChange::CreateTopics { topics, validate_only: false });
    }

    pub(super) fn create_topics(&mut self, number: u64, mut request: CreateTopicsRequest) {
        for topic in &mut request.topics {
            // -1: the cluster's default.
            if topic.assignments.is_empty() && topic.replication_factor == -1 {
                topic.replication_factor = self.options.replicas();
            }
        }
        self.ask_cluster(number, true, ClusterQuestion::CreateTopics(request));
    }

    pub(super) fn delete_topics(&mut self, number: u64, request: DeleteTopicsRequest) {
        self.ask_cluster(number, true, ClusterQuestion::DeleteTopics(request));
    }

    pub(super) fn create_partitions(&mut self, number: u64, request: CreatePartitionsRequest) {
        self.ask_cluster(number, true, ClusterQuestion::CreatePartitions(request));
    }

    pub(super) fn describe_configs(&mut self, number: u64, request: DescribeConfigsRequest) {
        self.ask_cluster(number, false, ClusterQuestion::DescribeConfigs(request));
    }

    pub(super) fn alter_configs(&mut self, number: u64, request: IncrementalAlterConfigsRequest) {
        self.ask_cluster(number, true, ClusterQuestion::IncrementalAlterConfigs(request));
    }

    pub(super) fn describe_cluster(&mut self, number: u64, request: DescribeClusterRequest) {
        self.ask_cluster(number, false, ClusterQuestion::DescribeCluster(request));
    }

    pub(super) fn init_producer_id(&mut self, number: u64, request: InitProducerIdRequest) {
        if request.transactional_id.is_some() {
            let response = InitProducerIdResponse {
                error_code: ErrorCode::TransactionalIdAuthorizationFailed.code(),
                producer_epoch: -1,
                ..Default::default()
            };
            return self.answer(number, &response);
        }
        let Some((index, _)) = self.front.requests.get(&number).map(|it| it.machine) else {
            return;
        };
        // A block for each producer: there are more ids than a test can ask for.
        let change = MetadataChange::AllocateProducerIds(self.machines[index].id);
        self.wait_for(number, Kind::ProducerId);
        self.change(number, change);
    }

    pub(super) fn find_coordinator(&mut self, number: u64, request: FindCoordinatorRequest) {
        let keys = request.coordinator_keys;
        if request.key_type != GROUP {
            let refuse = |key| no_coordinator(key, ErrorCode::InvalidRequest);
            let coordinators = keys.into_iter().map(refuse).collect();
            let response = FindCoordinatorResponse { coordinators, ..Default::default() };
            return self.answer(number, &response);
        }
        let Some(broker) = self.broker(number) else { return };
        let is_missing = broker.metadata().image.topic(CONSUMER_OFFSETS).is_none();
        self.overdue_after(number, FIND_US);
        self.wait_for(number, Kind::Find(keys));
        if is_missing {
            let config = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
            let topic = NewTopic {
                partition_count: Some(GROUP_PARTITIONS),
                replication_factor: Some(self.options.replicas()),
                configs: vec![
                    config("cleanup.policy", "compact"),
                    config("compression.type", "producer"),
                ],
                ..NewTopic::named(CONSUMER_OFFSETS)
            };
            let topics = vec![topic];
            self.change(number, MetadataChange::CreateTopics { topics, validate_only: false });
        }
        self.look(number, false);
    }

    pub(super) fn look_for_coordinators(
        &mut self,
        number: u64,
        keys: Vec<String>,
        is_overdue: bool,
    ) {
        let Some(broker) = self.broker(number) else { return };
        let image = broker.metadata().image;
        let found: Vec<_> =
            keys.iter().map(|key| (key.clone(), coordinator(&image, key))).collect();
        if !is_overdue && found.iter().any(|(_, leader)| leader.is_none()) {
            return self.wait_for(number, Kind::Find(keys));
        }
        let coordinators = found.into_iter().map(|(key, leader)| match leader {
            Some(leader) => Coordinator {
                key,
                node_id: leader.0,
                host: address::host(leader),
                port: i32::from(address::PORT),
                error_message: None,
                ..Default::default()
            },
            None => no_coordinator(key, ErrorCode::CoordinatorNotAvailable),
        });
        let coordinators = coordinators.collect();
        let response = FindCoordinatorResponse { coordinators, ..Default::default() };
        self.answer(number, &response);
    }

    /// Asks the broker that was asked, or the one that decides.
    fn ask_cluster(&mut self, number: u64, must_decide: bool, question: ClusterQuestion) {
        if let Some(request) = self.front.requests.get_mut(&number)
            && matches!(request.kind, Kind::New)
        {
            request.kind = Kind::Cluster;
        }
        let Some((index, run)) = self.asked(number, must_decide) else { return };
        let part = self.front.part(number, 0);
        self.step(index, run, "ask", |broker| broker.ask_cluster(part, question));
    }

    fn change(&mut self, number: u64, change: MetadataChange) {
        let Some((index, run)) = self.asked(number, true) else { return };
        let part = self.front.part(number, 0);
        self.step(index, run, "change", |broker| broker.change(part, change));
    }

    /// The machine to ask, and the run of its process.
    fn asked(&mut self, number: u64, must_decide: bool) -> Option<(usize, u64)> {
        let (index, run) = self.front.requests.get(&number)?.machine;
        if !must_decide {
            return Some((index, run));
        }
        let controller = self.broker(number)?.metadata().controller.map(index_of);
        let is_reached = |other: &usize| {
            self.machines[*other].broker.is_some()
                && !self.network.is_stalled(index, *other)
                && !self.network.is_stalled(*other, index)
        };
        let decides = controller.filter(is_reached).unwrap_or(index);
        self.front.requests.get_mut(&number)?.decides = Some(decides);
        Some((decides, self.machines[decides].run))
    }

    pub(crate) fn on_answered(&mut self, part: u64, answer: ClusterAnswer) {
        let Some((number, _)) = self.take_part(part) else { return };
        match answer {
            ClusterAnswer::Metadata(mut response) => {
                let Some(broker) = self.broker(number) else { return };
                let image = broker.metadata().image;
                let alive = image.brokers().filter(|broker| !broker.is_fenced);
                let brokers = alive.map(|broker| MetadataResponseBroker {
                    node_id: broker.id.0,
                    host: address::host(broker.id),
                    port: i32::from(address::PORT),
                    rack: broker.rack.clone(),
                });
                response.brokers = brokers.collect();
                self.answer(number, &response);
            }
            ClusterAnswer::DescribeCluster(mut response) => {
                for DescribeClusterBroker { broker_id, host, port, .. } in &mut response.brokers {
                    *host = address::host(BrokerId(*broker_id));
                    *port = i32::from(address::PORT);
                }
                self.answer(number, &response);
            }
            ClusterAnswer::CreateTopics(response) => self.answer(number, &response),
            ClusterAnswer::DeleteTopics(response) => self.answer(number, &response),
            ClusterAnswer::CreatePartitions(response) => self.answer(number, &response),
            ClusterAnswer::DescribeConfigs(response) => self.answer(number, &response),
            ClusterAnswer::IncrementalAlterConfigs(response) => self.answer(number, &response),
        }
    }

    pub(crate) fn on_changed(&mut self, part: u64, result: Result<Applied, ChangeError>) {
        let Some((number, _)) = self.take_part(part) else { return };
        let Some(request) = self.front.requests.get_mut(&number) else { return };
        match std::mem::replace(&mut request.kind, Kind::Cluster) {
            Kind::Create(request) => {
                // The controller knows them first. What could not be made is not there, which is the answer.
                let version = self.version(number);
                self.ask_cluster(number, true, ClusterQuestion::Metadata(version, request));
            }
            Kind::ProducerId => {
                let response = match result {
                    Ok(Applied::ProducerIds(block)) => {
                        InitProducerIdResponse { producer_id: block.start.0, ..Default::default() }
                    }
                    _ => InitProducerIdResponse {
                        error_code: ErrorCode::CoordinatorNotAvailable.code(),
                        producer_epoch: -1,
                        ..Default::default()
                    },
                };
                self.answer(number, &response);
            }
            other => request.kind = other,
        }
    }
}

/// Topics that are named and do not exist, and could.
fn missing_topics(image: &MetadataImage, request: &MetadataRequest) -> Vec<String> {
    let named = request.topics.iter().flatten().filter(|topic| topic.topic_id == TopicId::ZERO);
    let names = named.filter_map(|topic| topic.name.as_deref());
    let is_missing = |name: &&str| {
        check_topic_name(name).is_ok() && !is_internal_topic(name) && image.topic(name).is_none()
    };
    names.filter(is_missing).map(str::to_owned).collect()
}

/// Who leads the group's partition, as far as this image shows.
pub(crate) fn coordinator(image: &MetadataImage, group: &str) -> Option<BrokerId> {
    let topic = image.topic(CONSUMER_OFFSETS)?;
    let index = usize::try_from(partition_of(group, topic.partition_count())).ok()?;
    let leader = topic.partitions.get(index)?.leader?;
    image.broker(leader).filter(|leader| !leader.is_fenced).map(|leader| leader.id)
}

fn no_coordinator(key: String, error: ErrorCode) -> Coordinator {
    Coordinator {
        key,
        node_id: -1,
        port: -1,
        error_code: error.code(),
        error_message: Some("The coordinator is not available.".to_owned()),
        ..Default::default()
    }
}
