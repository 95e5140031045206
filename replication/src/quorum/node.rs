//! The quorum as a value: raft over a log that the owner keeps on its disk.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use raft::eraftpb::{self, Entry, Message, MessageType};
use raft::{Config, INVALID_ID, ProgressState, RawNode, Ready, StateRole};
use varve_protocol::vocabulary::BrokerId;

use super::convert::{conf_change, raft_entry};
use super::entry::{HardState, LogEntry, Membership, MembershipChange, Payload, QuorumSnapshot};
use super::guard::{check_message, is_between_brokers, is_for_election};
use super::message;
use super::raft_ids::{broker_id, raft_id};
use super::store::Store;
use super::vocabulary::{
    MessageError, ProposeError, Proposed, QuorumOptions, QuorumRole, QuorumStatus, RecoveredQuorum,
};

/// Bytes of entries in one message, at most; a larger entry travels alone.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// Messages of entries that one follower has not answered.
const MESSAGES_IN_FLIGHT_MAX: usize = 64;
/// Bytes of proposals that are not committed.
const UNCOMMITTED_BYTES_MAX: u64 = 64 << 20;
/// After its leader's process has died, a voter asks again in so many ticks whether it may lead, so
/// often: the others may not have noticed yet.
const CAMPAIGN_AGAIN_TICKS: usize = 2;
const CAMPAIGNS_MAX: usize = 5;
/// A follower that has not answered a snapshot within so many ticks gets it again.
const SNAPSHOT_TICKS_MAX: usize = 200;

/// The quorum. Steps with [`Self::poll`]; see the module.
pub struct Quorum {
    pub(super) node: RawNode<Store>,
    pub(super) id: BrokerId,
    options: QuorumOptions,
    /// Taken by [`Self::poll`], given back by [`Self::on_persisted`].
    pub(super) ready: Option<Ready>,
    pub(super) applied: u64,
    pub(super) applied_term: u64,
    /// Counts the drawn election timeouts.
    draws: u64,
    elapsed: usize,
    /// Ticks until the next campaign, and how many are left.
    campaigns: Option<(usize, usize)>,
    /// Set while this broker's log was lost, as far as is known: it has no say in elections before
    /// it has all that was committed up to here, and something of the present leader.
    ///
    /// Invariant: durable with the first term that it hears of, before any entry is.
    pub(super) abstains_below: Option<u64>,
    /// Of one on whose disk nothing at all lay, no entry, no vote, no term: the first voters that have
    /// not said yet that they have nothing either. As long as there are any it makes no cluster, since
    /// they may have one.
    unheard: BTreeSet<BrokerId>,
    /// Changes of the members up to this entry had their effect when the log was taken up.
    pub(super) members_as_of: u64,
    /// The hard state is to be made durable as soon as there is nothing else to do.
    pub(super) keeps: bool,
    /// The step that was begun is for that alone.
    pub(super) is_keeping: bool,
    /// Since a follower that gets a snapshot was looked after.
    snapshot_ticks: usize,
}

impl std::fmt::Debug for Quorum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quorum").field("id", &self.id).field("status", &self.status()).finish()
    }
}

impl Quorum {
    /// Takes up what lay on the disk. All committed entries after the snapshot are handed out again,
    /// the snapshot is not. A broker that is the only voter leads after its first steps.
    ///
    /// # Panics
    /// When the options make no sense (no voters, no ticks), or entries leave a gap.
    #[must_use]
    pub fn new(options: &QuorumOptions, recovered: RecoveredQuorum) -> Self {
        Self::build(options, recovered, None)
    }

