//! One follower's fetches, as its leader remembers them: a value.
//!
//! ```text
//!             on_wanted                 take_ready
//! (unknown) ───────────► ready, armed ────────────► armed ─── on_answered ──► told
//!                            ▲                      │   ▲                       │
//!                            └────── on_marked ─────┘   └────── on_wanted ──────┘ (as ready)
//! ```
//!
//! A partition is answered once for each position that the follower tells; a follower whose epoch is
//! new is told at once that its log agrees, records or not, since it counts for nothing before. Only partitions that may
//! have something to read are looked at: those whose position is new, and those that were marked.

use std::collections::{BTreeMap, VecDeque};

use varve_protocol::vocabulary::{LeaderEpoch, Offset, TopicIdPartition};
use varve_replication::sabotage::{self, Sabotage};

/// What a follower wants of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The epoch in which it follows.
    pub(crate) leader_epoch: LeaderEpoch,
    /// Where its log ends.
    pub(crate) fetch_offset: Offset,
    /// The epoch of its last batch; −1 if it has none.
    pub(crate) last_fetched_epoch: LeaderEpoch,
}

/// Positions of the leader that a follower is told besides records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) high_watermark: Offset,
    pub(crate) log_start: Offset,
}

#[derive(Clone, Debug)]
struct Followed {
    partition: TopicIdPartition,
    wanted: Wanted,
    /// The follower waits for an answer.
    is_armed: bool,
    /// Stands in `ready`.
    is_ready: bool,
    told: Option<Told>,
}

/// How often a connection that always has records tells where the leader stands in the partitions that have none.
const TELL_MS: i64 = 500;

/// The partitions that one connection of a follower fetches. Bounded by the partitions of the broker:
/// who follows one that is not here is answered and forgotten.
#[derive(Clone, Debug, Default)]
pub(crate) struct FetchSession {
    /// By slot.
    followed: Vec<Option<Followed>>,
    free: Vec<u32>,
    slots: BTreeMap<TopicIdPartition, u32>,
    /// Armed slots that may have something, longest waiting first.
    ready: VecDeque<u32>,
    /// When all that wait were told last where the leader stands.
    told_ms: i64,
}

