//! What must hold after every step. One invariant a file, with its source; each is a value that is
//! told what was seen and says what is wrong.

mod acknowledged;
mod committed;
mod committed_offsets;
mod consumed;
mod durable;
mod election_safety;
mod epochs;
mod fencing;
mod generations;
mod groups;
mod high_watermark;
mod leaders;
mod log_start;
mod membership;
mod monotonic;
mod promises;
mod quorum_commit;
mod records;
mod replica_log;
pub(in crate::sim) mod spurious;
pub(in crate::sim) mod stable_reads;
mod state_machine;
mod strong_isr;
mod truncation;

use std::collections::BTreeMap;
use std::sync::Arc;

use varve_broker::simulation::{LogWitness, MetadataView, ReplicaView, SteppedBroker};
use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, Offset, TopicIdPartition};
use varve_replication::quorum::QuorumStatus;
use varve_storage::Disk;

pub use acknowledged::{Acknowledged, Demand, Sent};
pub use committed::Committed;
pub use consumed::{Consumed, Reader};
pub use groups::{Asked, Groups};
pub use membership::Newest;
use replica_log::Records;
pub use replica_log::{BatchMark, Replicas};

use super::coverage::{Branch, Coverage};

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

/// What an invariant answers.
pub type Verdict = Result<(), Violation>;

/// A violation of `invariant`.
pub(super) fn violated(invariant: &'static str, what: String) -> Verdict {
    Err(Violation { invariant, what })
}

/// What was looked at in a broker: what is still that need not be looked at again.
#[derive(Debug, Default)]
struct Looked {
    run: u64,
    witness: u64,
    shard: u64,
    status: Option<Arc<QuorumStatus>>,
    shown: u64,
    replicas: BTreeMap<TopicIdPartition, ReplicaView>,
}

/// One broker after a step.
#[derive(Debug)]
pub struct Seen {
    /// Which.
    pub id: BrokerId,
    /// Which run of its process.
    pub run: u64,
    /// Its metadata.
    pub metadata: MetadataView,
    /// Whether its metadata has changed.
    pub is_metadata_new: bool,
    /// What its metadata log holds, if that has changed.
    pub witness: Option<LogWitness>,
    /// What its replicas were in the course of the step, in order.
    pub glimpses: Vec<(TopicIdPartition, ReplicaView)>,
    /// The partitions whose logs lie there, if they may have changed; none if they cannot have.
    pub partitions: Option<Vec<TopicIdPartition>>,
    /// Those of its replicas that have changed.
    pub replicas: Vec<(TopicIdPartition, ReplicaView)>,
}

/// All invariants, and what they remember.
#[derive(Debug, Default)]
pub struct Invariants {
    /// What every member's metadata log promised to hold.
    witnesses: BTreeMap<BrokerId, LogWitness>,
    looked: BTreeMap<BrokerId, Looked>,
    elections: election_safety::ElectionSafety,
    quorum: quorum_commit::QuorumCommit,
    monotonic: monotonic::Monotonic,
    states: state_machine::StateMachine,
    /// The newest metadata that any broker shows.
    pub newest: Newest,
    /// What every replica holds.
    pub replicas: Replicas,
    /// What no replica may lose or contradict any more.
    pub committed: Committed,
    leaders: leaders::Leaders,
    high_watermarks: high_watermark::HighWatermarks,
    log_starts: log_start::LogStarts,
    /// What producers were told.
    pub acknowledged: Acknowledged,
    /// What members of groups were told.
    pub groups: Groups,
    /// What they were given.
    pub consumed: Consumed,
}

impl Invariants {
    /// After a step of a broker, whose metadata are these now, and in the course of which its replicas were as in the
    /// glimpses.
    ///
    /// # Errors
    /// The first violation.
    pub fn after_step(
        &mut self,
        (id, run): (BrokerId, u64),
        (broker, metadata, glimpses): (
            &SteppedBroker,
            MetadataView,
            Vec<(TopicIdPartition, ReplicaView)>,
        ),
        coverage: &mut Coverage,
    ) -> Verdict {
        let looked = self.looked.entry(id).or_default();
        let (witness_version, shard_version) = (broker.witness_version(), broker.shard_version());
        let is_new_run = looked.run != run;
        let witness = (is_new_run || looked.witness != witness_version).then(|| broker.witness());
        let looks_at_shard = is_new_run || looked.shard != shard_version;
        let is_status_known =
            looked.status.as_ref().is_some_and(|known| Arc::ptr_eq(known, &metadata.status));
        let is_metadata_new = is_new_run || !is_status_known || looked.shown != metadata.shown;
        if is_metadata_new {
            looked.status = Some(Arc::clone(&metadata.status));
        }
        (looked.run, looked.witness, looked.shard) = (run, witness_version, shard_version);
        looked.shown = metadata.shown;
        if is_metadata_new {
            // What a replica may do depends on it too.
            looked.replicas.clear();
        }
        let looks_at_shard = looks_at_shard && shard_version > 0;
        let partitions = looks_at_shard.then(|| broker.partitions());
        let mut replicas = Vec::new();
        for tip in partitions.iter().flatten() {
            if let Some(news) = broker.replica_news(tip, looked.replicas.get(tip)) {
                looked.replicas.insert(*tip, news.clone());
                replicas.push((*tip, news));
            }
        }
        let seen =
            Seen { id, run, metadata, is_metadata_new, witness, glimpses, partitions, replicas };
        let records = |tip: &TopicIdPartition, from: Offset| broker.records(tip, from);
        self.check(seen, &records, coverage)
    }

