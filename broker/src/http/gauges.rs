//! Series that are not counted but read from their owners when somebody scrapes: positions, sizes,
//! the state of groups, the disk.

use std::collections::BTreeMap;
use std::path::Path;

use super::Detail;
use crate::metrics::{Exposition, Kind};
use crate::survey::{PartitionState, Survey};

/// Where a partition stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionGauges {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first offset that is served.
    pub log_start: i64,
    /// Below it records are committed.
    pub high_watermark: i64,
    /// The next offset.
    pub log_end: i64,
    /// Bytes of its segments.
    pub size_bytes: u64,
    /// How many segments it has.
    pub segments: u64,
    /// The epoch of its leader.
    pub leader_epoch: i32,
    /// How many replicas it has.
    pub replicas: u64,
    /// How many of them are in sync.
    pub in_sync: u64,
    /// Whether this broker leads it.
    pub is_leader: bool,
    /// Where it leads: its followers.
    pub followers: Vec<FollowerGauge>,
}

/// A follower of a partition that this broker leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FollowerGauge {
    /// Its broker.
    pub broker: i32,
    /// How many records it has not got.
    pub lag: u64,
}

/// Where a consumer group stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupGauges {
    /// Its name.
    pub group: String,
    /// Its state, as Kafka names it.
    pub state: String,
    /// How many members it has.
    pub members: u64,
    /// How many rebalances began, by their cause.
    pub rebalances: Vec<(&'static str, u64)>,
    /// What it has committed.
    pub committed: Vec<CommittedGauge>,
}

/// A committed offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommittedGauge {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// How long ago the first record was written that the group has not had, in milliseconds; 0
    /// where it has had all, none where it is not known.
    pub behind_ms: Option<u64>,
}

/// All that is read at a scrape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Every partition of this broker.
    pub partitions: Vec<PartitionGauges>,
    /// Every group that this broker coordinates.
    pub groups: Vec<GroupGauges>,
}

/// A family: its name, its help, and how to read it from a partition.
type PartitionFamily = (&'static str, &'static str, fn(&PartitionGauges) -> i64);

const PARTITION_FAMILIES: [PartitionFamily; 9] = [
    ("varve_partition_log_start_offset", "The first offset that is served.", |p| p.log_start),
    ("varve_partition_high_watermark", "Below it records are committed.", |p| p.high_watermark),
    ("varve_partition_log_end_offset", "The next offset.", |p| p.log_end),
    ("varve_partition_size_bytes", "Bytes of the segments.", |p| p.size_bytes.cast_signed()),
    ("varve_partition_segments", "Segments.", |p| p.segments.cast_signed()),
    ("varve_partition_leader_epoch", "The epoch of the leader.", |p| p.leader_epoch.into()),
    ("varve_partition_isr", "Replicas in sync.", |p| p.in_sync.cast_signed()),
    ("varve_partition_leader", "1 on the broker that leads it.", |p| p.is_leader.into()),
    ("varve_partition_replicas", "Replicas.", |p| p.replicas.cast_signed()),
];

impl Gauges {
    /// Writes the series of one endpoint.
    pub fn write(&self, detail: Detail, out: &mut Exposition) {
        match detail {
            Detail::Topics => {
                self.write_topics(out);
                self.write_groups(out);
            }
            Detail::Partitions => {
                self.write_partitions(out);
                self.write_followers(out);
                self.write_committed(out);
            }
        }
    }

    fn write_topics(&self, out: &mut Exposition) {
        let mut topics: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for partition in &self.partitions {
            let (count, bytes) = topics.entry(&partition.topic).or_default();
            *count += 1;
            *bytes += partition.size_bytes;
        }
        out.family("varve_topic_partitions", Kind::Gauge, "Partitions.");
        for (topic, (count, _)) in &topics {
            out.count("varve_topic_partitions", &[("topic", topic)], *count);
        }
        out.family("varve_topic_size_bytes", Kind::Gauge, "Bytes of the segments.");
        for (topic, (_, bytes)) in &topics {
            out.count("varve_topic_size_bytes", &[("topic", topic), ("tier", "local")], *bytes);
        }
    }

