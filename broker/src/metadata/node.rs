//! One member of the metadata quorum: the quorum, its log, and the image that the log adds up to.
//!
//! On the leader, which is the controller, changes are planned on the image as it will be once all
//! that is proposed is committed; each change is one entry. An entry is answered when it is committed
//! and the finisher is done with it. Everybody applies committed entries alike.
//!
//! Works on its own disk; everything else is told to it, time included.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use varve_protocol::vocabulary::BrokerId;
use varve_replication::quorum::{
    LogEntry, MembershipChange, Payload, Persist, ProposeError, Proposed, Quorum, QuorumRole,
    QuorumStatus,
};

use super::change::{Applied, ChangeError, MetadataChange};
use super::codec;
use super::delta::Delta;
use super::diff::diff;
use super::image::MetadataImage;
use super::plan::PlanSettings;
use super::planning::Planning;
use super::store::{AppendError, QuorumLog};
use super::voters::{VoterRefused, plan_voter};
use crate::peers::LogExtent;

/// Where fresh ids come from: a random source at the edge, a seeded one in simulation.
pub type IdSource = Box<dyn FnMut() -> u128 + Send>;

/// Answers one change.
pub(super) type Answer = oneshot::Sender<Result<Applied, ChangeError>>;

/// Takes messages to the other members. They may be lost.
pub trait QuorumTransport: Send + Sync + 'static {
    /// Must not block.
    fn send(&self, to: BrokerId, messages: Vec<Bytes>);
}

/// Entries that were committed, on their way to the finisher.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) image: Arc<MetadataImage>,
    pub(super) delta: Delta,
    /// The last entry that the image shows.
    pub(super) index: u64,
    pub(super) answers: Vec<(Answer, Applied)>,
}

/// Changes that wait until this broker, which was elected, knows all that was decided before.
const WAITING_MAX: usize = 4_096;
/// Changes that wait to be committed.
const PENDING_MAX: usize = 4_096;

/// A change that is proposed and not committed.
struct Pending {
    proposed: Proposed,
    answer: Answer,
    applied: Applied,
}

/// A member.
pub(super) struct Node {
    quorum: Quorum,
    log: Box<dyn QuorumLog>,
    /// As of the last applied entry.
    image: Arc<MetadataImage>,
    applied: u64,
    /// On the controller: the image as of the last proposed entry.
    planned: Option<MetadataImage>,
    pending: VecDeque<Pending>,
    /// The last round in which a majority of the quorum said that this broker leads.
    confirmed: u64,
    /// Changes that came while this broker leads and has not applied all of its predecessors' entries.
    waiting: Vec<(MetadataChange, Answer)>,
    settings: PlanSettings,
    broker: BrokerId,
    /// The id that a new cluster gets; by chance where there is none.
    cluster_id: Option<String>,
    ids: IdSource,
    /// What a full disk did not take; nothing else happens before it is written.
    stuck: Option<Persist>,
    failure: Option<ChangeError>,
}

impl Node {
    pub(super) fn new(
        quorum: Quorum,
        log: Box<dyn QuorumLog>,
        image: MetadataImage,
        settings: PlanSettings,
        (broker, cluster_id): (BrokerId, Option<String>),
        ids: IdSource,
    ) -> Self {
        let applied = quorum.status().applied;
        Self {
            quorum,
            log,
            image: Arc::new(image),
            applied,
            planned: None,
            pending: VecDeque::new(),
            confirmed: 0,
            waiting: Vec::new(),
            settings,
            broker,
            cluster_id,
            ids,
            stuck: None,
            failure: None,
        }
    }

    /// As of the last applied entry.
    pub(super) fn image(&self) -> &Arc<MetadataImage> {
        &self.image
    }

    /// The broker that decides changes, as far as is known: this one only once it knows all that was
    /// committed before.
    pub(super) fn controller(&self) -> Option<BrokerId> {
        if self.failure.is_some() {
            return None;
        }
        let QuorumRole { leader, is_leader, .. } = self.quorum.role();
        if is_leader { self.planned.as_ref().map(|_| self.broker) } else { leader }
    }

