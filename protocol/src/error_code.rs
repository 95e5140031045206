//! Kafka's error codes, as they travel.

use std::fmt;

macro_rules! error_codes {
    ($($code:literal $name:ident $retriable:literal $message:literal;)*) => {
        /// An error code of the protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $(#[doc = concat!($code, ": ", $message, ".")] $name,)*
            /// A code that is newer than this table.
            Unknown(i16),
        }

        impl ErrorCode {
            /// The code with this number.
            #[must_use]
            pub fn from_code(code: i16) -> ErrorCode {
                match code {
                    $($code => ErrorCode::$name,)*
                    _ => ErrorCode::Unknown(code),
                }
            }

            /// Its number on the wire.
            #[must_use]
            pub fn code(self) -> i16 {
                match self {
                    $(ErrorCode::$name => $code,)*
                    ErrorCode::Unknown(code) => code,
                }
            }

            /// Whether the same request may succeed later.
            #[must_use]
            pub fn is_retriable(self) -> bool {
                match self {
                    $(ErrorCode::$name => $retriable,)*
                    ErrorCode::Unknown(_) => false,
                }
            }

            /// What it means, in a few words.
            #[must_use]
            pub fn message(self) -> &'static str {
                match self {
                    $(ErrorCode::$name => $message,)*
                    ErrorCode::Unknown(_) => "an error code that this version does not know",
                }
            }

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(ErrorCode::$name => stringify!($name),)*
                    ErrorCode::Unknown(_) => "Unknown",
                }
            }
        }
    };
}

