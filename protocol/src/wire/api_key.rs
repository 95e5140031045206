//! The APIs: key, versions that the codec knows, versions that varve announces.

use std::ops::RangeInclusive;

use crate::messages;
use crate::wire::Message;

/// One row of the table of APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiRange {
    /// The API.
    pub api: ApiKey,
    /// Lowest version announced.
    pub min_version: i16,
    /// Highest version announced and served.
    pub max_version: i16,
}

macro_rules! apis {
    (
        clients {$(
            $client:ident = $client_code:literal, $client_request:ident,
            announced $client_min:literal..=$client_max:literal;
        )*}
        brokers {$(
            $broker:ident = $broker_code:literal, $broker_request:ident,
            spoken $broker_min:literal..=$broker_max:literal;
        )*}
    ) => {
        apis! {
            @table
            $($client = $client_code, $client_request, $client_min..=$client_max;)*
            $($broker = $broker_code, $broker_request, $broker_min..=$broker_max;)*
        }

        impl ApiKey {
            /// Those that clients ask for, in the order of their codes.
            pub const ALL: &[ApiKey] = &[$(ApiKey::$client,)*];

            /// Those that brokers ask one another for, in the order of their codes; never served
            /// or announced where clients connect.
            pub const INTERNAL: &[ApiKey] = &[$(ApiKey::$broker,)*];
        }
    };
    (@table $($name:ident = $code:literal, $request:ident, $min:literal..=$max:literal;)*) => {
        /// An API that the codec knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $(#[doc = concat!("API key ", stringify!($code), ".")] $name = $code,)*
        }

        impl ApiKey {
            /// The API with this number on the wire.
            #[must_use]
            pub fn from_code(code: i16) -> Option<ApiKey> {
                match code {
                    $($code => Some(ApiKey::$name),)*
                    _ => None,
                }
            }

            /// Its name in Kafka's schemas.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(ApiKey::$name => stringify!($name),)*
                }
            }

            /// The versions that varve announces, or that brokers speak among themselves. Produce
            /// begins at 0 although 0 to 2 are refused: librdkafka takes version 0 as the sign
            /// that compression is understood.
            #[must_use]
            pub fn announced(self) -> ApiRange {
                let (min_version, max_version) = match self {
                    $(ApiKey::$name => ($min, $max),)*
                };
                ApiRange { api: self, min_version, max_version }
            }

            /// The versions that the codec reads and writes.
            #[must_use]
            pub fn codec_versions(self) -> RangeInclusive<i16> {
                match self {
                    $(ApiKey::$name => messages::$request::VERSIONS,)*
                }
            }

            /// Whether `version` is a flexible one (KIP-482).
            #[must_use]
            pub fn is_flexible(self, version: i16) -> bool {
                version >= match self {
                    $(ApiKey::$name => messages::$request::FLEXIBLE,)*
                }
            }
        }
    };
}