impl FetchSession {
    /// The follower tells a position, and waits for what follows it. The partition's slot, and
    /// whether it is new.
    pub(crate) fn on_wanted(&mut self, partition: TopicIdPartition, wanted: Wanted) -> (u32, bool) {
        if let Some(&slot) = self.slots.get(&partition) {
            let followed = self.at(slot).expect("a slot with a name is taken");
            if followed.wanted.leader_epoch != wanted.leader_epoch {
                followed.told = None;
            }
            followed.wanted = wanted;
            followed.is_armed = true;
            self.make_ready(slot);
            return (slot, false);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.followed.push(None);
            u32::try_from(self.followed.len() - 1).expect("bounded by the partitions")
        });
        self.followed[slot as usize] =
            Some(Followed { partition, wanted, is_armed: true, is_ready: false, told: None });
        self.slots.insert(partition, slot);
        self.make_ready(slot);
        (slot, true)
    }

    /// The follower does not follow the partition any more; the slot that it had.
    pub(crate) fn on_forgotten(&mut self, partition: &TopicIdPartition) -> Option<u32> {
        let slot = self.slots.remove(partition)?;
        self.followed[slot as usize] = None;
        self.ready.retain(|other| *other != slot);
        self.free.push(slot);
        Some(slot)
    }

    /// The partition has grown, or its role is another.
    pub(crate) fn on_marked(&mut self, slot: u32) {
        if self.at(slot).is_some_and(|followed| followed.is_armed) {
            self.make_ready(slot);
        }
    }

    /// The next partition to look at, and whether the follower has been told anything in its epoch.
    pub(crate) fn take_ready(&mut self) -> Option<(u32, Wanted, bool)> {
        let slot = self.ready.pop_front()?;
        let followed = self.at(slot).expect("what is ready is followed");
        followed.is_ready = false;
        Some((slot, followed.wanted, followed.told.is_some()))
    }

    /// How many partitions are to be looked at.
    pub(crate) fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// The answer has no room for the partition: it is the first of the next one. To be called in
    /// the reverse order of [`Self::take_ready`].
    pub(crate) fn put_back(&mut self, slot: u32) {
        if let Some(followed) = self.at(slot).filter(|followed| !followed.is_ready) {
            followed.is_ready = true;
            self.ready.push_front(slot);
        }
    }

    /// The partition is answered; the follower will tell its next position.
    pub(crate) fn on_answered(&mut self, slot: u32, told: Option<Told>) -> TopicIdPartition {
        let followed = self.at(slot).expect("what is answered is followed");
        followed.is_armed = false;
        followed.told = told.or(followed.told);
        followed.partition
    }

    /// The partitions that wait for records, with what they were told last.
    pub(crate) fn armed(&self) -> impl Iterator<Item = (u32, Option<Told>)> {
        let slots = self.slots.values().copied();
        slots.filter_map(|slot| {
            let followed = self.followed[slot as usize].as_ref()?;
            followed.is_armed.then_some((slot, followed.told))
        })
    }

    /// An answer leaves: whether it is to tell all that wait where the leader stands. One that waited in vain does; so do
    /// others from time to time, or what one partition has would keep it from all that have nothing.
    pub(crate) fn tells_positions(&mut self, waited_in_vain: bool, now_ms: i64) -> bool {
        let is_due = waited_in_vain || now_ms - self.told_ms >= TELL_MS;
        if is_due {
            self.told_ms = now_ms;
        }
        is_due
    }

    /// The partition is told new positions without records, and goes on waiting.
    pub(crate) fn on_told(&mut self, slot: u32, told: Told) -> TopicIdPartition {
        let followed = self.at(slot).expect("what is told is followed");
        followed.told = Some(told);
        followed.partition
    }

    fn at(&mut self, slot: u32) -> Option<&mut Followed> {
        self.followed.get_mut(slot as usize)?.as_mut()
    }

    fn make_ready(&mut self, slot: u32) {
        if let Some(followed) = self.at(slot).filter(|followed| !followed.is_ready) {
            followed.is_ready = true;
            self.ready.push_back(slot);
        }
    }
}

/// A leader's partition at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaderView {
    /// Whether this broker leads it, and in which epoch.
    pub(crate) is_leader: bool,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) log_start: Offset,
    pub(crate) log_end: Offset,
}

/// What a position leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This broker does not lead the partition.
    NotLeader,
    /// The follower follows an older epoch.
    Fenced,
    /// The follower knows a newer epoch than this broker.
    UnknownEpoch,
    /// The follower's log parts from this one.
    Diverging { epoch: LeaderEpoch, end_offset: Offset },
    /// The follower's log ends where this one has nothing.
    OutOfRange,
    /// The follower has all there is.
    Nothing,
    /// Records from the position on.
    Records,
}