    fn build(
        options: &QuorumOptions,
        recovered: RecoveredQuorum,
        abstains_below: Option<u64>,
    ) -> Self {
        assert!(!options.voters.is_empty(), "a quorum has voters");
        let mut bootstrap = Membership { voters: options.voters.clone(), learners: Vec::new() };
        bootstrap.voters.sort_unstable();
        let RecoveredQuorum { hard_state, snapshot, entries } = recovered;
        let applied = snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
        let applied_term = snapshot.as_ref().map_or(0, |snapshot| snapshot.term);
        let known = hard_state.unwrap_or_default();
        let abstains_below = abstains_below.max(known.abstains_below);
        let is_blank =
            (known.term, known.vote) == (0, None) && snapshot.is_none() && entries.is_empty();
        let mut unheard = BTreeSet::new();
        if is_blank && abstains_below.is_none() && options.voters.contains(&options.id) {
            unheard.extend(options.voters.iter().filter(|voter| **voter != options.id));
        }
        let commit = known.commit.max(applied).max(surely_committed(&entries));
        let mut members =
            snapshot.as_ref().map_or_else(|| bootstrap.clone(), |known| known.membership.clone());
        for change in membership_changes(&entries).filter(|(index, _)| *index <= commit) {
            members.apply(change.1);
        }
        let entries: VecDeque<_> = entries.iter().map(raft_entry).collect();
        let last_term = entries.back().map_or(applied_term, |entry| entry.term);
        let hard_state = eraftpb::HardState {
            // A log of before there was a quorum has entries and no state.
            term: known.term.max(last_term),
            vote: known.vote.map_or(INVALID_ID, raft_id),
            commit,
            ..eraftpb::HardState::default()
        };
        let store = Store::new(hard_state, (&bootstrap, &members), snapshot.as_ref(), entries);
        let config = Config {
            id: raft_id(options.id),
            election_tick: options.election_ticks,
            heartbeat_tick: options.heartbeat_ticks,
            min_election_tick: options.election_ticks,
            max_election_tick: 2 * options.election_ticks,
            applied,
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_inflight_msgs: MESSAGES_IN_FLIGHT_MAX,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
            check_quorum: true,
            pre_vote: true,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&config, store, &logger);
        let mut quorum = Self {
            node: node.expect("the options were checked, and the log is without gaps"),
            id: options.id,
            options: options.clone(),
            ready: None,
            applied,
            applied_term,
            draws: 0,
            elapsed: 0,
            campaigns: None,
            abstains_below,
            unheard,
            keeps: false,
            is_keeping: false,
            snapshot_ticks: 0,
            members_as_of: commit,
        };
        if quorum.membership().voters == [options.id] && abstains_below.is_none() {
            quorum.campaign();
        }
        quorum.draw_timeout();
        quorum
    }

    /// One tick of the clock has passed.
    pub fn on_tick(&mut self) {
        if !self.has_say() {
            // A follower's ticks only lead to elections.
            return;
        }
        self.node.tick();
        self.draw_timeout();
        self.snapshot_ticks += 1;
        if self.snapshot_ticks >= SNAPSHOT_TICKS_MAX {
            self.snapshot_ticks = 0;
            self.give_up_snapshots();
        }
        if let Some((ticks, left)) = self.campaigns.take() {
            if self.node.raft.leader_id != INVALID_ID || left == 0 {
                return;
            }
            if ticks > 0 {
                self.campaigns = Some((ticks - 1, left));
                return;
            }
            self.campaign();
            self.campaigns = Some((CAMPAIGN_AGAIN_TICKS, left - 1));
        }
    }

    /// A message of broker `from`, which the connection vouches for.
    ///
    /// # Errors
    /// [`MessageError`]; then nothing has changed.
    pub fn on_message(&mut self, from: BrokerId, bytes: Bytes) -> Result<(), MessageError> {
        let message = message::decode(bytes)?;
        if message.to != raft_id(self.id) {
            return Err(MessageError::Misdirected);
        }
        if message.from != raft_id(from) {
            return Err(MessageError::Forged);
        }
        if !is_between_brokers(message.msg_type) {
            return Err(MessageError::Local);
        }
        check_message(&self.node.raft, &message).map_err(MessageError::Contradiction)?;
        if !self.has_say() {
            if is_for_election(message.msg_type) {
                return Ok(());
            }
            // Who has not been heard of yet may have a cluster. A leader that has committed nothing
            // is none: should it die now, nobody else would be left to elect another.
            if self.abstains_below.is_some() || message.commit > 0 {
                self.abstain(message.commit);
            }
        }
        // What is left is a message of somebody who takes no part any more, or about nothing.
        let _ = self.node.step(message);
        self.draw_timeout();
        Ok(())
    }

