//! Requests that the metadata alone decides, answered by the handlers that a broker runs.

use varve_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, DescribeClusterRequest, DescribeClusterResponse,
    DescribeConfigsRequest, DescribeConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, MetadataRequest, MetadataResponse,
};

use crate::handlers::{
    create_partitions, create_topics, delete_topics, describe_cluster, describe_configs,
    incremental_alter_configs, metadata,
};
use crate::metadata::{KAFKA_LISTENER, MetadataHandle};

/// Such a request; those that change something are the controller's business.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the variants are the requests' names")]
pub enum ClusterQuestion {
    /// With the version, which decides how topics are named.
    Metadata(i16, MetadataRequest),
    CreateTopics(CreateTopicsRequest),
    DeleteTopics(DeleteTopicsRequest),
    CreatePartitions(CreatePartitionsRequest),
    DescribeCluster(DescribeClusterRequest),
    DescribeConfigs(DescribeConfigsRequest),
    IncrementalAlterConfigs(IncrementalAlterConfigsRequest),
}

/// The answer to a [`ClusterQuestion`] of the same name. Brokers in it have no addresses: nobody listens.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the variants are the responses' names")]
pub enum ClusterAnswer {
    Metadata(MetadataResponse),
    CreateTopics(CreateTopicsResponse),
    DeleteTopics(DeleteTopicsResponse),
    CreatePartitions(CreatePartitionsResponse),
    DescribeCluster(DescribeClusterResponse),
    DescribeConfigs(DescribeConfigsResponse),
    IncrementalAlterConfigs(IncrementalAlterConfigsResponse),
}

pub(super) async fn answer(handle: &MetadataHandle, question: ClusterQuestion) -> ClusterAnswer {
    match question {
        ClusterQuestion::Metadata(version, request) => ClusterAnswer::Metadata(
            metadata::answer(handle, KAFKA_LISTENER, version, request).await,
        ),
        ClusterQuestion::CreateTopics(request) => {
            ClusterAnswer::CreateTopics(create_topics::answer(handle, request).await)
        }
        ClusterQuestion::DeleteTopics(request) => {
            ClusterAnswer::DeleteTopics(delete_topics::answer(handle, request).await)
        }
        ClusterQuestion::CreatePartitions(request) => {
            ClusterAnswer::CreatePartitions(create_partitions::answer(handle, request).await)
        }
        ClusterQuestion::DescribeCluster(request) => ClusterAnswer::DescribeCluster(
            describe_cluster::answer(handle, KAFKA_LISTENER, &request),
        ),
        ClusterQuestion::DescribeConfigs(request) => {
            ClusterAnswer::DescribeConfigs(describe_configs::answer(handle, request))
        }
        ClusterQuestion::IncrementalAlterConfigs(request) => {
            let answer = incremental_alter_configs::answer(handle, request).await;
            ClusterAnswer::IncrementalAlterConfigs(answer)
        }
    }
}
