//! The handlers of topics and configurations against what Apache Kafka 4.3.1 answered to the same
//! requests (recorded by hand-made requests to a cluster of three; here there is one broker).

use std::sync::Arc;

use varve_protocol::error_code::ErrorCode;
use varve_protocol::messages::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use varve_protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use varve_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use varve_protocol::messages::describe_cluster::DescribeClusterRequest;
use varve_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResult,
};
use varve_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use varve_protocol::messages::{alter_configs as alter, incremental_alter_configs as incremental};
use varve_protocol::vocabulary::TopicId;

use crate::metadata::tests::world::{MemoryHost, MemoryLog, with_metadata, with_metadata_of};
use crate::metadata::{CONSUMER_OFFSETS, MetadataHandle, NewTopic};
use crate::topic_config::StaticConfig;

/// Runs `script` with a topic `odd-a` of two partitions.
fn with_topic<F: Future<Output = ()>>(script: impl FnOnce(MetadataHandle) -> F) {
    with_metadata(&MemoryLog::default(), &Arc::new(MemoryHost::default()), async |handle| {
        let topic = NewTopic { partition_count: Some(2), ..NewTopic::named("odd-a") };
        handle.create_topics(vec![topic], false).await.unwrap().remove(0).unwrap();
        script(handle).await;
    });
}

fn creatable(name: &str, num_partitions: i32, replication_factor: i16) -> CreatableTopic {
    let name = name.to_owned();
    CreatableTopic { name, num_partitions, replication_factor, ..CreatableTopic::default() }
}

fn create_request(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest { topics, timeout_ms: 5_000, ..CreateTopicsRequest::default() }
}

#[test]
fn topics_are_created() {
    with_topic(async |handle| {
        let mut topic = creatable("new", -1, -1);
        let config = |name: &str, value: &str| CreatableTopicConfig {
            name: name.to_owned(),
            value: Some(value.to_owned()),
        };
        topic.configs = vec![config("cleanup.policy", "compact")];
        let response = super::create_topics::answer(&handle, create_request(vec![topic])).await;
        let [result] = &response.topics[..] else { panic!("{response:?}") };
        assert_eq!((result.error_code, &result.error_message), (0, &None));
        assert_eq!((result.num_partitions, result.replication_factor), (1, 1));
        assert_eq!(Some(result.topic_id), handle.image().topic_id("new"));
        let configs = result.configs.as_ref().unwrap();
        let policy = configs.iter().find(|config| config.name == "cleanup.policy").unwrap();
        assert_eq!((policy.value.as_deref(), policy.config_source), (Some("compact"), 1));
        assert_eq!(configs.iter().filter(|config| config.config_source == 5).count(), 34);
    });
}

#[test]
fn topics_that_cannot_be_created_are_told_one_by_one() {
    with_topic(async |handle| {
        let answer = async |topics| {
            let response = super::create_topics::answer(&handle, create_request(topics)).await;
            let code = |result: &varve_protocol::messages::create_topics::CreatableTopicResult| {
                (result.name.clone(), result.error_code, result.error_message.clone())
            };
            response.topics.iter().map(code).collect::<Vec<_>>()
        };
        let told = |name: &str, code: i16, message: &str| {
            (name.to_owned(), code, Some(message.to_owned()))
        };
        let both = vec![creatable("odd-dup", 1, 1), creatable("odd-dup", 1, 1)];
        assert_eq!(answer(both).await, [told("odd-dup", 42, "Duplicate topic name.")]);
        let exists = answer(vec![creatable("odd-a", 1, 1)]).await;
        assert_eq!(exists, [told("odd-a", 36, "Topic 'odd-a' already exists.")]);
        let mut manual = creatable("odd-z5", 1, 1);
        manual.assignments =
            vec![CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![1] }];
        let message = "A manual partition assignment was specified, but replication factor was not set to -1.";
        assert_eq!(answer(vec![manual]).await, [told("odd-z5", 42, message)]);
        assert_eq!(answer(Vec::new()).await, []);
        let request =
            CreateTopicsRequest { timeout_ms: 0, ..create_request(vec![creatable("t0", 1, 1)]) };
        let response = super::create_topics::answer(&handle, request).await;
        assert_eq!(response.topics[0].error_code, 7);
        assert_eq!(handle.image().topic_count(), 1);
    });
}

