//! What the fuzz targets share: every message of the protocol behind one function, and a data
//! directory whose files they damage.
#![forbid(unsafe_code)]

pub mod disk;

use std::fmt::Debug;

use bytes::Bytes;
use varve_protocol::messages::*;
use varve_protocol::wire::{ApiKey, Message, Reader, Request, Writer, decode_body};

/// Which message of an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// From the client.
    Request,
    /// From the broker.
    Response,
}

macro_rules! check_any {
    ($($request:ident)*) => {
        /// Reads the message of `api` at the reader; what can be read must return as it is from
        /// its own bytes.
        pub fn check(api: ApiKey, side: Side, version: i16, reader: &mut Reader) {
            match (api, side) {
                $(
                    (<$request as Request>::API, Side::Request) => {
                        check_message::<$request>(version, reader);
                    }
                    (<$request as Request>::API, Side::Response) => {
                        check_message::<<$request as Request>::Response>(version, reader);
                    }
                )*
            }
        }
    };
}

check_any! {
    ProduceRequest FetchRequest ListOffsetsRequest MetadataRequest OffsetCommitRequest
    OffsetFetchRequest FindCoordinatorRequest JoinGroupRequest HeartbeatRequest LeaveGroupRequest
    SyncGroupRequest DescribeGroupsRequest ListGroupsRequest SaslHandshakeRequest ApiVersionsRequest
    CreateTopicsRequest DeleteTopicsRequest DeleteRecordsRequest InitProducerIdRequest
    OffsetForLeaderEpochRequest DescribeConfigsRequest AlterConfigsRequest DescribeLogDirsRequest
    SaslAuthenticateRequest CreatePartitionsRequest DeleteGroupsRequest
    IncrementalAlterConfigsRequest OffsetDeleteRequest DescribeClusterRequest DescribeAclsRequest
    CreateAclsRequest DeleteAclsRequest DescribeClientQuotasRequest AlterClientQuotasRequest
    DescribeUserScramCredentialsRequest DescribeProducersRequest DescribeTransactionsRequest
    ListTransactionsRequest ListConfigResourcesRequest DescribeTopicPartitionsRequest
    AlterPartitionRequest BrokerRegistrationRequest BrokerHeartbeatRequest
    AllocateProducerIdsRequest PeerHelloRequest QuorumMessagesRequest ReplicaFetchRequest
    ReplicaProgressRequest ForwardRequest AddRaftVoterRequest RemoveRaftVoterRequest
    DescribeQuorumRequest UnregisterBrokerRequest ElectLeadersRequest
    AlterPartitionReassignmentsRequest ListPartitionReassignmentsRequest
}

fn check_message<M: Message + Debug + PartialEq>(version: i16, reader: &mut Reader) {
    let Ok(message) = <M as Message>::decode(reader, version) else { return };
    let bytes = encode(&message, version);
    let again: M = decode_body(bytes.clone(), version).expect("own bytes can be read");
    assert!(again == message, "{message:?} became {again:?}");
    assert_eq!(encode(&again, version), bytes);
}

fn encode<M: Message>(message: &M, version: i16) -> Bytes {
    let mut writer = Writer::new();
    Message::encode(message, &mut writer, version).expect("what was read can be written");
    let pieces = writer.finish();
    pieces.iter().flat_map(|piece| piece.to_bytes().expect("in memory")).collect()
}
