//! What the shard of a stepped broker wants.

use super::super::following::Want;
use super::super::options::Work;
use super::super::seats::moment;
use super::super::shard::{ShardEffect, SteppedShard, Token};
use super::super::wire::{Lane, Output, Packet};
use super::SteppedBroker;
use crate::shard::{Effect, Outcome};

impl SteppedBroker {
    /// Carries out what the shard wants, and begins the next commit.
    pub(super) fn step_shard(&mut self) {
        let Some(shard) = self.shard.clone() else { return };
        self.follow_shard(&shard);
        let now_ms = self.now.monotonic_ms;
        let version = shard.version();
        for (connection, number, answer) in self.sessions.serve(&shard, now_ms) {
            self.outputs.push_back(Output::Send(connection, Packet::Fetched(number, answer)));
        }
        if shard.version() != version {
            // It met damage.
            self.follow_shard(&shard);
        }
        for want in self.following.tell(self.epoch(), now_ms) {
            self.outputs.push_back(match want {
                Want::Dial(to) => Output::Dial(to, Lane::Fetch),
                Want::Hang(connection) => Output::Hang(connection),
                Want::Send(connection, packet) => Output::Send(connection, packet),
            });
        }
    }

    fn follow_shard(&mut self, shard: &SteppedShard) {
        loop {
            if self.commit.is_none()
                && let Some(job) = shard.poll_commit()
            {
                self.commit = Some(job);
                self.outputs.push_back(Output::Work(Work::Commit));
            }
            let effects = shard.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.carry(effect);
            }
        }
    }

    /// The coordinators do what they can; whether the shard was given anything.
    pub(super) fn coordinate(&mut self) -> bool {
        let Some(shard) = self.shard.clone() else { return false };
        let (answers, has_appended) = self.seats.pump(&shard, &self.image, moment(self.now));
        for (number, answer) in answers {
            self.outputs.push_back(Output::Coordinated(number, answer));
        }
        has_appended
    }

    fn carry(&mut self, effect: ShardEffect) {
        match effect {
            Effect::Answer { to: Token::Client(number), outcome: Outcome::Appended(results) } => {
                let result = results.into_iter().next().expect("a request had one batch");
                let result = result.map(|answer| answer.base_offset);
                self.outputs.push_back(Output::Produced(number, result));
            }
            Effect::Answer {
                to: Token::Fetcher(leader, tips),
                outcome: Outcome::ReplicaAppended(results),
            } => {
                let now_ms = self.now.monotonic_ms;
                self.following.on_appended(leader, &tips, results, now_ms);
            }
            Effect::Answer {
                to: Token::Seat(partition, flight, ids),
                outcome: Outcome::Appended(results),
            } => {
                let result = results.into_iter().next().expect("a request had one batch");
                self.seats.on_appended((partition, flight, ids), result, moment(self.now));
            }
            Effect::Answer {
                to: Token::Deleter(number),
                outcome: Outcome::RecordsDeleted(result),
            } => self.outputs.push_back(Output::Deleted(number, result)),
            Effect::Answer { .. }
            | Effect::HighWatermark { .. }
            | Effect::Configured { .. }
            | Effect::RotFound
            | Effect::RotCut => {}
            Effect::Opened { partition }
            | Effect::Closed { partition }
            | Effect::RoleChanged { partition }
            | Effect::Appended { partition } => self.sessions.mark(&partition),
            Effect::Follow(position) => self.following.on_follow(position),
            Effect::Unfollow { partition } => self.following.on_unfollow(&partition),
            Effect::FollowerDurable(progress) => self.following.on_durable(progress),
            Effect::ProposeIsr(proposal) => self.wishes.add(proposal),
        }
    }

    pub(super) fn maintain(&mut self, shard: &SteppedShard) {
        for job in shard.poll_maintenance() {
            self.maintenance.push_back(job);
            self.outputs.push_back(Output::Work(Work::Maintain));
        }
    }
}