#[test]
fn topics_are_deleted_once() {
    with_topic(async |handle| {
        let answer = async |request| {
            let response = super::delete_topics::answer(&handle, request).await;
            let told = |result: &varve_protocol::messages::delete_topics::DeletableTopicResult| {
                (result.name.clone(), result.error_code, result.error_message.clone())
            };
            response.responses.iter().map(told).collect::<Vec<_>>()
        };
        let named = |names: &[&str]| DeleteTopicsRequest {
            topic_names: names.iter().map(|name| (*name).to_owned()).collect(),
            timeout_ms: 5_000,
            ..DeleteTopicsRequest::default()
        };
        let twice = answer(named(&["odd-unknown", "odd-a", "odd-a"])).await;
        let told = |name: &str, code: i16, message: &str| {
            (Some(name.to_owned()), code, Some(message.to_owned()))
        };
        assert_eq!(
            twice,
            [
                told("odd-a", 42, "Duplicate topic name."),
                told("odd-unknown", 3, "This server does not host this topic-partition."),
            ]
        );
        let id = handle.image().topic_id("odd-a").unwrap();
        let state = |name: Option<&str>, topic_id| DeleteTopicState {
            name: name.map(str::to_owned),
            topic_id,
        };
        let request = DeleteTopicsRequest {
            topics: vec![
                state(Some("odd-a"), id),
                state(None, TopicId::ZERO),
                state(None, TopicId(77)),
            ],
            timeout_ms: 5_000,
            ..DeleteTopicsRequest::default()
        };
        assert_eq!(
            answer(request).await,
            [
                told("odd-a", 42, "You may not specify both topic name and topic id."),
                (None, 42, Some("You must specify topic name or topic id.".to_owned())),
                (None, 100, Some("This server does not host this topic ID.".to_owned())),
            ]
        );
        let by_id = DeleteTopicsRequest {
            topics: vec![state(None, id)],
            timeout_ms: 5_000,
            ..DeleteTopicsRequest::default()
        };
        assert_eq!(answer(by_id).await, [(Some("odd-a".to_owned()), 0, None)]);
        assert_eq!(handle.image().topic_count(), 0);
    });
}

#[test]
fn the_topic_of_offsets_stays() {
    with_topic(async |handle| {
        handle
            .ensure_internal_topic(crate::metadata::InternalTopic::ConsumerOffsets)
            .await
            .unwrap();
        let request = DeleteTopicsRequest {
            topic_names: vec![CONSUMER_OFFSETS.to_owned()],
            timeout_ms: 5_000,
            ..DeleteTopicsRequest::default()
        };
        let response = super::delete_topics::answer(&handle, request).await;
        assert_eq!(response.responses[0].error_code, 42);
        assert!(handle.image().topic(CONSUMER_OFFSETS).is_some());
    });
}

#[test]
fn partitions_are_added() {
    with_topic(async |handle| {
        let topic = |name: &str, count| CreatePartitionsTopic {
            name: name.to_owned(),
            count,
            assignments: None,
        };
        let answer = async |topics| {
            let request =
                CreatePartitionsRequest { topics, timeout_ms: 5_000, validate_only: false };
            let response = super::create_partitions::answer(&handle, request).await;
            let told = response.results.into_iter();
            told.map(|result| (result.name, result.error_code, result.error_message))
                .collect::<Vec<_>>()
        };
        let told =
            |code: i16, message: &str| vec![("odd-a".to_owned(), code, Some(message.to_owned()))];
        let fewer = "The topic odd-a currently has 2 partition(s); 1 would not be an increase.";
        assert_eq!(answer(vec![topic("odd-a", 1)]).await, told(37, fewer));
        assert_eq!(
            answer(vec![topic("odd-a", 2)]).await,
            told(37, "Topic already has 2 partition(s).")
        );
        let few = CreatePartitionsTopic {
            assignments: Some(vec![CreatePartitionsAssignment { broker_ids: vec![1] }]),
            ..topic("odd-a", 4)
        };
        let message =
            "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.";
        assert_eq!(answer(vec![few]).await, told(39, message));
        let twice = vec![topic("odd-a", 3), topic("odd-a", 3)];
        assert_eq!(answer(twice).await, told(42, "Duplicate topic name."));
        assert_eq!(
            answer(vec![topic("odd-unknown", 3)]).await,
            [("odd-unknown".to_owned(), 3, None)]
        );
        assert_eq!(answer(vec![topic("odd-a", 3)]).await, [("odd-a".to_owned(), 0, None)]);
        assert_eq!(handle.image().topic("odd-a").unwrap().partitions.len(), 3);
    });
}