    /// A broker that connects says how far its log goes: up to entry `last`, committed up to `commit`
    /// as far as it knows.
    ///
    /// A leader that knew more of it sends again what it has lost. And if there is a cluster, but this
    /// broker has nothing of it, then it may have lost its log, and with it votes and entries that
    /// others rely on: it abstains from elections until it has caught up. A cluster is new only if all
    /// of its voters say that they have nothing: two that lost their disks would make another one
    /// beside that of the third.
    pub fn on_member_log(&mut self, member: BrokerId, last: u64, commit: u64) {
        let raft = &mut self.node.raft;
        if raft.state == StateRole::Leader {
            if let Some(progress) = raft.mut_prs().get_mut(raft_id(member))
                && (progress.matched > last || progress.state == ProgressState::Snapshot)
            {
                progress.become_probe();
                progress.matched = progress.matched.min(last);
                progress.next_idx = progress.matched + 1;
            }
            return;
        }
        if raft.raft_log.last_index() > 0 && self.unheard.is_empty() {
            return;
        }
        // What appears once all have said that they have nothing is of the new cluster.
        if commit > 0 || (last > 0 && !self.unheard.is_empty()) {
            self.abstain(commit);
        } else {
            self.unheard.remove(&member);
        }
    }

    /// There is a cluster, which has committed entries up to `commit` at least.
    fn abstain(&mut self, commit: u64) {
        self.campaigns = None;
        self.unheard.clear();
        self.abstains_below = self.abstains_below.max(Some(commit.max(1)));
    }

    /// Whether it takes part in elections.
    fn has_say(&self) -> bool {
        self.abstains_below.is_none() && self.unheard.is_empty()
    }

    /// Takes up the first voters of a cluster that exists, in place of those that this broker's file
    /// names: the members that the log's entries come and go from. To be called between steps, and
    /// told to the disk before.
    ///
    /// # Panics
    /// When there is a log already.
    pub fn adopt_voters(&mut self, voters: Vec<BrokerId>, commit: u64) {
        assert_eq!(self.node.raft.raft_log.last_index(), 0, "the log has its voters");
        let state = self.node.raft.hard_state();
        let (term, vote) = (state.term, broker_id(state.vote));
        let hard_state = Some(HardState { term, vote, ..HardState::default() });
        let options = QuorumOptions { voters, ..self.options.clone() };
        let recovered = RecoveredQuorum { hard_state, ..RecoveredQuorum::default() };
        *self = Self::build(&options, recovered, Some(commit));
    }

    /// Whether a member needs a newer snapshot than there is: one that names it.
    #[must_use]
    pub fn is_snapshot_wanted(&self) -> bool {
        self.node.store().is_snapshot_wanted()
    }

    /// The voters without whose word this broker makes no cluster: it has nothing, and they may have
    /// something.
    #[must_use]
    pub fn unheard(&self) -> &BTreeSet<BrokerId> {
        &self.unheard
    }

    /// Whether this broker has no say in elections, since it may have lost its log.
    #[must_use]
    pub fn abstains(&self) -> bool {
        self.abstains_below.is_some()
    }

