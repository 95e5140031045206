//! The operations that a caller may do, as bits by Kafka's operation numbers (KIP-430).
//!
//! There is no authorizer, so that everybody may do everything that applies to a resource.

const READ: i32 = 1 << 3;
const WRITE: i32 = 1 << 4;
const CREATE: i32 = 1 << 5;
const DELETE: i32 = 1 << 6;
const ALTER: i32 = 1 << 7;
const DESCRIBE: i32 = 1 << 8;
const CLUSTER_ACTION: i32 = 1 << 9;
const DESCRIBE_CONFIGS: i32 = 1 << 10;
const ALTER_CONFIGS: i32 = 1 << 11;
const IDEMPOTENT_WRITE: i32 = 1 << 12;

/// What can be done to a topic.
pub(crate) const TOPIC_OPERATIONS: i32 =
    READ | WRITE | CREATE | DELETE | ALTER | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;
/// What can be done to a group.
pub(crate) const GROUP_OPERATIONS: i32 =
    READ | DELETE | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;
/// What can be done to the cluster.
pub(crate) const CLUSTER_OPERATIONS: i32 = CREATE
    | ALTER
    | DESCRIBE
    | CLUSTER_ACTION
    | DESCRIBE_CONFIGS
    | ALTER_CONFIGS
    | IDEMPOTENT_WRITE;

// As Apache Kafka without an authorizer answers.
const _: () = assert!(TOPIC_OPERATIONS == 3576);
const _: () = assert!(CLUSTER_OPERATIONS == 8096);
const _: () = assert!(GROUP_OPERATIONS == 3400);
