//! A step of the quorum: what raft wants done, in the order that keeps its promises.

use bytes::Bytes;
use raft::{INVALID_ID, StateRole, eraftpb};
use varve_protocol::vocabulary::BrokerId;

use super::convert::{conf_change, entry_of, membership_of};
use super::entry::{HardState, LogEntry, Payload, QuorumSnapshot};
use super::message;
use super::node::Quorum;
use super::raft_ids::{broker_id, raft_id};
use super::vocabulary::{Persist, QuorumDone, QuorumStep};

impl Quorum {
    /// Whether [`Self::poll`] has something to be done.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.keeps || self.node.has_ready()
    }

    /// What is to be done next; none when nothing is. Each step must be ended by
    /// [`Self::on_persisted`] before the next.
    ///
    /// # Panics
    /// When the last step was not ended.
    pub fn poll(&mut self) -> Option<QuorumStep> {
        assert!(self.ready.is_none() && !self.is_keeping, "a step ends with on_persisted");
        if !self.node.has_ready() {
            self.is_keeping = std::mem::take(&mut self.keeps);
            return self.is_keeping.then(|| self.keep());
        }
        let mut ready = self.node.ready();
        let messages = outgoing(ready.take_messages());
        let snapshot = (!ready.snapshot().is_empty()).then(|| snapshot_of(ready.snapshot()));
        let entries: Vec<LogEntry> = ready.entries().iter().map(entry_of).collect();
        let hard_state = ready.hs().map(|state| HardState {
            term: state.term,
            vote: broker_id(state.vote),
            commit: state.commit,
            abstains_below: self.abstains_below,
        });
        let has_work = snapshot.is_some() || !entries.is_empty() || hard_state.is_some();
        let persist = has_work.then_some(Persist { snapshot, entries, hard_state, is_kept: false });
        let rounds = ready.take_read_states().into_iter();
        let rounds = rounds.filter_map(|state| state.request_ctx.try_into().ok());
        let confirmed = rounds.map(u64::from_be_bytes).max();
        self.ready = Some(ready);
        Some(QuorumStep { messages, persist, confirmed })
    }

    /// What the last step wanted durable is durable.
    ///
    /// # Panics
    /// When no step was begun.
    pub fn on_persisted(&mut self) -> QuorumDone {
        if std::mem::take(&mut self.is_keeping) {
            return QuorumDone::default();
        }
        let mut ready = self.ready.take().expect("a step was begun");
        let mut done = QuorumDone::default();
        if !ready.snapshot().is_empty() {
            self.node.mut_store().install(ready.snapshot());
            let snapshot = snapshot_of(ready.snapshot());
            (self.applied, self.applied_term) = (snapshot.index, snapshot.term);
            done.snapshot = Some(snapshot);
        }
        self.node.mut_store().append(ready.entries());
        if let Some(state) = ready.hs() {
            let state = state.clone();
            self.node.mut_store().set_hard_state(state);
        }
        done.messages = outgoing(ready.take_persisted_messages());
        let mut committed = ready.take_committed_entries();
        let mut light = self.node.advance_append(ready);
        if let Some(commit) = light.commit_index() {
            self.node.mut_store().set_commit(commit);
        }
        done.messages.extend(outgoing(light.take_messages()));
        committed.extend(light.take_committed_entries());
        for entry in &committed {
            assert_eq!(entry.index, self.applied + 1, "entries are applied in order");
            (self.applied, self.applied_term) = (entry.index, entry.term);
            let entry = entry_of(entry);
            if let Payload::Membership(change) = entry.payload
                && entry.index > self.members_as_of
            {
                let applied = self.node.apply_conf_change(&conf_change(change));
                let state = applied.expect("a change of one member is never refused");
                self.node.mut_store().set_conf_state(state);
                self.keeps = true;
            }
            done.committed.push(entry);
        }
        self.node.advance_apply_to(self.applied);
        self.resign_without_vote();
        let raft = &self.node.raft;
        let abstained = self.abstains_below;
        self.abstains_below = abstained
            .filter(|below| *below > raft.raft_log.committed || !raft.commit_to_current_term());
        self.keeps |= abstained != self.abstains_below;
        self.draw_timeout();
        done
    }

    /// A step that does nothing but to make the hard state durable.
    fn keep(&self) -> QuorumStep {
        let raft = &self.node.raft;
        let hard_state = HardState {
            term: raft.term,
            vote: broker_id(raft.vote),
            commit: raft.raft_log.committed,
            abstains_below: self.abstains_below,
        };
        let persist = Persist { hard_state: Some(hard_state), is_kept: true, ..Persist::default() };
        QuorumStep { persist: Some(persist), ..QuorumStep::default() }
    }

    /// A leader that has no vote any more leaves the lead to the voter that has most of the log. That
    /// can be when it was elected before it knew of the change.
    fn resign_without_vote(&mut self) {
        let raft = &self.node.raft;
        let voters = &self.node.store().membership().voters;
        if raft.state != StateRole::Leader || voters.contains(&self.id) {
            return;
        }
        let matched = |voter: &BrokerId| raft.prs().get(raft_id(*voter)).map(|known| known.matched);
        let heir = voters.iter().max_by_key(|voter| matched(voter)).map(|voter| raft_id(*voter));
        let term = raft.term;
        if let Some(heir) = heir {
            self.node.transfer_leader(heir);
        }
        self.node.raft.become_follower(term, INVALID_ID);
    }
}

fn outgoing(messages: Vec<eraftpb::Message>) -> Vec<(BrokerId, Bytes)> {
    let encode = |message: &eraftpb::Message| {
        broker_id(message.to).map(|broker| (broker, message::encode(message)))
    };
    messages.iter().filter_map(encode).collect()
}

fn snapshot_of(snapshot: &eraftpb::Snapshot) -> QuorumSnapshot {
    let metadata = snapshot.get_metadata();
    QuorumSnapshot {
        index: metadata.index,
        term: metadata.term,
        membership: membership_of(metadata.get_conf_state()),
        data: snapshot.data.clone(),
    }
}
