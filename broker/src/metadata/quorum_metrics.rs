//! What the metadata thread counts, and what a scrape reads of the quorum.

use std::sync::Arc;

use varve_protocol::vocabulary::BrokerId;
use varve_replication::quorum::{Persist, QuorumSnapshot};

use super::handle::MetadataHandle;
use super::store::{AppendError, QuorumLog};
use crate::clock;
use crate::metrics::{Counter, Exposition, Histogram, Kind};

/// Counts of the metadata thread.
#[derive(Debug, Default)]
pub(super) struct QuorumMetrics {
    /// Another leader than the last one that was known.
    pub(super) leader_changes: Counter,
    /// Writing and syncing entries and votes.
    pub(super) append_duration: Histogram,
    /// Any write with its sync; shown among the storage's series.
    pub(super) fsync_duration: Arc<Histogram>,
}

/// A log that measures how long writing takes, so that the node itself needs no clock.
pub(super) struct TimedLog {
    log: Box<dyn QuorumLog>,
    metrics: Arc<QuorumMetrics>,
}

impl TimedLog {
    pub(super) fn new(log: Box<dyn QuorumLog>, metrics: Arc<QuorumMetrics>) -> Self {
        Self { log, metrics }
    }
}

impl QuorumLog for TimedLog {
    fn reserve(&mut self, entry_bytes: usize) -> Result<(), AppendError> {
        self.log.reserve(entry_bytes)
    }

    fn persist(&mut self, persist: &Persist) -> Result<(), AppendError> {
        let began = clock::now();
        let written = self.log.persist(persist);
        let took = began.elapsed();
        self.metrics.fsync_duration.observe(took);
        if !persist.entries.is_empty() {
            self.metrics.append_duration.observe(took);
        }
        written
    }

    fn adopt_voters(&mut self, voters: &[BrokerId]) -> Result<(), AppendError> {
        self.log.adopt_voters(voters)
    }

    fn is_snapshot_due(&self) -> bool {
        self.log.is_snapshot_due()
    }

    fn compact(&mut self, snapshot: &QuorumSnapshot) -> Result<(), AppendError> {
        self.log.compact(snapshot)
    }
}

impl MetadataHandle {
    /// Writes the series of the quorum.
    pub fn write_quorum(&self, out: &mut Exposition) {
        let status = self.quorum_status();
        let metrics = &self.shared.metrics;
        let name = "varve_controller_active";
        out.family(name, Kind::Gauge, "1 on the broker that decides metadata changes.");
        out.count(name, &[], self.is_controller().into());
        let gauges = [
            ("varve_raft_term", "The quorum's term.", status.role.term),
            ("varve_raft_commit_index", "The last committed entry.", status.commit),
            ("varve_raft_applied_index", "The last entry that is shown.", self.applied_index()),
            ("varve_raft_last_log_index", "The last entry.", status.last),
        ];
        for (name, help, value) in gauges {
            out.family(name, Kind::Gauge, help);
            out.count(name, &[], value);
        }
        let name = "varve_raft_leader_changes_total";
        out.family(name, Kind::Counter, "Changes of the quorum's leader that this broker saw.");
        out.count(name, &[], metrics.leader_changes.value());
        let name = "varve_raft_append_duration_seconds";
        out.family(name, Kind::Histogram, "Writing and syncing entries of the quorum's log.");
        metrics.append_duration.write(out, name, &[]);
        if status.role.is_leader {
            let name = "varve_raft_peer_lag_entries";
            out.family(name, Kind::Gauge, "Entries that a member is behind the leader.");
            for (peer, matched) in &status.matched {
                let lag = status.last.saturating_sub(*matched);
                out.count(name, &[("peer", &peer.to_string())], lag);
            }
        }
    }
}