    /// Whether this broker decides changes.
    pub(super) fn is_controller(&self) -> bool {
        self.controller() == Some(self.broker)
    }

    /// How far the quorum is.
    pub(super) fn status(&self) -> QuorumStatus {
        self.quorum.status()
    }

    /// Whether [`Self::status`] would say the same again.
    pub(super) fn is_still(&self, status: &QuorumStatus) -> bool {
        self.quorum.is_still(status)
    }

    /// The image as it will be, on the controller.
    pub(super) fn planned_image(&self) -> Option<&MetadataImage> {
        self.planned.as_ref()
    }

    /// One tick of the clock has passed.
    pub(super) fn on_tick(&mut self) {
        if self.failure.is_none() && self.stuck.is_none() {
            self.quorum.on_tick();
        }
    }

    /// Messages of another member.
    pub(super) fn on_messages(&mut self, from: BrokerId, messages: Vec<Bytes>) {
        if self.failure.is_some() || self.stuck.is_some() {
            return;
        }
        for message in messages {
            if let Err(error) = self.quorum.on_message(from, message) {
                tracing::warn!(%from, %error, "a message of the quorum was not taken");
            }
        }
    }

    /// Another broker has connected, and has said how far its log goes.
    pub(super) fn on_member_log(&mut self, broker: BrokerId, log: &LogExtent) {
        if self.failure.is_some() || self.stuck.is_some() {
            return;
        }
        let (last, commit) = (log.last, log.commit);
        let status = self.quorum.status();
        let is_other = !log.first_voters.is_empty() && log.first_voters != status.first_voters;
        if status.last == 0 && commit > 0 && is_other {
            let voters = &log.first_voters;
            tracing::info!(%broker, ?voters, "taking up the voters of the cluster that exists");
            match self.log.adopt_voters(voters) {
                Ok(()) => self.quorum.adopt_voters(voters.clone(), commit),
                Err(error) => drop(self.fail(error.to_string())),
            }
            return;
        }
        let abstained = self.quorum.abstains();
        self.quorum.on_member_log(broker, last, commit);
        if self.quorum.abstains() && !abstained && status.membership.voters.contains(&self.broker) {
            tracing::warn!(
                "this broker votes in a cluster that exists, but has nothing of its metadata log: \
                 it has no say in elections until it has caught up"
            );
        }
    }

    /// The process of another broker is dead.
    pub(super) fn on_peer_lost(&mut self, broker: BrokerId) {
        if self.failure.is_none() && self.stuck.is_none() {
            self.quorum.on_peer_lost(broker);
        }
    }

    /// Asks the quorum whether this broker leads still; [`Self::confirmed`] tells.
    pub(super) fn confirm(&mut self, round: u64, is_urgent: bool) {
        if self.failure.is_none() && self.stuck.is_none() {
            self.quorum.confirm(round, is_urgent);
        }
    }

    /// The last round of [`Self::confirm`] that a majority has answered.
    pub(super) fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// The last entry of this broker's log.
    pub(super) fn last_index(&self) -> u64 {
        self.quorum.last()
    }

    /// Takes changes; they are decided by [`Self::step`].
    pub(super) fn on_changes(&mut self, changes: Vec<(MetadataChange, Answer)>) {
        for (change, answer) in changes {
            if self.waiting.len() < WAITING_MAX {
                self.waiting.push((change, answer));
            } else {
                // Whoever asked may be gone.
                let _ = answer.send(Err(ChangeError::Busy));
            }
        }
    }

    /// Hands leadership to the voter that has most of the log and lives.
    pub(super) fn hand_over(&mut self) {
        let status = self.quorum.status();
        let lives = |id: &BrokerId| self.image.broker(*id).is_some_and(|broker| !broker.is_fenced);
        let others = status.matched.iter().filter(|(id, _)| *id != self.broker);
        let voters = others.filter(|(id, _)| status.membership.voters.contains(id) && lives(id));
        if let Some((heir, _)) = voters.max_by_key(|(_, matched)| *matched) {
            self.quorum.transfer_leadership(*heir);
        }
    }