async fn metadata(
    handle: &MetadataHandle,
    version: i16,
    names: &[&str],
    create: bool,
) -> MetadataResponse {
    let topic = |name: &&str| MetadataRequestTopic {
        name: Some((*name).to_owned()),
        topic_id: TopicId::ZERO,
    };
    let request = MetadataRequest {
        topics: Some(names.iter().map(topic).collect()),
        allow_auto_topic_creation: create,
        ..MetadataRequest::default()
    };
    super::metadata::answer(handle, "kafka", version, request).await
}

#[test]
fn metadata_tells_topics_and_brokers() {
    with_topic(async |handle| {
        let response = metadata(&handle, 12, &["odd-a", "odd-a", "nosuch"], false).await;
        assert_eq!(response.cluster_id.as_deref(), Some("AAAAAAAAAAAAAAAAAAAAAQ"));
        assert_eq!(response.controller_id, 1);
        assert_eq!(response.brokers.len(), 1);
        assert_eq!(
            (response.brokers[0].host.as_str(), response.brokers[0].port),
            ("127.0.0.1", 9092)
        );
        let [known, unknown] = &response.topics[..] else { panic!("{response:?}") };
        assert_eq!((known.error_code, known.partitions.len()), (0, 2));
        assert_eq!(Some(known.topic_id), handle.image().topic_id("odd-a"));
        assert_eq!(known.topic_authorized_operations, i32::MIN);
        let partition = &known.partitions[1];
        assert_eq!(
            (partition.partition_index, partition.leader_id, partition.leader_epoch),
            (1, 1, 0)
        );
        assert_eq!((&partition.replica_nodes, &partition.isr_nodes), (&vec![1], &vec![1]));
        assert_eq!((unknown.error_code, unknown.name.as_deref()), (3, Some("nosuch")));
        assert!(handle.image().topic("nosuch").is_none());
    });
}

#[test]
fn metadata_of_all_and_of_none() {
    with_topic(async |handle| {
        let answer = async |version, topics| {
            let request = MetadataRequest { topics, ..MetadataRequest::default() };
            super::metadata::answer(&handle, "kafka", version, request).await.topics.len()
        };
        assert_eq!(answer(0, Some(Vec::new())).await, 1, "v0 had no null");
        assert_eq!(answer(1, Some(Vec::new())).await, 0);
        assert_eq!(answer(1, None).await, 1);
        assert_eq!(answer(12, None).await, 1);
    });
}

#[test]
fn metadata_by_id() {
    with_topic(async |handle| {
        let id = handle.image().topic_id("odd-a").unwrap();
        let answer = async |version, topic_id, name: Option<&str>| {
            let topic = MetadataRequestTopic { topic_id, name: name.map(str::to_owned) };
            let request =
                MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
            let response = super::metadata::answer(&handle, "kafka", version, request).await;
            (response.topics[0].error_code, response.topics[0].name.clone())
        };
        let known = || Some("odd-a".to_owned());
        assert_eq!(answer(12, id, None).await, (0, known()));
        assert_eq!(answer(12, id, Some("another")).await, (0, known()));
        assert_eq!(answer(12, TopicId(18), None).await, (100, None));
        assert_eq!(answer(12, TopicId::ZERO, None).await, (-1, Some(String::new())));
        assert_eq!(answer(11, id, None).await, (42, Some(String::new())));
    });
}

