//! Whether a broker may come to vote in the metadata quorum, or cease to. Pure.
//!
//! One broker at a time, through the quorum's own log (Raft's single-server change, §4.1 of the
//! thesis): two sets of voters that follow each other always share a majority.

use varve_protocol::error_code::ErrorCode;
use varve_protocol::vocabulary::BrokerId;
use varve_replication::quorum::{MembershipChange, QuorumStatus};

use super::image::MetadataImage;

/// More voters make every change slower, and survive no failure that happens.
const VOTERS_MAX: usize = 5;
/// A broker that is further behind would hold up a quorum that needs it.
const LAG_ENTRIES_MAX: u64 = 1_000;

/// A wish for other voters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoterWish {
    /// Whose vote.
    pub broker: BrokerId,
    /// Of its data directory, where who wishes wants it to be checked; 0 otherwise.
    pub directory: u128,
    /// To vote, or not to.
    pub votes: bool,
    /// The number of voters may become even.
    pub allow_even: bool,
}

/// Why the voters stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VoterRefused {
    /// It is not registered.
    #[error("broker {0} is not registered: start it with this cluster's cluster.voters first")]
    Unknown(BrokerId),
    /// Its data directory is another one.
    #[error("broker {0} has another data directory than the one that was named")]
    OtherDirectory(BrokerId),
    /// It votes already.
    #[error("broker {0} votes already")]
    Votes(BrokerId),
    /// It does not vote.
    #[error("broker {0} does not vote")]
    VotesNot(BrokerId),
    /// It counts as dead.
    #[error("broker {0} counts as dead: only one that lives can be made a voter")]
    Dead(BrokerId),
    /// It has not got the log yet.
    #[error("broker {broker} is {entries} entries behind: try again when it has caught up")]
    Behind {
        /// Which.
        broker: BrokerId,
        /// How far.
        entries: u64,
    },
    /// There are as many voters as there can be.
    #[error("there are {VOTERS_MAX} voters, which is the most: remove one first")]
    Full,
    /// Nobody would vote.
    #[error("broker {0} is the only voter")]
    Last(BrokerId),
    /// An even number of voters.
    #[error(
        "there would be {0} voters, and an even number survives no more failures than one less; on \
         the way to another odd number, allow it with --allow-even"
    )]
    Even(usize),
    /// Too few of the voters would live.
    #[error(
        "of the {voters} voters that there would be, {alive} live, which is no majority: nothing \
         could be decided any more"
    )]
    NoMajority {
        /// How many there would be.
        voters: usize,
        /// How many of them live.
        alive: usize,
    },
    /// The controller cannot take its own vote.
    #[error("broker {0} was the controller, and has handed that over: try again")]
    IsController(BrokerId),
    /// One at a time.
    #[error("another change of the voters is under way: try again")]
    Pending,
}

impl VoterRefused {
    /// The wire's word for it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown(_) => ErrorCode::BrokerIdNotRegistered,
            Self::OtherDirectory(_) => ErrorCode::InvalidVoterKey,
            Self::Votes(_) => ErrorCode::DuplicateVoter,
            Self::VotesNot(_) => ErrorCode::VoterNotFound,
            Self::IsController(_) => ErrorCode::NotController,
            Self::Behind { .. } | Self::Pending => ErrorCode::RequestTimedOut,
            Self::Dead(_)
            | Self::Full
            | Self::Last(_)
            | Self::Even(_)
            | Self::NoMajority { .. } => ErrorCode::InvalidRequest,
        }
    }
}

/// What a wish comes to on the controller `own`.
///
/// # Errors
/// [`VoterRefused`].
pub fn plan_voter(
    wish: &VoterWish,
    image: &MetadataImage,
    status: &QuorumStatus,
    own: BrokerId,
) -> Result<MembershipChange, VoterRefused> {
    let id = wish.broker;
    let mut voters = status.membership.voters.clone();
    let registered = image.broker(id);
    let other = |directory: u128| wish.directory != 0 && directory != wish.directory;
    if registered.is_some_and(|broker| other(broker.directory)) {
        return Err(VoterRefused::OtherDirectory(id));
    }
    let change = if wish.votes {
        let broker = registered.ok_or(VoterRefused::Unknown(id))?;
        if voters.contains(&id) {
            return Err(VoterRefused::Votes(id));
        }
        if broker.is_fenced {
            return Err(VoterRefused::Dead(id));
        }
        let matched = status.matched.iter().find(|(member, _)| *member == id);
        let entries = status.last - matched.map_or(0, |(_, matched)| (*matched).min(status.last));
        if matched.is_none() || entries > LAG_ENTRIES_MAX {
            return Err(VoterRefused::Behind { broker: id, entries });
        }
        if voters.len() >= VOTERS_MAX {
            return Err(VoterRefused::Full);
        }
        voters.push(id);
        MembershipChange::AddVoter(id)
    } else {
        if !voters.contains(&id) {
            return Err(VoterRefused::VotesNot(id));
        }
        if voters.len() == 1 {
            return Err(VoterRefused::Last(id));
        }
        voters.retain(|voter| *voter != id);
        // It goes on getting the log, as all brokers do.
        MembershipChange::AddLearner(id)
    };
    if voters.len().is_multiple_of(2) && !wish.allow_even {
        return Err(VoterRefused::Even(voters.len()));
    }
    let lives = |voter: &&BrokerId| {
        **voter == own || image.broker(**voter).is_some_and(|broker| !broker.is_fenced)
    };
    let alive = voters.iter().filter(lives).count();
    if alive <= voters.len() / 2 {
        return Err(VoterRefused::NoMajority { voters: voters.len(), alive });
    }
    if !wish.votes && id == own {
        return Err(VoterRefused::IsController(own));
    }
    Ok(change)
}