    /// Hands leadership to another voter.
    pub(super) fn transfer_leadership(&mut self, to: BrokerId) {
        self.quorum.transfer_leadership(to);
    }

    /// Does all that is to be done: plans, writes, sends, applies. Blocks for the disk. Answers what
    /// was committed.
    pub(super) fn step(&mut self, transport: &dyn QuorumTransport) -> Option<Batch> {
        if self.is_idle() {
            self.snapshot_if_due();
            return None;
        }
        let mut committed = Committed::on(&self.image);
        self.retry_stuck(transport, &mut committed);
        loop {
            self.follow_role();
            self.decide_waiting(&mut committed);
            if self.failure.is_some() || self.stuck.is_some() {
                break;
            }
            let Some(step) = self.quorum.poll() else { break };
            send(transport, step.messages);
            self.confirmed = self.confirmed.max(step.confirmed.unwrap_or(0));
            if let Some(persist) = step.persist
                && let Err(error) = self.log.persist(&persist)
            {
                self.on_refused(error, persist);
                break;
            }
            self.finish_step(transport, &mut committed);
        }
        self.snapshot_if_due();
        committed.into_batch(&self.image, self.applied)
    }

    /// Whether neither the quorum nor anybody who waits has anything to do; most ticks find it so.
    fn is_idle(&self) -> bool {
        let follows_role = self.quorum.role().is_leader == self.planned.is_some();
        follows_role && self.stuck.is_none() && self.waiting.is_empty() && !self.quorum.has_work()
    }

    /// The quorum has something durable: its promises leave, its entries are applied.
    fn finish_step(&mut self, transport: &dyn QuorumTransport, committed: &mut Committed) {
        let done = self.quorum.on_persisted();
        send(transport, done.messages);
        if let Some(snapshot) = done.snapshot {
            let mut image = MetadataImage::default();
            self.apply(&mut image, &snapshot.data, &mut Delta::default(), snapshot.index);
            committed.delta = diff(&committed.base, &image);
            self.image = Arc::new(image);
            self.applied = snapshot.index;
            committed.has_news = true;
        }
        if done.committed.is_empty() {
            return;
        }
        let mut image = (*self.image).clone();
        for entry in done.committed {
            self.apply_entry(&mut image, &entry, committed);
        }
        self.image = Arc::new(image);
    }

    fn apply_entry(
        &mut self,
        image: &mut MetadataImage,
        entry: &LogEntry,
        committed: &mut Committed,
    ) {
        if let Payload::Data(data) = &entry.payload {
            self.apply(image, data, &mut committed.delta, entry.index);
        }
        self.applied = entry.index;
        committed.has_news = true;
        while let Some(first) =
            self.pending.pop_front_if(|pending| pending.proposed.index <= entry.index)
        {
            let is_taken = first.proposed.index < entry.index || first.proposed.term == entry.term;
            if is_taken {
                committed.answers.push((first.answer, first.applied));
            } else {
                // Whoever asked may be gone.
                let _ = first.answer.send(Err(ChangeError::NotController));
            }
        }
    }

    /// # Panics
    /// When an entry does not fit: the brokers' images would differ from here on.
    fn apply(&self, image: &mut MetadataImage, data: &[u8], delta: &mut Delta, index: u64) {
        let records = codec::decode_batch(data);
        let records = records.unwrap_or_else(|error| {
            panic!("entry {index} of the metadata log cannot be read here: {error}")
        });
        for record in &records {
            if let Err(error) = image.apply(record, delta) {
                panic!("entry {index} of the metadata log does not fit what comes before: {error}");
            }
        }
    }

    /// A broker that leads takes changes once it has applied all that was committed before it did.
    fn follow_role(&mut self) {
        let is_leader = self.quorum.role().is_leader;
        if !is_leader && self.planned.is_some() {
            tracing::info!("this broker is not the controller any more");
            self.planned = None;
        }
        if !is_leader && !self.pending.is_empty() {
            // Whether they are committed by another leader is not known here.
            for pending in self.pending.drain(..) {
                let _ = pending.answer.send(Err(ChangeError::NotController));
            }
        }
        if is_leader
            && self.planned.is_none()
            && self.pending.is_empty()
            && self.quorum.is_ready_to_lead()
        {
            tracing::info!(term = self.quorum.role().term, "this broker is the controller");
            self.planned = Some((*self.image).clone());
        }
    }