#[test]
fn metadata_creates_what_is_asked_for() {
    with_topic(async |handle| {
        let response = metadata(&handle, 12, &["auto", "a b", "odd_a", "auto.2"], true).await;
        let codes: Vec<_> = response.topics.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [0, 17, 0, 0]);
        assert_eq!(response.topics[0].partitions.len(), 1);
        let collides = metadata(&handle, 12, &["auto_2"], true).await;
        assert_eq!(collides.topics[0].error_code, 17);
        let offsets = metadata(&handle, 12, &[CONSUMER_OFFSETS], true).await;
        assert_eq!(offsets.topics[0].partitions.len(), 50);
        assert!(offsets.topics[0].is_internal);
    });
    let mut fixed = StaticConfig::default();
    fixed.set("auto.create.topics.enable", "false");
    with_metadata_of(
        &MemoryLog::default(),
        &Arc::new(MemoryHost::default()),
        fixed,
        async |handle| {
            let response = metadata(&handle, 12, &["auto"], true).await;
            assert_eq!(response.topics[0].error_code, 3);
            assert_eq!(handle.image().topic_count(), 0);
        },
    );
}

#[test]
fn metadata_tells_operations_where_asked() {
    with_topic(async |handle| {
        let request = MetadataRequest {
            topics: None,
            include_cluster_authorized_operations: true,
            include_topic_authorized_operations: true,
            ..MetadataRequest::default()
        };
        let response = super::metadata::answer(&handle, "kafka", 10, request).await;
        assert_eq!(response.cluster_authorized_operations, 8096);
        assert_eq!(response.topics[0].topic_authorized_operations, 3576);
    });
}

fn describe(
    handle: &MetadataHandle,
    kind: i8,
    name: &str,
    keys: Option<&[&str]>,
) -> DescribeConfigsResult {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: kind,
            resource_name: name.to_owned(),
            configuration_keys: keys.map(|keys| keys.iter().map(|key| (*key).to_owned()).collect()),
        }],
        include_synonyms: true,
        include_documentation: true,
    };
    super::describe_configs::answer(handle, request).results.remove(0)
}

#[test]
fn configurations_are_described() {
    with_topic(async |handle| {
        let chosen = describe(&handle, 2, "odd-a", Some(&["retention.ms", "no.such"]));
        let [entry] = &chosen.configs[..] else { panic!("{chosen:?}") };
        assert_eq!((chosen.error_code, chosen.error_message.as_deref()), (0, Some("")));
        assert_eq!(
            (entry.name.as_str(), entry.value.as_deref()),
            ("retention.ms", Some("604800000"))
        );
        assert_eq!((entry.config_source, entry.config_type), (5, 5));
        assert_eq!(entry.synonyms[0].name, "log.retention.ms");
        assert!(entry.documentation.as_ref().is_some_and(|text| !text.is_empty()));
        assert_eq!(describe(&handle, 2, "odd-a", None).configs.len(), 35);
        assert_eq!(describe(&handle, 2, "odd-a", Some(&[])).configs.len(), 35);
        let broker = describe(&handle, 4, "1", None);
        assert!(
            broker.configs.iter().any(|config| config.name == "num.partitions" && config.read_only)
        );
        assert!(describe(&handle, 4, "", None).configs.is_empty());
    });
}

#[test]
fn a_resource_is_described_once() {
    with_topic(async |handle| {
        let resource = || DescribeConfigsResource {
            resource_type: 2,
            resource_name: "odd-a".to_owned(),
            configuration_keys: None,
        };
        let request = DescribeConfigsRequest {
            resources: vec![resource(), resource()],
            ..DescribeConfigsRequest::default()
        };
        let response = super::describe_configs::answer(&handle, request);
        let told = response.results.iter().map(|told| (told.error_code, told.configs.len()));
        assert_eq!(told.collect::<Vec<_>>(), [(0, 35), (42, 0)]);
    });
}

#[test]
fn messages_fit_every_version() {
    with_topic(async |handle| {
        let long = "ä".repeat(16_000);
        let request = alter::AlterConfigsRequest {
            resources: vec![replace(2, "odd-a", &[(&long, Some("1"))])],
            validate_only: false,
        };
        let response = super::alter_configs::answer(&handle, request).await;
        let message = response.responses[0].error_message.clone().unwrap();
        assert!(message.starts_with("Unknown topic config name: ä") && message.len() < 2_100);
    });
}

