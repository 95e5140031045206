//! What the operator decides about groups, as plain numbers.

/// Bytes of an id, a name or a text that goes into a record, whose length field has 15 bits; what is
/// left is room for the suffix of a member id.
pub(super) const TEXT_BYTES_MAX: usize = i16::MAX as usize - 64;

/// Bounds and delays of the group protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// How long the first rebalance of an empty group waits for more members.
    pub initial_rebalance_delay_ms: i64,
    /// The shortest session timeout that a member may ask for.
    pub session_timeout_ms_min: i32,
    /// The longest session timeout that a member may ask for.
    pub session_timeout_ms_max: i32,
    /// How long a member that has not been told its id yet may wait for its first generation.
    pub new_member_timeout_ms: i64,
    /// Members of one group.
    pub members_max: usize,
    /// Groups of all coordinators of a broker.
    pub groups_max: usize,
    /// Bytes of protocol metadata that one member may bring along.
    pub member_metadata_bytes_max: usize,
    /// How long committed offsets outlive the group's last member.
    pub offsets_retention_ms: i64,
}

impl Default for GroupSettings {
    /// Apache Kafka's defaults, and varve's own bounds where Kafka has none.
    fn default() -> Self {
        Self {
            initial_rebalance_delay_ms: 3_000,
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            new_member_timeout_ms: 300_000,
            members_max: 10_000,
            groups_max: 100_000,
            member_metadata_bytes_max: 4 << 20,
            offsets_retention_ms: 7 * 24 * 3_600_000,
        }
    }
}