    fn decide_waiting(&mut self, committed: &mut Committed) {
        if self.waiting.is_empty() {
            return;
        }
        let refusal = match (&self.failure, &self.stuck) {
            (Some(failure), _) => Some(failure.clone()),
            (None, Some(_)) => Some(ChangeError::DiskFull),
            (None, None) if !self.quorum.role().is_leader => Some(ChangeError::NotController),
            (None, None) => None,
        };
        if let Some(refusal) = refusal {
            for (_, answer) in self.waiting.drain(..) {
                // Whoever asked may be gone.
                let _ = answer.send(Err(refusal.clone()));
            }
            return;
        }
        let Some(planned) = self.planned.take() else { return };
        let mut planning = Planning {
            image: planned,
            delta: Delta::default(),
            entries: Vec::new(),
            settings: &self.settings,
            voters: self.quorum.membership().voters,
            cluster_id: self.cluster_id.as_deref(),
            ids: &mut self.ids,
        };
        let mut refused = false;
        let mut left = Vec::new();
        for (change, answer) in self.waiting.drain(..) {
            if refused {
                left.push((change, answer));
                continue;
            }
            if self.pending.len() >= PENDING_MAX {
                let _ = answer.send(Err(ChangeError::Busy));
                continue;
            }
            if let MetadataChange::ChangeVoter(wish) = &change {
                let status = self.quorum.status();
                let planned = plan_voter(wish, &planning.image, &status, self.broker);
                let proposed = planned.map(|change| self.quorum.propose_membership(change));
                let refusal = match proposed {
                    Ok(Ok(proposed)) => {
                        let applied = Applied::ChangedVoter(Ok(()));
                        self.pending.push_back(Pending { proposed, answer, applied });
                        continue;
                    }
                    Ok(Err(ProposeError::MembershipPending)) => {
                        Ok(Applied::ChangedVoter(Err(VoterRefused::Pending)))
                    }
                    Ok(Err(ProposeError::NotLeader)) => Err(ChangeError::NotController),
                    Ok(Err(ProposeError::Busy)) => Err(ChangeError::Busy),
                    Err(refused) => Ok(Applied::ChangedVoter(Err(refused))),
                };
                // Whoever asked may be gone.
                let _ = answer.send(refusal);
                continue;
            }
            let applied = match planning.plan(change) {
                Ok(applied) => applied,
                Err(error) => {
                    let _ = answer.send(Err(error));
                    continue;
                }
            };
            let mut proposed = None;
            let mut reason = ChangeError::NotController;
            for records in planning.entries.drain(..) {
                let entry = codec::encode_batch(&records);
                if let Err(error) = self.log.reserve(entry.len()) {
                    tracing::warn!(%error, "a metadata change was refused");
                    reason = error.into();
                    refused = true;
                    continue;
                }
                match self.quorum.propose(&entry) {
                    Ok(place) => proposed = Some(place),
                    Err(error) => {
                        if error == ProposeError::Busy {
                            reason = ChangeError::Busy;
                        }
                        refused = true;
                    }
                }
            }
            match (proposed, self.pending.back()) {
                _ if refused => drop(answer.send(Err(reason))),
                (Some(proposed), _) => {
                    self.pending.push_back(Pending { proposed, answer, applied });
                }
                // What changes nothing is answered behind what it was planned on.
                (None, Some(last)) => {
                    let proposed = last.proposed;
                    self.pending.push_back(Pending { proposed, answer, applied });
                }
                (None, None) => committed.answers.push((answer, applied)),
            }
        }
        self.waiting = left;
        // What was planned and not taken must be planned again, on what is taken: at once where nothing
        // is under way. This broker is the controller meanwhile; who was refused would else take it for
        // a new one when it plans again, and ask at once, again and again.
        self.planned = match refused {
            false => Some(planning.image),
            true => self.pending.is_empty().then(|| (*self.image).clone()),
        };
    }