error_codes! {
    -1 UnknownServerError false "something unexpected went wrong in the broker";
    0 None false "no error";
    1 OffsetOutOfRange false "the offset lies outside the partition";
    2 CorruptMessage true "a record batch failed its checks";
    3 UnknownTopicOrPartition true "no such topic or partition here";
    4 InvalidFetchSize false "the fetch size is not valid";
    5 LeaderNotAvailable true "the partition has no leader at present";
    6 NotLeaderOrFollower true "this broker does not lead the partition";
    7 RequestTimedOut true "the request's time ran out";
    8 BrokerNotAvailable false "the broker is not available";
    9 ReplicaNotAvailable true "the replica is not available";
    10 MessageTooLarge false "the batch is larger than the topic allows";
    11 StaleControllerEpoch false "the controller's epoch is an old one";
    12 OffsetMetadataTooLarge false "the metadata of the committed offset is too long";
    13 NetworkException true "the connection broke before the answer came";
    14 CoordinatorLoadInProgress true "the coordinator is still reading its log";
    15 CoordinatorNotAvailable true "no coordinator is available";
    16 NotCoordinator true "this broker is not the coordinator";
    17 InvalidTopicException false "the topic's name is not allowed";
    18 RecordListTooLarge false "the batches together are larger than a segment";
    19 NotEnoughReplicas true "too few replicas are in sync";
    20 NotEnoughReplicasAfterAppend true "appended, but too few replicas are in sync";
    21 InvalidRequiredAcks false "acks must be 0, 1 or -1";
    22 IllegalGeneration false "the group's generation is another one";
    23 InconsistentGroupProtocol false "the member shares no protocol with the group";
    24 InvalidGroupId false "the group id is not allowed";
    25 UnknownMemberId false "the group has no such member";
    26 InvalidSessionTimeout false "the session timeout is outside the broker's bounds";
    27 RebalanceInProgress false "the group is rebalancing";
    28 InvalidCommitOffsetSize false "the committed offset's record is too large";
    29 TopicAuthorizationFailed false "not authorized for the topic";
    30 GroupAuthorizationFailed false "not authorized for the group";
    31 ClusterAuthorizationFailed false "not authorized for the cluster";
    32 InvalidTimestamp false "a record's timestamp is outside the allowed range";
    33 UnsupportedSaslMechanism false "the SASL mechanism is not offered";
    34 IllegalSaslState false "not allowed in this state of authentication";
    35 UnsupportedVersion false "this version of the request is not served";
    36 TopicAlreadyExists false "a topic of this name exists";
    37 InvalidPartitions false "the number of partitions is not allowed";
    38 InvalidReplicationFactor false "the replication factor is not possible";
    39 InvalidReplicaAssignment false "the replica assignment is not valid";
    40 InvalidConfig false "a configuration is not valid";
    41 NotController true "this broker is not the controller";
    42 InvalidRequest false "the request contradicts itself or the protocol";
    43 UnsupportedForMessageFormat false "the message format does not support this";
    44 PolicyViolation false "a policy refuses this";
    45 OutOfOrderSequenceNumber false "a batch of the producer is missing before this one";
    46 DuplicateSequenceNumber false "the producer's batch was appended before";
    47 InvalidProducerEpoch false "a newer instance of the producer exists";
    48 InvalidTxnState false "the transaction is not in a state that allows this";
    49 InvalidProducerIdMapping false "the producer id belongs to another transactional id";
    50 InvalidTransactionTimeout false "the transaction timeout is above the broker's maximum";
    51 ConcurrentTransactions true "the producer's previous transaction is still being ended";
    52 TransactionCoordinatorFenced false "the transaction's coordinator has moved";
    53 TransactionalIdAuthorizationFailed false "not authorized for the transactional id";
    54 SecurityDisabled false "security features are off";
    55 OperationNotAttempted false "not tried, since another part of the request failed";
    56 KafkaStorageError true "the log directory has failed";
    57 LogDirNotFound false "no such log directory";
    58 SaslAuthenticationFailed false "authentication failed";
    59 UnknownProducerId false "nothing is known of the producer";
    60 ReassignmentInProgress false "the partition is being moved";
    61 DelegationTokenAuthDisabled false "delegation tokens are off";
    62 DelegationTokenNotFound false "no such delegation token";
    63 DelegationTokenOwnerMismatch false "the delegation token belongs to another";
    64 DelegationTokenRequestNotAllowed false "not allowed on this kind of connection";
    65 DelegationTokenAuthorizationFailed false "not authorized for delegation tokens";
    66 DelegationTokenExpired false "the delegation token has expired";
    67 InvalidPrincipalType false "the kind of principal is not known";
    68 NonEmptyGroup false "the group still has members";
    69 GroupIdNotFound false "no such group";
    70 FetchSessionIdNotFound true "no such fetch session";
    71 InvalidFetchSessionEpoch true "the fetch session's epoch is another one";
    72 ListenerNotFound true "the leader has no such listener";
    73 TopicDeletionDisabled false "deleting topics is switched off";
    74 FencedLeaderEpoch true "the leader epoch is an old one";
    75 UnknownLeaderEpoch true "the leader epoch is newer than this broker's";
    76 UnsupportedCompressionType false "this version of the request does not allow the codec";
    77 StaleBrokerEpoch false "the broker's epoch is an old one";
    78 OffsetNotAvailable true "the leader does not know its high watermark yet";
    79 MemberIdRequired false "join again with the member id given";
    80 PreferredLeaderNotAvailable true "the preferred leader is not available";
    81 GroupMaxSizeReached false "the group has as many members as it may";
    82 FencedInstanceId false "another member has this group instance id";
    83 EligibleLeadersNotAvailable true "no eligible leader is available";
    84 ElectionNotNeeded true "the partition has its leader";
    85 NoReassignmentInProgress false "the partition is not being moved";
    86 GroupSubscribedToTopic false "the group is subscribed to the topic";
    87 InvalidRecord false "a record is not valid for this topic";
    88 UnstableOffsetCommit true "an offset is part of a pending transaction";
    89 ThrottlingQuotaExceeded true "a quota is used up";
    90 ProducerFenced false "a newer instance of the producer exists";
    91 ResourceNotFound false "no such resource";
    92 DuplicateResource false "the resource is named twice";
    93 UnacceptableCredential false "the credential does not meet the rules";
    94 InconsistentVoterSet false "the voter sets differ";
    95 InvalidUpdateVersion false "the feature's version is not allowed";
    96 FeatureUpdateFailed false "the feature could not be updated";
    97 PrincipalDeserializationFailure false "the forwarded principal could not be read";
    98 SnapshotNotFound false "no such snapshot";
    99 PositionOutOfRange false "the position lies outside the snapshot";
    100 UnknownTopicId true "no topic has this id";
    101 DuplicateBrokerRegistration false "the broker id is in use";
    102 BrokerIdNotRegistered false "no broker of this id is registered";
    103 InconsistentTopicId true "the topic's id is another one";
    104 InconsistentClusterId false "the cluster's id is another one";
    105 TransactionalIdNotFound false "no such transactional id";
    106 FetchSessionTopicIdError true "the fetch session mixes topic names and ids";
    107 IneligibleReplica false "the replica may not be in sync now";
    108 NewLeaderElected false "the change led to another leader";
    109 OffsetMovedToTieredStorage false "the offset lies in tiered storage";
    110 FencedMemberEpoch false "the member's epoch is an old one";
    111 UnreleasedInstanceId false "another member still holds the instance id";
    112 UnsupportedAssignor false "the assignor is not offered";
    113 StaleMemberEpoch false "the member's epoch is another one";
    114 MismatchedEndpointType false "the request went to the wrong kind of endpoint";
    115 UnsupportedEndpointType false "the kind of endpoint is not known";
    116 UnknownControllerId false "no such controller";
    117 UnknownSubscriptionId false "no such telemetry subscription";
    118 TelemetryTooLarge false "the telemetry is too large";
    119 InvalidRegistration false "the controller refused the registration";
    120 TransactionAbortable false "the transaction has to be aborted";
    121 InvalidRecordState false "the record's state does not allow this";
    122 ShareSessionNotFound true "no such share session";
    123 InvalidShareSessionEpoch true "the share session's epoch is another one";
    124 FencedStateEpoch false "the state epoch is an old one";
    125 InvalidVoterKey false "the voter's key is another one";
    126 DuplicateVoter false "the voter is in the set";
    127 VoterNotFound false "no such voter";
    128 InvalidRegularExpression false "the regular expression is not valid";
    129 RebootstrapRequired false "the client must bootstrap anew";
    130 StreamsInvalidTopology false "the topology is not valid";
    131 StreamsInvalidTopologyEpoch false "the topology's epoch is not valid";
    132 StreamsTopologyFenced false "the topology's epoch is an old one";
    133 ShareSessionLimitReached true "there are as many share sessions as there may be";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.name(), self.code(), self.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_returns_to_itself() {
        for code in -2..200 {
            assert_eq!(ErrorCode::from_code(code).code(), code);
        }
        assert_eq!(ErrorCode::from_code(133), ErrorCode::ShareSessionLimitReached);
        assert_eq!(ErrorCode::from_code(134), ErrorCode::Unknown(134));
    }
}