    fn write_groups(&self, out: &mut Exposition) {
        let ends: BTreeMap<(&str, i32), (i64, i64)> = self
            .partitions
            .iter()
            .map(|p| ((p.topic.as_str(), p.partition), (p.log_start, p.high_watermark)))
            .collect();
        out.family("varve_group_members", Kind::Gauge, "Members.");
        for group in &self.groups {
            out.count("varve_group_members", &[("group", &group.group)], group.members);
        }
        out.family("varve_group_state", Kind::Gauge, "1 for the state in which the group is.");
        for group in &self.groups {
            out.count("varve_group_state", &[("group", &group.group), ("state", &group.state)], 1);
        }
        let name = "varve_group_rebalances_total";
        out.family(name, Kind::Counter, "Rebalances that began, since this broker coordinates.");
        for group in &self.groups {
            for (reason, count) in &group.rebalances {
                out.count(name, &[("group", &group.group), ("reason", reason)], *count);
            }
        }
        let mut lags: BTreeMap<(&str, &str), Lag> = BTreeMap::new();
        for group in &self.groups {
            for committed in &group.committed {
                let at = (committed.topic.as_str(), committed.partition);
                let Some((start, end)) = ends.get(&at) else { continue };
                let lag = end.saturating_sub(committed.offset.max(*start)).max(0);
                let sum = lags.entry((&group.group, &committed.topic)).or_default();
                sum.records += lag;
                sum.records_max = sum.records_max.max(lag);
                sum.behind_ms = sum.behind_ms.max(committed.behind_ms);
            }
        }
        let help = "Records that the group has not had, over all partitions.";
        out.family("varve_group_lag", Kind::Gauge, help);
        for ((group, topic), lag) in &lags {
            out.position("varve_group_lag", &[("group", group), ("topic", topic)], lag.records);
        }
        let help = "Records that the group has not had, of the partition with the most.";
        out.family("varve_group_lag_max", Kind::Gauge, help);
        for ((group, topic), lag) in &lags {
            let labels = [("group", *group), ("topic", *topic)];
            out.position("varve_group_lag_max", &labels, lag.records_max);
        }
        let help = "Age of the oldest record that the group has not had.";
        out.family("varve_group_lag_seconds", Kind::Gauge, help);
        for ((group, topic), lag) in &lags {
            if let Some(behind_ms) = lag.behind_ms {
                let labels = [("group", *group), ("topic", *topic)];
                out.sample("varve_group_lag_seconds", &labels, crate::metrics::seconds(behind_ms));
            }
        }
    }

    fn write_partitions(&self, out: &mut Exposition) {
        for (name, help, read) in PARTITION_FAMILIES {
            out.family(name, Kind::Gauge, help);
            for partition in &self.partitions {
                let number = partition.partition.to_string();
                let labels = [("topic", partition.topic.as_str()), ("partition", &number)];
                out.position(name, &labels, read(partition));
            }
        }
    }

    fn write_followers(&self, out: &mut Exposition) {
        let name = "varve_partition_follower_lag_messages";
        out.family(name, Kind::Gauge, "Records of the leader that a follower has not got.");
        for partition in &self.partitions {
            let number = partition.partition.to_string();
            for follower in &partition.followers {
                let labels = [
                    ("topic", partition.topic.as_str()),
                    ("partition", &number),
                    ("follower", &follower.broker.to_string()),
                ];
                out.count(name, &labels, follower.lag);
            }
        }
    }

    fn write_committed(&self, out: &mut Exposition) {
        let name = "varve_group_committed_offset";
        out.family(name, Kind::Gauge, "The committed offset.");
        for group in &self.groups {
            for committed in &group.committed {
                let number = committed.partition.to_string();
                let labels = [
                    ("group", group.group.as_str()),
                    ("topic", &committed.topic),
                    ("partition", &number),
                ];
                out.position(name, &labels, committed.offset);
            }
        }
    }
}

#[derive(Default)]
struct Lag {
    records: i64,
    records_max: i64,
    behind_ms: Option<u64>,
}

/// Writes how many brokers and partitions of the cluster are in which state, as this broker's metadata
/// says.
pub fn write_cluster(survey: &Survey, out: &mut Exposition) {
    let name = "varve_cluster_brokers";
    out.family(name, Kind::Gauge, "Registered brokers of the cluster by state.");
    for state in ["alive", "maintenance", "down"] {
        let count = survey.brokers.iter().filter(|broker| broker.state() == state).count();
        out.count(name, &[("state", state)], count as u64);
    }
    let name = "varve_cluster_partitions";
    out.family(name, Kind::Gauge, "Partitions of the cluster by state; one may be in several.");
    for (state, label) in PartitionState::ALL {
        out.count(name, &[("state", label)], survey.in_state(state).count() as u64);
    }
}

