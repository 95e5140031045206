//! The cluster: its brokers, and their disks.

use super::call::{Effect, Verdict, check};
use super::{Admin, PerSubject};
use crate::error::{AdminError, ErrorContext};
use crate::net::Target;
use varve_protocol::messages::{DescribeLogDirsRequest, MetadataRequest};

/// A cluster and its brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterDescription {
    /// Its id, if brokers tell it.
    pub cluster_id: Option<String>,
    /// The broker to send administrative requests to, if there is one at present.
    pub controller: Option<i32>,
    /// Its brokers, by number.
    pub brokers: Vec<BrokerDescription>,
}

/// One broker.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerDescription {
    /// Its number.
    pub id: i32,
    /// The host that it advertises.
    pub host: String,
    /// The port that it advertises.
    pub port: i32,
    /// Its rack.
    pub rack: Option<String>,
    /// Whether the cluster counts it as dead; only [`Admin::describe_all_brokers`] tells of those.
    pub is_fenced: bool,
}

/// One log directory of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogDirDescription {
    /// Its path.
    pub path: String,
    /// Size of its file system in bytes, if the broker says.
    pub total_bytes: Option<i64>,
    /// Free bytes of its file system, if the broker says.
    pub usable_bytes: Option<i64>,
    /// The replicas in it.
    pub partitions: Vec<LogDirPartition>,
}

/// One replica in a log directory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogDirPartition {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Bytes of its log.
    pub size_bytes: i64,
    /// How far its end lies behind the high watermark, or behind the present replica for a future one.
    pub offset_lag: i64,
    /// Whether it is being moved here from another directory.
    pub is_future: bool,
}

impl Admin {
    /// The cluster's id, controller and brokers.
    ///
    /// # Errors
    /// A failed request.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, AdminError> {
        // Metadata with no topics says the same as DescribeCluster, and every broker speaks it.
        self.call(
            "describing the cluster",
            Target::Any,
            Effect::Idempotent,
            |_version| MetadataRequest {
                topics: Some(Vec::new()),
                allow_auto_topic_creation: false,
                ..Default::default()
            },
            |response, _, _| {
                let mut brokers: Vec<BrokerDescription> = response
                    .brokers
                    .into_iter()
                    .map(|broker| BrokerDescription {
                        id: broker.node_id,
                        host: broker.host,
                        port: broker.port,
                        rack: broker.rack,
                        is_fenced: false,
                    })
                    .collect();
                brokers.sort_by_key(|broker| broker.id);
                Ok(Verdict::Done(ClusterDescription {
                    cluster_id: response.cluster_id,
                    controller: Some(response.controller_id).filter(|id| *id >= 0),
                    brokers,
                }))
            },
        )
        .await
    }

    /// The log directories of brokers, with every replica in them. Empty `brokers` means all.
    ///
    /// # Errors
    /// The call as a whole; each broker's own failure is in the result.
    pub async fn describe_log_dirs(
        &self,
        brokers: &[i32],
    ) -> Result<PerSubject<i32, Vec<LogDirDescription>>, AdminError> {
        let brokers = match brokers {
            [] => self.describe_cluster().await?.brokers.iter().map(|broker| broker.id).collect(),
            brokers => brokers.to_vec(),
        };
        let mut results = Vec::with_capacity(brokers.len());
        for broker in brokers {
            results.push((broker, self.log_dirs_of(broker).await));
        }
        Ok(results)
    }

    async fn log_dirs_of(&self, broker: i32) -> Result<Vec<LogDirDescription>, AdminError> {
        const WHAT: &str = "describing log directories";
        self.call(
            WHAT,
            Target::Broker(broker),
            Effect::Idempotent,
            |_version| DescribeLogDirsRequest { topics: None, ..Default::default() },
            |response, _, _| {
                let context = ErrorContext { broker: Some(broker), ..Default::default() };
                check(WHAT, response.error_code, None, context.clone())?;
                let mut directories = Vec::with_capacity(response.results.len());
                for directory in response.results {
                    check(WHAT, directory.error_code, Some(&directory.log_dir), context.clone())?;
                    let mut partitions = Vec::new();
                    for topic in directory.topics {
                        partitions.extend(topic.partitions.into_iter().map(|partition| {
                            LogDirPartition {
                                topic: topic.name.clone(),
                                partition: partition.partition_index,
                                size_bytes: partition.partition_size,
                                offset_lag: partition.offset_lag,
                                is_future: partition.is_future_key,
                            }
                        }));
                    }
                    directories.push(LogDirDescription {
                        path: directory.log_dir,
                        total_bytes: Some(directory.total_bytes).filter(|bytes| *bytes >= 0),
                        usable_bytes: Some(directory.usable_bytes).filter(|bytes| *bytes >= 0),
                        partitions,
                    });
                }
                Ok(Verdict::Done(directories))
            },
        )
        .await
    }
}
