//! What the broker counts about itself.
//!
//! Writers touch atomics only; no lock lies on a request's path (a topic's series is looked up once
//! and kept by the partition). Positions, sizes and group states are not counted here but read from
//! their owners when somebody scrapes: see [`Exposition`] and the `http` module.

mod exposition;
mod histogram;
mod process;
mod requests;
mod software;
mod topics;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub use exposition::{Exposition, Kind};
pub use histogram::{Histogram, SizeHistogram};
pub use requests::{Phase, RequestMetrics};
pub use software::{ClientSoftware, NamedConnection};
pub use topics::{TopicMetrics, TopicRegistry};

use crate::server::TransportKind;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// The present value.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that rises and falls, never below zero.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes `count` away. What was never added must not be taken away.
    pub fn subtract(&self, count: u64) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |value| {
            Some(value.saturating_sub(count))
        });
    }

    /// Sets the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The present value.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a connection was turned away or closed by the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// `limits.connections_max` is reached.
    ConnectionsMax,
    /// The frame's size is beyond the limit, or negative.
    FrameSize,
    /// The bytes are no request.
    Malformed,
    /// TLS or QUIC was not agreed upon.
    Handshake,
    /// A request or an answer did not move for too long.
    Stalled,
    /// It asked nothing for too long.
    Idle,
}

impl RejectReason {
    const ALL: [(Self, &'static str); 6] = [
        (Self::ConnectionsMax, "connections_max"),
        (Self::FrameSize, "frame_size"),
        (Self::Malformed, "malformed"),
        (Self::Handshake, "handshake"),
        (Self::Stalled, "stalled"),
        (Self::Idle, "idle"),
    ];
}

/// Connections and bytes of the Kafka listener.
#[derive(Debug, Default)]
pub struct ConnectionMetrics {
    transports: [TransportMetrics; TransportKind::ALL.len()],
    /// Bytes of request frames held in memory at present.
    pub request_memory_bytes: Gauge,
    /// What clients say they are.
    pub software: ClientSoftware,
    rejected: [Counter; RejectReason::ALL.len()],
}

/// Connections and bytes of one transport.
#[derive(Debug, Default)]
pub struct TransportMetrics {
    /// Open connections; of QUIC, streams.
    pub open: Gauge,
    /// Connections ever accepted; of QUIC, streams.
    pub accepted: Counter,
    /// Bytes read from clients, as they are in plain text.
    pub received_bytes: Counter,
    /// Bytes written to clients, as they are in plain text.
    pub sent_bytes: Counter,
}

impl ConnectionMetrics {
    /// The counts of a transport.
    #[must_use]
    pub fn of(&self, transport: TransportKind) -> &TransportMetrics {
        &self.transports[transport as usize]
    }

    /// Counts a connection that the broker turned away or closed.
    pub fn rejected(&self, reason: RejectReason) {
        if let Some(index) = RejectReason::ALL.iter().position(|(known, _)| *known == reason) {
            self.rejected[index].increment();
        }
    }
}

/// What the log shards do on the disk.
#[derive(Debug, Default)]
pub struct StorageMetrics {
    /// Appending what one request, or one answer of a leader, brings to a shard, until it stands in
    /// the logs and before it is durable.
    pub append_duration: Histogram,
    /// One group commit: journal write and syncs.
    pub fsync_duration: Histogram,
    /// One write of the metadata quorum's log, entries or a vote, with its sync.
    pub quorum_fsync_duration: Arc<Histogram>,
    /// Partitions that became durable by group commits.
    pub committed_partitions: Counter,
    crc_failures: [Counter; CrcSource::ALL.len()],
    /// Logs that were cut before damage, to be copied from their leaders again.
    pub logs_repaired: Counter,
    /// Log directories that failed and take nothing until a restart.
    pub failed_directories: Gauge,
    /// Produce requests refused for want of space.
    pub disk_full: Counter,
    /// Segments deleted by retention or DeleteRecords.
    pub segments_deleted: Counter,
    /// Compaction runs.
    pub compaction_runs: Counter,
    /// Bytes that compaction gave back.
    pub compaction_bytes_reclaimed: Counter,
}

/// Where a wrong checksum was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrcSource {
    /// In a batch that a producer sent, which was refused.
    Produce,
    /// In a batch that a leader sent, which was refused.
    Replica,
    /// In a log on the disk, at start or when it was read.
    Disk,
}

impl CrcSource {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Produce, "produce"), (Self::Replica, "replica"), (Self::Disk, "disk")];
}