/// Judges a position. `end_of` tells where an epoch ends in the leader's log: the largest epoch up to
/// the one asked for, and its end.
pub(crate) fn judge(
    view: LeaderView,
    wanted: Wanted,
    end_of: impl FnOnce(LeaderEpoch) -> Option<(LeaderEpoch, Offset)>,
) -> Verdict {
    if !view.is_leader {
        return Verdict::NotLeader;
    }
    let wanted = match sabotage::is_on(Sabotage::FetchWithoutEpochs) {
        true => Wanted {
            leader_epoch: view.leader_epoch,
            last_fetched_epoch: LeaderEpoch(-1),
            ..wanted
        },
        false => wanted,
    };
    if wanted.leader_epoch < view.leader_epoch {
        return Verdict::Fenced;
    }
    if wanted.leader_epoch > view.leader_epoch {
        return Verdict::UnknownEpoch;
    }
    let is_below = wanted.fetch_offset < view.log_start;
    if wanted.last_fetched_epoch.0 >= 0 && !is_below {
        match end_of(wanted.last_fetched_epoch) {
            Some((epoch, end_offset))
                if epoch < wanted.last_fetched_epoch || end_offset < wanted.fetch_offset =>
            {
                return Verdict::Diverging { epoch, end_offset };
            }
            Some(_) => {}
            // A log that knows no epoch up to that one shares nothing with the follower's from its
            // start on.
            None if wanted.fetch_offset > view.log_start => {
                let (epoch, end_offset) = (wanted.last_fetched_epoch, view.log_start);
                return Verdict::Diverging { epoch, end_offset };
            }
            None => {}
        }
    }
    if is_below || wanted.fetch_offset > view.log_end {
        return Verdict::OutOfRange;
    }
    if wanted.fetch_offset == view.log_end { Verdict::Nothing } else { Verdict::Records }
}

#[cfg(test)]
mod tests {
    use varve_protocol::vocabulary::{PartitionIndex, TopicId};

    use super::*;

    fn tip(partition: i32) -> TopicIdPartition {
        TopicIdPartition { topic_id: TopicId(1), partition: PartitionIndex(partition) }
    }

    fn wanted(fetch_offset: i64) -> Wanted {
        let (leader_epoch, last_fetched_epoch) = (LeaderEpoch(3), LeaderEpoch(2));
        Wanted { leader_epoch, fetch_offset: Offset(fetch_offset), last_fetched_epoch }
    }

    fn ready(session: &mut FetchSession) -> Vec<u32> {
        std::iter::from_fn(|| session.take_ready().map(|(slot, ..)| slot)).collect()
    }

    #[test]
    fn a_position_is_answered_once() {
        let mut session = FetchSession::default();
        assert_eq!(session.on_wanted(tip(0), wanted(5)), (0, true));
        assert_eq!(ready(&mut session), [0]);
        // Nothing was there; it grows.
        session.on_marked(0);
        session.on_marked(0);
        assert_eq!(ready(&mut session), [0]);
        session.on_answered(0, None);
        session.on_marked(0);
        assert_eq!(ready(&mut session), [0; 0], "the follower has not told where it is");
        assert_eq!(session.on_wanted(tip(0), wanted(9)), (0, false));
        assert_eq!(ready(&mut session), [0]);
    }

    #[test]
    fn a_busy_connection_tells_positions_from_time_to_time() {
        let mut session = FetchSession::default();
        let told: Vec<i64> =
            (10_000..12_000).filter(|now_ms| session.tells_positions(false, *now_ms)).collect();
        assert_eq!(told, [10_000, 10_500, 11_000, 11_500]);
        assert!(session.tells_positions(true, 12_001) && !session.tells_positions(false, 12_400));
    }

    #[test]
    fn who_found_no_room_is_first_next_time() {
        let mut session = FetchSession::default();
        for partition in 0..4 {
            session.on_wanted(tip(partition), wanted(0));
        }
        let taken = ready(&mut session);
        assert_eq!(taken, [0, 1, 2, 3]);
        session.on_answered(0, None);
        for slot in [3, 2, 1] {
            session.put_back(slot);
        }
        session.on_wanted(tip(0), wanted(1));
        assert_eq!(ready(&mut session), [1, 2, 3, 0]);
    }

    #[test]
    fn a_new_epoch_has_been_told_nothing() {
        let mut session = FetchSession::default();
        session.on_wanted(tip(0), wanted(5));
        assert_eq!(session.take_ready(), Some((0, wanted(5), false)));
        session.on_told(0, Told { high_watermark: Offset(4), log_start: Offset(0) });
        session.on_wanted(tip(0), wanted(5));
        assert_eq!(session.take_ready(), Some((0, wanted(5), true)));
        let newer = Wanted { leader_epoch: LeaderEpoch(4), ..wanted(5) };
        session.on_wanted(tip(0), newer);
        assert_eq!(session.take_ready(), Some((0, newer, false)));
    }