    fn check(&mut self, seen: Seen, records: Records<'_>, coverage: &mut Coverage) -> Verdict {
        if let Some(witness) = &seen.witness {
            if self.monotonic.is_new_run(seen.id, seen.run)
                && let Some(before) = self.witnesses.get(&seen.id)
            {
                promises::check(seen.id, before, witness)?;
            }
            self.monotonic.on_vote(seen.id, witness, coverage)?;
            self.quorum.on_log(seen.id, witness, self.witnesses.get(&seen.id), coverage)?;
            self.witnesses.insert(seen.id, witness.clone());
        }
        let mut is_news = false;
        if seen.is_metadata_new || seen.witness.is_some() {
            self.monotonic.on_status(&seen)?;
            self.elections.on_status(&seen, coverage)?;
            self.quorum.on_status(&seen, &self.witnesses)?;
            self.states.on_image(&seen)?;
            is_news = self.newest.on_image(&seen, coverage)?;
        }
        // A leader that is deposed may have committed something right before, when it heard that who
        // lacked it is not in sync any more. A role changes no records: those of before the step stand.
        for (tip, view) in &seen.glimpses {
            self.leaders.check(&seen, *tip, view)?;
            let known = (&self.replicas, &self.newest);
            self.high_watermarks.check(&seen, *tip, view, known)?;
            self.committed.on_view(&seen, *tip, view, &mut self.replicas)?;
        }
        if let Some(tips) = &seen.partitions {
            for _ in 0..self.replicas.retain(seen.id, tips) {
                coverage.hit(Branch::ReplicaDeleted);
            }
            self.high_watermarks.retain(seen.id, tips);
            self.log_starts.retain(seen.id, tips);
        }
        for (tip, view) in &seen.replicas {
            let known = (records, &self.committed);
            let mut changed = self.replicas.on_view(&seen, *tip, view, known)?;
            if changed.is_harmed && !self.newest.holds(*tip, seen.id) {
                // Who is not in sync any more may copy all of it anew.
                changed.cut.clear();
                changed.reopened = None;
            }
            let batches = self.replicas.batches(*tip, seen.id);
            durable::check(&changed, batches, coverage)?;
            let known = (&self.committed, &self.newest);
            truncation::check(&changed, view, known, coverage)?;
            epochs::check(&changed, batches, view)?;
            self.log_starts.check(&seen, *tip, (view, &self.newest), coverage)?;
            self.leaders.check(&seen, *tip, view)?;
            let known = (&self.replicas, &self.newest);
            self.high_watermarks.check(&seen, *tip, view, known)?;
            self.committed.on_view(&seen, *tip, view, &mut self.replicas)?;
        }
        if is_news || !seen.replicas.is_empty() {
            strong_isr::check(&self.newest, &self.replicas, &self.committed)?;
        }
        Ok(())
    }

    /// A leader of this epoch has answered that everything before is deleted.
    pub fn on_deleted(&mut self, tip: TopicIdPartition, before: i64, epoch: LeaderEpoch) {
        self.log_starts.on_deleted(tip, before, epoch);
    }

    /// A sync or a write of a broker has failed in the middle of a step. That may have been cutting off
    /// what is not committed: the log in memory is as before, the one on the disk may be cut.
    pub fn on_failed_disk(&mut self, id: BrokerId) {
        self.replicas.on_interrupted(id);
    }

    /// A broker has crashed; `is_interrupted`, in the middle of a step.
    pub fn on_crash(&mut self, id: BrokerId, broker: &SteppedBroker, is_interrupted: bool) {
        self.witnesses.insert(id, broker.witness());
        if broker.disk().latch().is_closed() {
            // What it showed since was not durable, and was not answered.
            self.log_starts.retain(id, &[]);
        }
        if is_interrupted {
            self.replicas.on_interrupted(id);
        }
    }
}