#[test]
fn resources_that_cannot_be_described() {
    with_topic(async |handle| {
        let told = |kind, name| {
            let result = describe(&handle, kind, name, None);
            assert!(result.configs.is_empty());
            (result.error_code, result.error_message.unwrap())
        };
        assert_eq!(told(2, "odd-unknown").0, 3);
        assert_eq!(
            told(2, "a b"),
            (
                17,
                "Topic name is invalid: 'a b' contains one or more characters other than ASCII \
                 alphanumerics, '.', '_' and '-'"
                    .to_owned()
            )
        );
        for kind in [0, 99, 8] {
            assert_eq!(told(kind, "x").0, 42);
        }
        // Groups and client metrics are Kafka's, and have no keys here.
        for kind in [16, 32] {
            assert_eq!(told(kind, "x").0, 0);
            assert_eq!(told(kind, "").0, 42);
        }
        let other = "Unexpected broker id, expected 1 or empty string, but received 2";
        assert_eq!(told(4, "2"), (42, other.to_owned()));
        let text = "Broker id must be an integer, but it is: abc";
        assert_eq!(told(4, "abc"), (42, text.to_owned()));
    });
}

fn replace(kind: i8, name: &str, configs: &[(&str, Option<&str>)]) -> alter::AlterConfigsResource {
    let config = |(name, value): &(&str, Option<&str>)| alter::AlterableConfig {
        name: (*name).to_owned(),
        value: value.map(str::to_owned),
    };
    alter::AlterConfigsResource {
        resource_type: kind,
        resource_name: name.to_owned(),
        configs: configs.iter().map(config).collect(),
    }
}

#[test]
fn configurations_are_replaced() {
    with_topic(async |handle| {
        let answer = async |resource| {
            let request =
                alter::AlterConfigsRequest { resources: vec![resource], validate_only: false };
            let response = super::alter_configs::answer(&handle, request).await;
            let told = &response.responses[0];
            (told.error_code, told.error_message.clone())
        };
        let value = || {
            let found = describe(&handle, 2, "odd-a", Some(&["retention.ms"]));
            (found.configs[0].value.clone().unwrap(), found.configs[0].config_source)
        };
        let set = replace(2, "odd-a", &[("retention.ms", Some("86400000"))]);
        assert_eq!(answer(set).await, (0, None));
        assert_eq!(value(), ("86400000".to_owned(), 1));
        let told = |code: i16, message: &str| (code, Some(message.to_owned()));
        assert_eq!(
            answer(replace(2, "odd-a", &[("retention.ms", Some("x"))])).await,
            told(40, "Invalid value x for configuration retention.ms: Not a number of type LONG")
        );
        assert_eq!(
            answer(replace(2, "odd-a", &[("no.such", Some("x"))])).await,
            told(40, "Unknown topic config name: no.such")
        );
        assert_eq!(
            answer(replace(2, "odd-a", &[("retention.ms", None)])).await,
            told(42, "Null value not supported for : retention.ms")
        );
        assert_eq!(
            answer(replace(
                2,
                "odd-a",
                &[("retention.ms", Some("1")), ("retention.ms", Some("2"))]
            ))
            .await,
            told(42, "Error due to duplicate config keys")
        );
        assert_eq!(
            answer(replace(2, "odd-unknown", &[("retention.ms", Some("1"))])).await,
            told(3, "The topic 'odd-unknown' does not exist.")
        );
        assert_eq!(answer(replace(99, "x", &[])).await, told(42, "Unknown resource type 99"));
        assert_eq!(answer(replace(2, "odd-a", &[])).await, (0, None));
        assert_eq!(value(), ("604800000".to_owned(), 5));
    });
}