impl StorageMetrics {
    /// Counts wrong checksums.
    pub fn crc_failed(&self, source: CrcSource, count: u64) {
        self.crc_failures[source as usize].add(count);
    }
}

/// How far the recovery at start is.
#[derive(Debug, Default)]
pub struct RecoveryProgress {
    /// Segments or logs that were looked at.
    pub done: Gauge,
    /// How many there are to look at.
    pub total: Gauge,
    /// Milliseconds that recovery took, once it is finished.
    pub took_ms: Gauge,
    finished: AtomicBool,
}

impl RecoveryProgress {
    /// Says that recovery is over.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::Release);
    }

    /// Whether recovery is over.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }
}

/// Consumer groups, as far as it is counted rather than read.
#[derive(Debug, Default)]
pub struct GroupMetrics {
    /// Members removed because they were silent.
    pub members_expired: Counter,
    /// Offsets that were committed.
    pub offsets_committed: Counter,
    /// Committed offsets that were forgotten by their age.
    pub offsets_expired: Counter,
}

/// Replicas, as far as it is counted rather than read; see `metadata::replica_changes`.
#[derive(Debug, Default)]
pub struct ReplicaMetrics {
    /// Leaders elected that held all that was committed.
    pub elections: Counter,
    /// Leaders elected though records may be lost by it.
    pub unclean_elections: Counter,
    /// Partitions that lost their leader and found no other.
    pub leaders_lost: Counter,
    /// In-sync sets that grew.
    pub isr_expansions: Counter,
    /// In-sync sets that shrank.
    pub isr_shrinks: Counter,
}

/// The health of the runtime that serves requests.
#[derive(Debug, Default)]
pub struct RuntimeMetrics {
    /// When the runtime last showed that it turns over, in milliseconds of the monotonic clock.
    pub last_beat_ms: Gauge,
    /// The longest time between two beats, in milliseconds beyond the beat's own interval.
    pub stall_ms_max: Gauge,
    /// 1 if the configuration was wrong when it was last read again.
    pub config_reload_failed: Gauge,
}

/// All of a broker's series.
#[derive(Debug, Default)]
pub struct Metrics {
    /// By API.
    pub requests: RequestMetrics,
    /// The Kafka listener.
    pub connections: ConnectionMetrics,
    /// By topic.
    pub topics: TopicRegistry,
    /// The log shards.
    pub storage: StorageMetrics,
    /// The recovery at start.
    pub recovery: RecoveryProgress,
    /// Consumer groups.
    pub groups: GroupMetrics,
    /// Replicas.
    pub replicas: ReplicaMetrics,
    /// The runtime.
    pub runtime: RuntimeMetrics,
}

impl Metrics {
    /// Everything at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes every series that is counted here.
    pub fn write(&self, out: &mut Exposition) {
        out.family("varve_build_info", Kind::Gauge, "The version that is running.");
        let version = env!("CARGO_PKG_VERSION");
        let revision = option_env!("VARVE_REVISION").unwrap_or("unknown");
        out.sample("varve_build_info", &[("version", version), ("revision", revision)], 1.0);
        process::write(out);
        self.requests.write(out);
        self.write_connections(out);
        self.topics.write(out);
        self.write_storage(out);
        self.write_groups(out);
        self.write_replicas(out);
        out.one(
            "varve_config_last_reload_successful",
            Kind::Gauge,
            "Whether the configuration was right when it was last read.",
            float(1 - self.runtime.config_reload_failed.value().min(1)),
        );
        out.one(
            "varve_runtime_stall_seconds",
            Kind::Gauge,
            "The longest time for which the request runtime did not turn over.",
            seconds(self.runtime.stall_ms_max.value()),
        );
    }

    fn write_connections(&self, out: &mut Exposition) {
        let listener = &self.connections;
        type Read = fn(&TransportMetrics) -> u64;
        let rows: [(&str, Kind, &str, Read); 4] = [
            ("varve_connections", Kind::Gauge, "Open connections; of QUIC, streams.", |counts| {
                counts.open.value()
            }),
            (
                "varve_connections_accepted_total",
                Kind::Counter,
                "Connections ever accepted; of QUIC, streams.",
                |counts| counts.accepted.value(),
            ),
            (
                "varve_network_receive_bytes_total",
                Kind::Counter,
                "Bytes read from clients, as they are in plain text.",
                |counts| counts.received_bytes.value(),
            ),
            (
                "varve_network_transmit_bytes_total",
                Kind::Counter,
                "Bytes written to clients, as they are in plain text.",
                |counts| counts.sent_bytes.value(),
            ),
        ];
        for (name, kind, help, read) in rows {
            out.family(name, kind, help);
            for transport in TransportKind::ALL {
                let labels = [("listener", "kafka"), ("transport", transport.name())];
                out.count(name, &labels, read(listener.of(transport)));
            }
        }
        out.one(
            "varve_request_memory_bytes",
            Kind::Gauge,
            "Bytes of request frames held in memory.",
            float(listener.request_memory_bytes.value()),
        );
        let name = "varve_connections_rejected_total";
        out.family(name, Kind::Counter, "Connections that the broker turned away or closed.");
        for ((_, reason), count) in RejectReason::ALL.iter().zip(&listener.rejected) {
            out.count(name, &[("reason", reason)], count.value());
        }
        listener.software.write(out);
    }

