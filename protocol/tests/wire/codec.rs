//! Every message of the crate behind one shape, with the same message of the `kafka-protocol`
//! crate beside it.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as oracle;
use kafka_protocol::protocol::{Decodable, Encodable};
use varve_protocol::messages as ours;
use varve_protocol::wire::{
    ApiKey, DecodeError, Message, Reader, Request, Writer, decode_body, encoded_size,
};

/// Which of the two messages of an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Side {
    /// From the client.
    Request,
    /// From the broker.
    Response,
}

/// One message of one API.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Codec {
    /// The API.
    pub(crate) api: ApiKey,
    /// Which message of it.
    pub(crate) side: Side,
    /// Reads a body and writes it again.
    pub(crate) recode: fn(Bytes, i16) -> Result<Recoded, DecodeError>,
    /// The same by the other implementation.
    pub(crate) recode_by_oracle: fn(Bytes, i16) -> Result<Bytes, String>,
}

/// What came of a body.
pub(crate) struct Recoded {
    /// Written again.
    pub(crate) bytes: Bytes,
    /// Bytes after the last field.
    pub(crate) unread: usize,
    /// The message, for people.
    pub(crate) shown: Box<dyn Debug>,
}

/// The message of `api` on `side`.
pub(crate) fn codec(api: ApiKey, side: Side) -> Codec {
    *ALL.iter().find(|codec| codec.api == api && codec.side == side).expect("every API is listed")
}

fn recode<M: Message + Debug + PartialEq + 'static>(
    body: Bytes,
    version: i16,
) -> Result<Recoded, DecodeError> {
    let mut reader = Reader::new(body);
    let message = <M as Message>::decode(&mut reader, version)?;
    let bytes = encode(&message, version);
    assert_eq!(encoded_size(&message, version), Ok(bytes.len()));
    let again: M = decode_body(bytes.clone(), version)
        .unwrap_or_else(|error| panic!("own bytes of {message:?} v{version}: {error}"));
    assert_eq!(again, message, "{} v{version}", M::NAME);
    Ok(Recoded { bytes, unread: reader.remaining(), shown: Box::new(message) })
}

/// The bytes of `message` alone.
pub(crate) fn encode<M: Message>(message: &M, version: i16) -> Bytes {
    let mut writer = Writer::new();
    Message::encode(message, &mut writer, version).expect("what was read can be written");
    let mut bytes = BytesMut::new();
    for piece in writer.finish() {
        bytes.extend_from_slice(&piece.to_bytes().unwrap());
    }
    bytes.freeze()
}

fn recode_by_oracle<M: Decodable + Encodable>(
    mut body: Bytes,
    version: i16,
) -> Result<Bytes, String> {
    let message = M::decode(&mut body, version).map_err(|error| error.to_string())?;
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes, version).map_err(|error| error.to_string())?;
    Ok(bytes.freeze())
}

/// Messages of varve's own have no second implementation.
fn no_oracle(body: Bytes, _: i16) -> Result<Bytes, String> {
    Ok(body)
}

macro_rules! codecs {
    (own $($own:ident)*; kafka $($request:ident $response:ident,)*) => {
        /// Both messages of every API.
        pub(crate) const ALL: &[Codec] = &[$(
            Codec {
                api: <ours::$request as Request>::API,
                side: Side::Request,
                recode: recode::<ours::$request>,
                recode_by_oracle: recode_by_oracle::<oracle::$request>,
            },
            Codec {
                api: <ours::$request as Request>::API,
                side: Side::Response,
                recode: recode::<<ours::$request as Request>::Response>,
                recode_by_oracle: recode_by_oracle::<oracle::$response>,
            },
        )* $(
            Codec {
                api: <ours::$own as Request>::API,
                side: Side::Request,
                recode: recode::<ours::$own>,
                recode_by_oracle: no_oracle,
            },
            Codec {
                api: <ours::$own as Request>::API,
                side: Side::Response,
                recode: recode::<<ours::$own as Request>::Response>,
                recode_by_oracle: no_oracle,
            },
        )*];
    };
}

codecs! {
    own PeerHelloRequest QuorumMessagesRequest ReplicaFetchRequest ReplicaProgressRequest
        ForwardRequest;
    kafka
    ProduceRequest ProduceResponse,
    FetchRequest FetchResponse,
    ListOffsetsRequest ListOffsetsResponse,
    MetadataRequest MetadataResponse,
    OffsetCommitRequest OffsetCommitResponse,
    OffsetFetchRequest OffsetFetchResponse,
    FindCoordinatorRequest FindCoordinatorResponse,
    JoinGroupRequest JoinGroupResponse,
    HeartbeatRequest HeartbeatResponse,
    LeaveGroupRequest LeaveGroupResponse,
    SyncGroupRequest SyncGroupResponse,
    DescribeGroupsRequest DescribeGroupsResponse,
    ListGroupsRequest ListGroupsResponse,
    SaslHandshakeRequest SaslHandshakeResponse,
    ApiVersionsRequest ApiVersionsResponse,
    CreateTopicsRequest CreateTopicsResponse,
    DeleteTopicsRequest DeleteTopicsResponse,
    DeleteRecordsRequest DeleteRecordsResponse,
    InitProducerIdRequest InitProducerIdResponse,
    OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse,
    DescribeConfigsRequest DescribeConfigsResponse,
    AlterConfigsRequest AlterConfigsResponse,
    DescribeLogDirsRequest DescribeLogDirsResponse,
    SaslAuthenticateRequest SaslAuthenticateResponse,
    CreatePartitionsRequest CreatePartitionsResponse,
    DeleteGroupsRequest DeleteGroupsResponse,
    IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse,
    OffsetDeleteRequest OffsetDeleteResponse,
    DescribeClusterRequest DescribeClusterResponse,
    DescribeAclsRequest DescribeAclsResponse,
    CreateAclsRequest CreateAclsResponse,
    DeleteAclsRequest DeleteAclsResponse,
    DescribeClientQuotasRequest DescribeClientQuotasResponse,
    AlterClientQuotasRequest AlterClientQuotasResponse,
    DescribeUserScramCredentialsRequest DescribeUserScramCredentialsResponse,
    DescribeProducersRequest DescribeProducersResponse,
    DescribeTransactionsRequest DescribeTransactionsResponse,
    ListTransactionsRequest ListTransactionsResponse,
    ListConfigResourcesRequest ListConfigResourcesResponse,
    DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse,
    ElectLeadersRequest ElectLeadersResponse,
    AlterPartitionReassignmentsRequest AlterPartitionReassignmentsResponse,
    ListPartitionReassignmentsRequest ListPartitionReassignmentsResponse,
    DescribeQuorumRequest DescribeQuorumResponse,
    UnregisterBrokerRequest UnregisterBrokerResponse,
    AddRaftVoterRequest AddRaftVoterResponse,
    RemoveRaftVoterRequest RemoveRaftVoterResponse,
    AlterPartitionRequest AlterPartitionResponse,
    BrokerRegistrationRequest BrokerRegistrationResponse,
    BrokerHeartbeatRequest BrokerHeartbeatResponse,
    AllocateProducerIdsRequest AllocateProducerIdsResponse,
}

#[test]
fn every_api_has_both_messages_here() {
    for &api in ApiKey::ALL.iter().chain(ApiKey::INTERNAL) {
        codec(api, Side::Request);
        codec(api, Side::Response);
    }
    assert_eq!(ALL.len(), 2 * (ApiKey::ALL.len() + ApiKey::INTERNAL.len()));
}