#[cfg(test)]
mod tests {
    use varve_replication::quorum::{Membership, QuorumRole};

    use super::super::record::{MetadataRecord, RegisterBrokerRecord};
    use super::*;

    fn image(alive: &[i32], dead: &[i32]) -> MetadataImage {
        let mut image = MetadataImage::default();
        for (epoch, id) in (1..).zip(alive.iter().chain(dead)) {
            let record = RegisterBrokerRecord {
                id: BrokerId(*id),
                incarnation: 1,
                epoch,
                rack: None,
                endpoints: Vec::new(),
                directory: 100 + id.unsigned_abs() as u128,
                is_fenced: dead.contains(id),
                in_controlled_shutdown: false,
                is_draining: false,
            };
            image.apply_all(&[MetadataRecord::RegisterBroker(record)]).unwrap();
        }
        image
    }

    /// `wish` is such as `+4` or `-1`, with `even` behind it where that is allowed; broker 1 is the
    /// controller, and all that are registered have the log but 9, which is far behind.
    #[track_caller]
    fn check(voters: &[i32], (alive, dead): (&[i32], &[i32]), wish: &str, expected: &str) {
        let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
        let members = [alive, dead].concat();
        let behind = |id: &i32| (BrokerId(*id), if *id == 9 { 10 } else { 5_000 });
        let status = QuorumStatus {
            role: QuorumRole { term: 1, leader: Some(BrokerId(1)), is_leader: true },
            commit: 5_000,
            applied: 5_000,
            last: 5_000,
            membership: Membership { voters: ids(voters), learners: Vec::new() },
            first_voters: ids(voters),
            matched: members.iter().map(behind).collect(),
        };
        let (number, allow_even) = match wish.split_once(' ') {
            Some((number, _)) => (number, true),
            None => (wish, false),
        };
        let broker = BrokerId(number[1..].parse().unwrap());
        let wish = VoterWish { broker, directory: 0, votes: number.starts_with('+'), allow_even };
        let planned = match plan_voter(&wish, &image(alive, dead), &status, BrokerId(1)) {
            Ok(change) => format!("{change:?}"),
            Err(refused) => refused.to_string(),
        };
        assert!(planned.contains(expected), "{planned}");
    }

    #[test]
    fn voters_come_and_go_where_that_is_safe() {
        let four = (&[1, 2, 3, 4][..], &[][..]);
        check(&[1, 2, 3], four, "+4", "there would be 4 voters");
        check(&[1, 2, 3], four, "+4 even", "AddVoter(BrokerId(4))");
        check(&[1, 2], four, "+4", "AddVoter(BrokerId(4))");
        check(&[1, 2, 3], four, "-3 even", "AddLearner(BrokerId(3))");
        check(&[1, 2, 3, 4], four, "-3", "AddLearner(BrokerId(3))");
        check(&[1, 2, 3], four, "-3", "there would be 2 voters");
        check(&[1], four, "-1", "the only voter");
        check(&[1, 2, 3, 4], four, "-1", "has handed that over");
        check(&[1, 2, 3], four, "+3", "votes already");
        check(&[1, 2, 3], four, "-4", "does not vote");
        check(&[1, 2, 3], four, "+5 even", "is not registered");
        let six = (&[1, 2, 3, 4, 5, 6][..], &[][..]);
        check(&[1, 2, 3, 4, 5], six, "+6 even", "which is the most");
    }

    #[test]
    fn nothing_is_changed_that_leaves_no_majority_alive() {
        let some_dead = (&[1, 2, 4, 9][..], &[3, 5][..]);
        check(&[1, 2, 3], some_dead, "+5 even", "counts as dead");
        check(&[1, 2, 3], some_dead, "+9 even", "4990 entries behind");
        check(&[1, 2, 3], some_dead, "-2 even", "of the 2 voters that there would be, 1 live");
        check(&[1, 2, 3], some_dead, "-3 even", "AddLearner(BrokerId(3))");
        check(&[1, 2, 3, 5], some_dead, "-5", "AddLearner(BrokerId(5))");
        check(&[1, 2, 3], some_dead, "+4 even", "AddVoter(BrokerId(4))");
    }

    #[test]
    fn another_directory_is_another_broker() {
        let image = image(&[1, 2], &[]);
        let status = QuorumStatus {
            role: QuorumRole::default(),
            commit: 0,
            applied: 0,
            last: 0,
            membership: Membership { voters: vec![BrokerId(1)], learners: vec![BrokerId(2)] },
            first_voters: vec![BrokerId(1)],
            matched: vec![(BrokerId(2), 0)],
        };
        let broker = BrokerId(2);
        let wish = |directory| VoterWish { broker, directory, votes: true, allow_even: true };
        let plan = |directory| plan_voter(&wish(directory), &image, &status, BrokerId(1));
        assert_eq!(plan(102), Ok(MembershipChange::AddVoter(broker)));
        assert_eq!(plan(7), Err(VoterRefused::OtherDirectory(broker)));
    }
}