/// Writes how much room the file system of the data directory has.
pub fn write_disk(data_dir: &Path, out: &mut Exposition) {
    let Ok(stat) = rustix::fs::statvfs(data_dir) else { return };
    let dir = data_dir.display().to_string();
    let labels = [("dir", dir.as_str())];
    let rows = [
        ("varve_disk_free_bytes", "Bytes that may still be written.", stat.f_bavail),
        ("varve_disk_total_bytes", "Bytes of the file system.", stat.f_blocks),
    ];
    for (name, help, blocks) in rows {
        out.family(name, Kind::Gauge, help);
        out.count(name, &labels, blocks.saturating_mul(stat.f_frsize));
    }
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    let name = "varve_disk_space_alert";
    out.family(
        name,
        Kind::Gauge,
        "0 where there is room, 1 where it is low, 2 where it is critical.",
    );
    out.count(name, &labels, space_alert(bytes(stat.f_bavail), bytes(stat.f_blocks)));
}

/// Critical is less than a gibibyte or a tenth of a small file system; low is less than a twentieth
/// of any.
fn space_alert(free: u64, total: u64) -> u64 {
    const CRITICAL_BYTES: u64 = 1 << 30;
    if free < CRITICAL_BYTES.min(total / 10) { 2 } else { u64::from(free < total / 20) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauges() -> Gauges {
        let partition = |partition, log_start, high_watermark| PartitionGauges {
            topic: "orders".into(),
            partition,
            log_start,
            high_watermark,
            log_end: high_watermark,
            size_bytes: 100,
            segments: 1,
            leader_epoch: 0,
            replicas: 1,
            in_sync: 1,
            is_leader: true,
            followers: vec![FollowerGauge { broker: 2, lag: 3 }],
        };
        let committed = |partition, offset, behind_ms| CommittedGauge {
            topic: "orders".into(),
            partition,
            offset,
            behind_ms,
        };
        Gauges {
            partitions: vec![partition(0, 0, 10), partition(1, 5, 7)],
            groups: vec![GroupGauges {
                group: "billing".into(),
                state: "Empty".into(),
                members: 0,
                rebalances: vec![("joined", 2)],
                // The second was committed before retention went past it.
                committed: vec![committed(0, 4, Some(1_500)), committed(1, 2, None)],
            }],
        }
    }

    #[track_caller]
    fn check(detail: Detail, lines: &[&str]) {
        let mut out = Exposition::default();
        gauges().write(detail, &mut out);
        let text = out.into_text();
        for line in lines {
            assert!(text.lines().any(|found| found == *line), "no {line} in:\n{text}");
        }
    }

    #[test]
    fn topics_and_groups_are_summed() {
        check(
            Detail::Topics,
            &[
                "varve_topic_partitions{topic=\"orders\"} 2",
                "varve_topic_size_bytes{topic=\"orders\",tier=\"local\"} 200",
                "varve_group_members{group=\"billing\"} 0",
                "varve_group_state{group=\"billing\",state=\"Empty\"} 1",
                "varve_group_rebalances_total{group=\"billing\",reason=\"joined\"} 2",
                "varve_group_lag{group=\"billing\",topic=\"orders\"} 8",
                "varve_group_lag_max{group=\"billing\",topic=\"orders\"} 6",
                "varve_group_lag_seconds{group=\"billing\",topic=\"orders\"} 1.5",
            ],
        );
    }

    #[test]
    fn partitions_are_told_one_by_one() {
        check(
            Detail::Partitions,
            &[
                "varve_partition_high_watermark{topic=\"orders\",partition=\"0\"} 10",
                "varve_partition_log_start_offset{topic=\"orders\",partition=\"1\"} 5",
                "varve_partition_follower_lag_messages{topic=\"orders\",partition=\"1\",follower=\"2\"} 3",
                "varve_group_committed_offset{group=\"billing\",topic=\"orders\",partition=\"0\"} 4",
            ],
        );
    }

    #[test]
    fn a_disk_that_fills_is_told() {
        const GIB: u64 = 1 << 30;
        assert_eq!(space_alert(100 * GIB, 1_000 * GIB), 0);
        assert_eq!(space_alert(40 * GIB, 1_000 * GIB), 1);
        assert_eq!(space_alert(GIB - 1, 1_000 * GIB), 2);
        // A small one is not critical by its size.
        assert_eq!(space_alert(GIB / 2, GIB), 0);
        assert_eq!(space_alert(GIB / 11, GIB), 2);
    }

    #[test]
    fn the_disk_has_room() {
        let mut out = Exposition::default();
        write_disk(Path::new("/"), &mut out);
        assert!(out.into_text().contains("varve_disk_total_bytes{dir=\"/\"} "));
    }
}