#[test]
fn configurations_are_edited() {
    with_topic(async |handle| {
        let resource = |configs: &[(&str, i8, Option<&str>)]| incremental::AlterConfigsResource {
            resource_type: 2,
            resource_name: "odd-a".to_owned(),
            configs: configs
                .iter()
                .map(|(name, config_operation, value)| incremental::AlterableConfig {
                    name: (*name).to_owned(),
                    config_operation: *config_operation,
                    value: value.map(str::to_owned),
                })
                .collect(),
        };
        let answer = async |resources, validate_only| {
            let request = incremental::IncrementalAlterConfigsRequest { resources, validate_only };
            let response = super::incremental_alter_configs::answer(&handle, request).await;
            let told = response.responses.into_iter();
            told.map(|told| (told.error_code, told.error_message)).collect::<Vec<_>>()
        };
        let value =
            |key| describe(&handle, 2, "odd-a", Some(&[key])).configs[0].value.clone().unwrap();
        let one = |configs| vec![resource(configs)];
        assert_eq!(answer(one(&[("cleanup.policy", 2, Some("compact"))]), true).await, [(0, None)]);
        assert_eq!(value("cleanup.policy"), "delete", "only validated");
        assert_eq!(
            answer(one(&[("cleanup.policy", 2, Some("compact"))]), false).await,
            [(0, None)]
        );
        assert_eq!(value("cleanup.policy"), "delete,compact");
        assert_eq!(answer(one(&[("cleanup.policy", 3, Some("delete"))]), false).await, [(0, None)]);
        assert_eq!(value("cleanup.policy"), "compact");
        assert_eq!(answer(one(&[("cleanup.policy", 1, None)]), false).await, [(0, None)]);
        assert_eq!(value("cleanup.policy"), "delete");
        assert_eq!(answer(one(&[]), false).await, [(0, None)]);
        assert_eq!(answer(one(&[("retention.ms", 9, Some("1"))]), false).await[0].0, -1);
        let null = "Null value not supported for : retention.ms";
        assert_eq!(
            answer(one(&[("retention.ms", 0, None)]), false).await,
            [(42, Some(null.to_owned()))]
        );
        let twice = [("retention.ms", 0, Some("5000")), ("retention.ms", 1, None)];
        let duplicate = "Error due to duplicate config keys";
        assert_eq!(answer(one(&twice), false).await, [(42, Some(duplicate.to_owned()))]);
        let set = resource(&[("retention.ms", 0, Some("7777777"))]);
        let once = (42, Some("Each resource must appear at most once.".to_owned()));
        assert_eq!(answer(vec![set.clone(), set], false).await, [once.clone(), once]);
        assert_eq!(value("retention.ms"), "604800000");
    });
}

#[test]
fn the_cluster_is_described() {
    with_topic(async |handle| {
        let answer = |endpoint_type| {
            let request = DescribeClusterRequest {
                endpoint_type,
                include_cluster_authorized_operations: true,
                ..DescribeClusterRequest::default()
            };
            super::describe_cluster::answer(&handle, "kafka", &request)
        };
        let response = answer(1);
        assert_eq!((response.error_code, response.controller_id), (0, 1));
        assert_eq!(response.cluster_id, handle.image().cluster_id());
        assert_eq!(response.cluster_authorized_operations, 8096);
        assert_eq!(response.brokers.len(), 1);
        assert_eq!(answer(2).error_code, ErrorCode::MismatchedEndpointType.code());
        assert_eq!(answer(9).error_code, ErrorCode::UnsupportedEndpointType.code());
        assert_eq!(answer(9).error_message.as_deref(), Some("Unsupported endpoint type 9"));
    });
}

#[test]
fn the_quorum_is_told_by_the_controller() {
    use varve_protocol::messages::describe_quorum::{
        DescribeQuorumRequest, PartitionData, TopicData,
    };
    let request = |topic_name: &str| DescribeQuorumRequest {
        topics: vec![TopicData {
            topic_name: topic_name.to_owned(),
            partitions: vec![PartitionData { partition_index: 0 }],
        }],
    };
    with_topic(async |handle| {
        let told = super::describe_quorum::answer(&handle, 7, &request("__cluster_metadata"));
        let partition = &told.topics[0].partitions[0];
        assert_eq!((partition.error_code, partition.leader_id), (0, 1));
        assert_eq!(partition.high_watermark, partition.current_voters[0].log_end_offset);
        assert_eq!(partition.current_voters[0].last_caught_up_timestamp, 7);
        assert_eq!(told.nodes.len(), 1);
        let told = super::describe_quorum::answer(&handle, 7, &request("odd-a"));
        assert_eq!(told.topics[0].partitions[0].error_code, 3);
        assert!(told.nodes.is_empty());
    });
}

#[test]
fn nothing_is_being_moved() {
    use varve_protocol::messages::ListPartitionReassignmentsRequest;
    with_topic(async |handle| {
        let all = ListPartitionReassignmentsRequest { topics: None, timeout_ms: 3_000 };
        let told = super::list_partition_reassignments::answer(&handle.image(), &all);
        assert_eq!((told.error_code, told.topics.len()), (0, 0));
    });
}