    fn write_storage(&self, out: &mut Exposition) {
        let storage = &self.storage;
        let name = "varve_log_append_duration_seconds";
        out.family(name, Kind::Histogram, "Appending what one request brings, before the sync.");
        storage.append_duration.write(out, name, &[]);
        let name = "varve_fsync_duration_seconds";
        let help = "One group commit of logs, or one write of the quorum's log: writes and syncs.";
        out.family(name, Kind::Histogram, help);
        storage.fsync_duration.write(out, name, &[("file", "log")]);
        storage.quorum_fsync_duration.write(out, name, &[("file", "raft")]);
        let name = "varve_crc_failures_total";
        out.family(name, Kind::Counter, "Wrong checksums met, by where.");
        for (source, label) in CrcSource::ALL {
            let count = storage.crc_failures[source as usize].value();
            out.count(name, &[("source", label)], count);
        }
        let rows = [
            (
                "varve_committed_partitions_total",
                "Partitions that became durable by group commits.",
                storage.committed_partitions.value(),
            ),
            (
                "varve_logs_repaired_total",
                "Logs cut before damage, to be copied from their leaders again.",
                storage.logs_repaired.value(),
            ),
            (
                "varve_disk_full_total",
                "Produce requests refused for want of space.",
                storage.disk_full.value(),
            ),
            (
                "varve_segments_deleted_total",
                "Segments deleted by retention or on request.",
                storage.segments_deleted.value(),
            ),
            ("varve_compaction_runs_total", "Compaction runs.", storage.compaction_runs.value()),
            (
                "varve_compaction_bytes_reclaimed_total",
                "Bytes that compaction gave back.",
                storage.compaction_bytes_reclaimed.value(),
            ),
        ];
        for (name, help, value) in rows {
            out.one(name, Kind::Counter, help, float(value));
        }
        out.one(
            "varve_failed_directories",
            Kind::Gauge,
            "Log directories that failed and take nothing until a restart.",
            float(storage.failed_directories.value()),
        );
        out.one(
            "varve_log_recovery_seconds",
            Kind::Gauge,
            "How long recovery took at the last start.",
            seconds(self.recovery.took_ms.value()),
        );
    }

    fn write_replicas(&self, out: &mut Exposition) {
        let replicas = &self.replicas;
        let name = "varve_isr_changes_total";
        out.family(
            name,
            Kind::Counter,
            "Changes of in-sync sets of partitions that this broker leads.",
        );
        out.count(name, &[("kind", "shrink")], replicas.isr_shrinks.value());
        out.count(name, &[("kind", "expand")], replicas.isr_expansions.value());
        let name = "varve_leader_elections_total";
        out.family(
            name,
            Kind::Counter,
            "Elections of partitions' leaders, counted by the controller.",
        );
        out.count(name, &[("kind", "clean")], replicas.elections.value());
        out.count(name, &[("kind", "unclean")], replicas.unclean_elections.value());
        out.count(name, &[("kind", "none_eligible")], replicas.leaders_lost.value());
    }

    fn write_groups(&self, out: &mut Exposition) {
        let groups = &self.groups;
        let rows = [
            (
                "varve_group_members_expired_total",
                "Members removed because they were silent.",
                groups.members_expired.value(),
            ),
            (
                "varve_group_offsets_committed_total",
                "Offsets committed.",
                groups.offsets_committed.value(),
            ),
            (
                "varve_group_offsets_expired_total",
                "Committed offsets forgotten by their age.",
                groups.offsets_expired.value(),
            ),
        ];
        for (name, help, value) in rows {
            out.one(name, Kind::Counter, help, float(value));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus values are floats by definition")]
fn float(value: u64) -> f64 {
    value as f64
}

pub(crate) fn seconds(milliseconds: u64) -> f64 {
    float(milliseconds) / 1_000.0
}