    /// Who registers and takes no part yet gets the log; who was taken out gets it no more.
    pub(super) fn admit_registered(&mut self) {
        if !self.is_controller() {
            return;
        }
        let membership = self.quorum.membership();
        let takes_part =
            |id: &BrokerId| membership.voters.contains(id) || membership.learners.contains(id);
        let newcomer = self.image.brokers().map(|broker| broker.id).find(|id| !takes_part(id));
        let is_gone = |id: &&BrokerId| self.image.broker(**id).is_none();
        let gone = membership.learners.iter().find(is_gone);
        let change = newcomer
            .map(MembershipChange::AddLearner)
            .or_else(|| gone.copied().map(MembershipChange::Remove));
        if let Some(change) = change {
            // Another change may be under way; then this one waits for the next tick.
            let _ = self.quorum.propose_membership(change);
        }
    }

    fn retry_stuck(&mut self, transport: &dyn QuorumTransport, committed: &mut Committed) {
        let Some(persist) = self.stuck.take() else { return };
        match self.log.persist(&persist) {
            Ok(()) => {
                tracing::info!("the metadata log has room again");
                self.finish_step(transport, committed);
            }
            Err(error) => self.on_refused(error, persist),
        }
    }

    fn on_refused(&mut self, error: AppendError, persist: Persist) {
        let answer = match error {
            AppendError::Full => {
                tracing::warn!("the disk is full; the metadata cannot be changed");
                self.stuck = Some(persist);
                // Other members may have it already.
                ChangeError::Uncertain
            }
            AppendError::Failed(reason) => self.fail(reason),
        };
        for pending in self.pending.drain(..) {
            let _ = pending.answer.send(Err(answer.clone()));
        }
        self.planned = None;
    }

    /// A log that failed once is never written again: whether its last bytes are on the disk, nobody
    /// can know before a restart. Without it this broker takes no part in the quorum.
    fn fail(&mut self, reason: String) -> ChangeError {
        tracing::error!(%reason, "the metadata log failed; no changes here until a restart");
        let failure = ChangeError::StoreFailed(reason);
        self.failure = Some(failure.clone());
        self.planned = None;
        // Nothing that waits here for a majority hears of it any more.
        for pending in self.pending.drain(..) {
            let _ = pending.answer.send(Err(failure.clone()));
        }
        failure
    }

    fn snapshot_if_due(&mut self) {
        let is_due = self.log.is_snapshot_due() || self.quorum.is_snapshot_wanted();
        if self.failure.is_some() || self.stuck.is_some() || !is_due {
            return;
        }
        let data = Bytes::from(codec::encode_batch(&self.image.to_records()));
        let snapshot = self.quorum.snapshot(data);
        if let Err(AppendError::Failed(reason)) = self.log.compact(&snapshot) {
            // What was applied is durable and stands; only later changes are refused.
            self.fail(reason);
        }
    }
}

/// What a step adds up to.
struct Committed {
    /// The image before it.
    base: Arc<MetadataImage>,
    has_news: bool,
    delta: Delta,
    answers: Vec<(Answer, Applied)>,
}

impl Committed {
    fn on(base: &Arc<MetadataImage>) -> Self {
        let base = Arc::clone(base);
        Self { base, has_news: false, delta: Delta::default(), answers: Vec::new() }
    }

    fn into_batch(self, image: &Arc<MetadataImage>, index: u64) -> Option<Batch> {
        let Self { has_news, delta, answers, .. } = self;
        let image = Arc::clone(image);
        (has_news || !answers.is_empty()).then_some(Batch { image, delta, index, answers })
    }
}

fn send(transport: &dyn QuorumTransport, messages: Vec<(BrokerId, Bytes)>) {
    let mut rest = messages.into_iter().peekable();
    while let Some((to, first)) = rest.next() {
        let mut same = vec![first];
        while let Some((_, next)) = rest.next_if(|(other, _)| *other == to) {
            same.push(next);
        }
        transport.send(to, same);
    }
}