apis! {
    clients {
        Produce = 0, ProduceRequest, announced 0..=13;
        Fetch = 1, FetchRequest, announced 4..=17;
        ListOffsets = 2, ListOffsetsRequest, announced 1..=10;
        Metadata = 3, MetadataRequest, announced 0..=13;
        OffsetCommit = 8, OffsetCommitRequest, announced 2..=9;
        OffsetFetch = 9, OffsetFetchRequest, announced 1..=9;
        FindCoordinator = 10, FindCoordinatorRequest, announced 0..=5;
        JoinGroup = 11, JoinGroupRequest, announced 0..=9;
        Heartbeat = 12, HeartbeatRequest, announced 0..=4;
        LeaveGroup = 13, LeaveGroupRequest, announced 0..=5;
        SyncGroup = 14, SyncGroupRequest, announced 0..=5;
        DescribeGroups = 15, DescribeGroupsRequest, announced 0..=6;
        ListGroups = 16, ListGroupsRequest, announced 0..=5;
        SaslHandshake = 17, SaslHandshakeRequest, announced 0..=1;
        ApiVersions = 18, ApiVersionsRequest, announced 0..=4;
        CreateTopics = 19, CreateTopicsRequest, announced 2..=7;
        DeleteTopics = 20, DeleteTopicsRequest, announced 1..=6;
        DeleteRecords = 21, DeleteRecordsRequest, announced 0..=2;
        InitProducerId = 22, InitProducerIdRequest, announced 0..=5;
        OffsetForLeaderEpoch = 23, OffsetForLeaderEpochRequest, announced 2..=4;
        DescribeAcls = 29, DescribeAclsRequest, announced 1..=3;
        CreateAcls = 30, CreateAclsRequest, announced 1..=3;
        DeleteAcls = 31, DeleteAclsRequest, announced 1..=3;
        DescribeConfigs = 32, DescribeConfigsRequest, announced 1..=4;
        AlterConfigs = 33, AlterConfigsRequest, announced 0..=2;
        DescribeLogDirs = 35, DescribeLogDirsRequest, announced 1..=4;
        SaslAuthenticate = 36, SaslAuthenticateRequest, announced 0..=2;
        CreatePartitions = 37, CreatePartitionsRequest, announced 0..=3;
        DeleteGroups = 42, DeleteGroupsRequest, announced 0..=2;
        ElectLeaders = 43, ElectLeadersRequest, announced 0..=2;
        IncrementalAlterConfigs = 44, IncrementalAlterConfigsRequest, announced 0..=1;
        AlterPartitionReassignments = 45, AlterPartitionReassignmentsRequest, announced 0..=1;
        ListPartitionReassignments = 46, ListPartitionReassignmentsRequest, announced 0..=0;
        OffsetDelete = 47, OffsetDeleteRequest, announced 0..=0;
        DescribeClientQuotas = 48, DescribeClientQuotasRequest, announced 0..=1;
        AlterClientQuotas = 49, AlterClientQuotasRequest, announced 0..=1;
        DescribeUserScramCredentials = 50, DescribeUserScramCredentialsRequest, announced 0..=0;
        DescribeQuorum = 55, DescribeQuorumRequest, announced 0..=2;
        DescribeCluster = 60, DescribeClusterRequest, announced 0..=2;
        DescribeProducers = 61, DescribeProducersRequest, announced 0..=0;
        UnregisterBroker = 64, UnregisterBrokerRequest, announced 0..=0;
        DescribeTransactions = 65, DescribeTransactionsRequest, announced 0..=0;
        ListTransactions = 66, ListTransactionsRequest, announced 0..=1;
        ListConfigResources = 74, ListConfigResourcesRequest, announced 0..=1;
        DescribeTopicPartitions = 75, DescribeTopicPartitionsRequest, announced 0..=0;
        AddRaftVoter = 80, AddRaftVoterRequest, announced 0..=0;
        RemoveRaftVoter = 81, RemoveRaftVoterRequest, announced 0..=0;
    }
    brokers {
        AlterPartition = 56, AlterPartitionRequest, spoken 3..=3;
        BrokerRegistration = 62, BrokerRegistrationRequest, spoken 4..=4;
        BrokerHeartbeat = 63, BrokerHeartbeatRequest, spoken 1..=1;
        AllocateProducerIds = 67, AllocateProducerIdsRequest, spoken 0..=0;
        PeerHello = 30000, PeerHelloRequest, spoken 0..=0;
        QuorumMessages = 30001, QuorumMessagesRequest, spoken 0..=0;
        ReplicaFetch = 30002, ReplicaFetchRequest, spoken 0..=0;
        ReplicaProgress = 30003, ReplicaProgressRequest, spoken 0..=0;
        Forward = 30004, ForwardRequest, spoken 0..=0;
    }
}

impl ApiKey {
    /// Whether only brokers may ask for it.
    #[must_use]
    pub fn is_internal(self) -> bool {
        Self::INTERNAL.contains(&self)
    }

    /// Its number on the wire.
    #[must_use]
    pub fn code(self) -> i16 {
        self as i16
    }

    /// The version of the request header: 2 with tagged fields, else 1.
    #[must_use]
    pub fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The version of the response header: 1 with tagged fields, else 0. ApiVersions always has
    /// 0, since a client must be able to read the answer to a version that is too new (KIP-511).
    #[must_use]
    pub fn response_header_version(self, version: i16) -> i16 {
        i16::from(self != ApiKey::ApiVersions && self.is_flexible(version))
    }
}