    /// The process of a broker is known to be dead. If it led, this broker asks soon to be elected,
    /// without waiting for the silence to be long enough.
    pub fn on_peer_lost(&mut self, broker: BrokerId) {
        let raft_id = raft_id(broker);
        if self.node.raft.state == StateRole::Leader {
            self.node.report_unreachable(raft_id);
            return;
        }
        if self.node.raft.leader_id != raft_id || !self.has_say() {
            return;
        }
        // Forgetting the leader also lifts the lease that would make this voter deaf to others.
        let term = self.node.raft.term;
        self.node.raft.become_follower(term, INVALID_ID);
        self.draw_timeout();
        let voters = self.membership().voters;
        let heirs: Vec<BrokerId> = voters.into_iter().filter(|voter| *voter != broker).collect();
        let Some(place) = heirs.iter().position(|heir| *heir == self.id) else { return };
        // They ask one after the other, so that votes are not split; who is first turns with the
        // term.
        let turn = usize::try_from(term % heirs.len() as u64).expect("it is below a length");
        let rank = (place + heirs.len() - turn) % heirs.len();
        if rank == 0 {
            self.campaign();
        }
        self.campaigns = Some((CAMPAIGN_AGAIN_TICKS * (rank + 1), CAMPAIGNS_MAX));
    }