    #[test]
    fn a_forgotten_slot_is_used_again() {
        let mut session = FetchSession::default();
        session.on_wanted(tip(0), wanted(0));
        session.on_wanted(tip(1), wanted(0));
        assert_eq!(session.on_forgotten(&tip(0)), Some(0));
        assert_eq!(session.on_forgotten(&tip(0)), None);
        session.on_marked(0);
        assert_eq!(session.on_wanted(tip(2), wanted(0)), (0, true));
        assert_eq!(ready(&mut session), [1, 0]);
    }

    #[test]
    fn news_without_records_leave_the_partition_waiting() {
        let mut session = FetchSession::default();
        session.on_wanted(tip(0), wanted(0));
        ready(&mut session);
        assert_eq!(session.armed().collect::<Vec<_>>(), [(0, None)]);
        let told = Told { high_watermark: Offset(4), log_start: Offset(0) };
        session.on_told(0, told);
        assert_eq!(session.armed().collect::<Vec<_>>(), [(0, Some(told))]);
        session.on_marked(0);
        assert_eq!(ready(&mut session), [0]);
        session.on_answered(0, None);
        assert_eq!(session.armed().count(), 0);
    }

    #[track_caller]
    fn check(wanted: Wanted, expected: Verdict) {
        let view = LeaderView {
            is_leader: true,
            leader_epoch: LeaderEpoch(3),
            log_start: Offset(10),
            log_end: Offset(30),
        };
        // Epoch 1 from 10 to 20, epoch 3 from 20 on.
        let end_of = |epoch: LeaderEpoch| match epoch.0 {
            ..1 => None,
            1..3 => Some((LeaderEpoch(1), Offset(20))),
            3.. => Some((LeaderEpoch(3), Offset(30))),
        };
        assert_eq!(judge(view, wanted, end_of), expected);
    }

    #[test]
    fn positions_are_judged_by_epoch_first() {
        let at = |leader_epoch, fetch_offset, last_fetched_epoch| Wanted {
            leader_epoch: LeaderEpoch(leader_epoch),
            fetch_offset: Offset(fetch_offset),
            last_fetched_epoch: LeaderEpoch(last_fetched_epoch),
        };
        check(at(2, 15, 1), Verdict::Fenced);
        check(at(4, 15, 1), Verdict::UnknownEpoch);
        check(at(3, 15, 1), Verdict::Records);
        check(at(3, 20, 1), Verdict::Records);
        let diverging = Verdict::Diverging { epoch: LeaderEpoch(1), end_offset: Offset(20) };
        check(at(3, 21, 1), diverging);
        check(at(3, 15, 2), diverging);
        check(at(3, 30, 3), Verdict::Nothing);
        check(at(3, 31, 3), Verdict::Diverging { epoch: LeaderEpoch(3), end_offset: Offset(30) });
        check(at(3, 9, 1), Verdict::OutOfRange);
        let nothing_shared = Verdict::Diverging { epoch: LeaderEpoch(0), end_offset: Offset(10) };
        check(at(3, 15, 0), nothing_shared);
        check(at(3, 10, 0), Verdict::Records);
        // An empty follower begins wherever it is told to.
        check(at(3, 0, -1), Verdict::OutOfRange);
        check(at(3, 10, -1), Verdict::Records);
        check(at(3, 31, -1), Verdict::OutOfRange);
    }

    #[test]
    fn who_does_not_lead_says_so() {
        let view = LeaderView {
            is_leader: false,
            leader_epoch: LeaderEpoch(3),
            log_start: Offset(0),
            log_end: Offset(0),
        };
        assert_eq!(judge(view, wanted(0), |_| None), Verdict::NotLeader);
    }
}