    /// Proposes a command.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub fn propose(&mut self, data: &[u8]) -> Result<Proposed, ProposeError> {
        if self.node.raft.state != StateRole::Leader {
            return Err(ProposeError::NotLeader);
        }
        self.node.propose(Vec::new(), data.to_vec()).map_err(|_| ProposeError::Busy)?;
        Ok(self.last_proposed())
    }

    /// Proposes a change of the members.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub fn propose_membership(
        &mut self,
        change: MembershipChange,
    ) -> Result<Proposed, ProposeError> {
        if self.node.raft.state != StateRole::Leader {
            return Err(ProposeError::NotLeader);
        }
        if self.node.raft.has_pending_conf() {
            return Err(ProposeError::MembershipPending);
        }
        let change = conf_change(change);
        self.node.propose_conf_change(Vec::new(), change).map_err(|_| ProposeError::Busy)?;
        Ok(self.last_proposed())
    }

    /// Asks the voters whether this broker leads still. [`QuorumStep::confirmed`] says when a majority has
    /// answered that since; never, if it does not lead or has not committed anything yet in its term.
    /// Rounds grow. A round that is not urgent costs no message: it goes along with the next heartbeat, and
    /// is answered a heartbeat's interval later at the latest. Source: Ongaro's thesis, §6.4 (read-only queries).
    ///
    /// [`QuorumStep::confirmed`]: super::QuorumStep::confirmed
    pub fn confirm(&mut self, round: u64, is_urgent: bool) {
        let raft = &mut self.node.raft;
        if raft.state != StateRole::Leader || !raft.commit_to_current_term() {
            return;
        }
        let context = round.to_be_bytes().to_vec();
        // Nobody answers a heartbeat of one that votes alone.
        if is_urgent || raft.prs().is_singleton() {
            self.node.read_index(context);
            return;
        }
        let mut request = Message::default();
        request.set_msg_type(MessageType::MsgReadIndex);
        request.set_entries(vec![Entry { data: context.into(), ..Entry::default() }].into());
        let (committed, own) = (raft.raft_log.committed, raft.id);
        raft.read_only.add_request(committed, request, own);
    }

    /// Hands leadership to another voter, if this broker leads.
    pub fn transfer_leadership(&mut self, to: BrokerId) {
        if self.node.raft.state == StateRole::Leader && to != self.id {
            self.node.transfer_leader(raft_id(to));
        }
    }

    /// The state machine as of the last applied entry, to be kept in place of all entries up to it.
    /// The caller makes it durable.
    pub fn snapshot(&mut self, data: Bytes) -> QuorumSnapshot {
        let membership = self.membership();
        let (index, term) = (self.applied, self.applied_term);
        self.node.mut_store().compact(index, term, &membership, data.clone());
        QuorumSnapshot { index, term, membership, data }
    }

    /// Term and leader.
    #[must_use]
    pub fn role(&self) -> QuorumRole {
        let raft = &self.node.raft;
        QuorumRole {
            term: raft.term,
            leader: broker_id(raft.leader_id),
            is_leader: raft.state == StateRole::Leader,
        }
    }

    /// Whether this broker leads and has applied all that was committed before it did: only then is
    /// what it knows what the quorum knows.
    #[must_use]
    pub fn is_ready_to_lead(&self) -> bool {
        self.node.raft.state == StateRole::Leader
            && self.node.raft.commit_to_current_term()
            && self.applied == self.node.raft.raft_log.committed
    }

    /// Who takes part, as of the last applied entry.
    #[must_use]
    pub fn membership(&self) -> Membership {
        self.node.store().membership().clone()
    }

    /// The last entry of the log.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.node.raft.raft_log.last_index()
    }

    /// How far the quorum is.
    #[must_use]
    pub fn status(&self) -> QuorumStatus {
        let raft = &self.node.raft;
        let mut matched = Vec::new();
        if raft.state == StateRole::Leader {
            for (id, progress) in raft.prs().iter() {
                matched.extend(broker_id(*id).map(|broker| (broker, progress.matched)));
            }
            matched.sort_unstable();
        }
        QuorumStatus {
            role: self.role(),
            commit: raft.raft_log.committed,
            applied: self.applied,
            last: self.last(),
            membership: self.membership(),
            first_voters: self.options.voters.clone(),
            matched,
        }
    }

    /// Whether [`Self::status`] would say the same again: most steps change nothing of it, and it costs an
    /// allocation or three.
    #[must_use]
    pub fn is_still(&self, status: &QuorumStatus) -> bool {
        let raft = &self.node.raft;
        let progress =
            || raft.prs().iter().filter_map(|(id, at)| Some((broker_id(*id)?, at.matched)));
        let has_matched = match raft.state {
            StateRole::Leader => {
                progress().all(|known| status.matched.contains(&known))
                    && progress().count() == status.matched.len()
            }
            _ => status.matched.is_empty(),
        };
        has_matched
            && status.role == self.role()
            && status.commit == raft.raft_log.committed
            && status.applied == self.applied
            && status.last == self.last()
            && status.membership == *self.node.store().membership()
            && status.first_voters == self.options.voters
    }

    /// Whoever has not answered a snapshot for so long is asked again what it has.
    fn give_up_snapshots(&mut self) {
        if self.node.raft.state == StateRole::Leader {
            for (_, progress) in self.node.raft.mut_prs().iter_mut() {
                if progress.state == ProgressState::Snapshot {
                    progress.snapshot_failure();
                    progress.become_probe();
                }
            }
        }
    }

    fn last_proposed(&self) -> Proposed {
        Proposed { term: self.node.raft.term, index: self.node.raft.raft_log.last_index() }
    }

    fn campaign(&mut self) {
        // A learner, or a leader, does not ask.
        let _ = self.node.campaign();
        self.draw_timeout();
    }

    /// The raft crate draws election timeouts from a source of its own whenever its clock starts
    /// anew; they are replaced by such as follow from the seed alone.
    pub(super) fn draw_timeout(&mut self) {
        let elapsed = self.node.raft.election_elapsed;
        if elapsed < self.elapsed || elapsed == 0 {
            self.draws = self.draws.wrapping_add(1);
        }
        self.elapsed = elapsed;
        let ticks = self.node.raft.election_timeout() as u64;
        let mixed =
            mix(self.options.seed ^ raft_id(self.id).rotate_left(32) ^ self.draws.rotate_left(16));
        let timeout = usize::try_from(ticks + mixed % ticks).expect("ticks are few");
        self.node.raft.set_randomized_election_timeout(timeout);
    }
}

/// Changes of the members, and where they are.
fn membership_changes(
    entries: &[LogEntry],
) -> impl DoubleEndedIterator<Item = (u64, MembershipChange)> {
    entries.iter().filter_map(|entry| match entry.payload {
        Payload::Membership(change) => Some((entry.index, change)),
        _ => None,
    })
}

/// How much of a log is surely committed, whatever the hard state says: a change of the members is
/// proposed only when the one before it is applied. Without this a broker that restarts could count by
/// voters of long ago, who share no majority with those of today.
fn surely_committed(entries: &[LogEntry]) -> u64 {
    membership_changes(entries).rev().nth(1).map_or(0, |(index, _)| index)
}

/// Steele and others' SplitMix64.
fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
