//! Who makes the topics, moves replicas, elects leaders, deletes records, and makes some noise.

use std::collections::BTreeMap;

use varve_broker::metadata::{
    Applied, BrokerImage, ChangeError, Election, MetadataChange, NewTopic, Reassignment,
};
use varve_broker::shard::DeleteRecordsError;
use varve_protocol::vocabulary::{BrokerId, Offset, TopicIdPartition};

use super::clients::ClientEvent;
use super::coverage::Branch;
use super::invariants::{Verdict, Violation};
use super::world::{Event, World};

/// The topic that producers write to.
pub(super) const TOPIC: &str = "events";
const GROUP_TOPIC: &str = "__consumer_offsets";
const REPLICAS: i16 = 3;
/// The first records are written before anything is moved or deleted.
const QUIET_US: u64 = 2_000_000;

/// What it remembers.
#[derive(Debug, Default)]
pub(super) struct Administrator {
    next_change: u64,
    /// Producer ids that were given out.
    blocks: BTreeMap<i64, i64>,
    /// The partitions that groups are kept in.
    pub(super) group_tips: Vec<TopicIdPartition>,
    /// Deletions under way: of what, up to where.
    deletions: BTreeMap<u64, (TopicIdPartition, i64)>,
}

impl World {
    pub(super) fn administer(&mut self) -> Verdict {
        self.after(self.profile.administer_every_us, Event::Client(ClientEvent::Administer));
        self.learn_topics();
        if self.profile.deletes && self.may_disturb() && self.random.one_in(4) {
            self.delete_records()?;
        }
        let Some(change) = self.next_change() else { return Ok(()) };
        let controller = (0..self.machines.len()).find(|index| {
            let machine = &self.machines[*index];
            machine.paused_until_us <= self.now_us
                && machine
                    .broker
                    .as_ref()
                    .is_some_and(|broker| broker.metadata().controller == Some(machine.id))
        });
        let Some(controller) = controller else { return Ok(()) };
        self.clients.administrator.next_change += 1;
        let number = self.clients.administrator.next_change;
        let run = self.machines[controller].run;
        self.trace.line(self.now_us, format_args!("administrator: {change:?}"));
        self.step(controller, run, "change", |broker| broker.change(number, change))
    }

    /// Once all is to be well nothing is moved, nor while only some replicas have what a disk has harmed.
    fn may_disturb(&self) -> bool {
        !self.nemesis.is_done && self.harmed.is_none()
    }

    fn learn_topics(&mut self) {
        let image = &self.invariants.newest.image;
        if self.clients.tips().is_empty()
            && let Some(topic) = image.topic(TOPIC)
        {
            self.clients.learn_tips(topic.topic_id_partitions().collect());
        }
        if self.clients.administrator.group_tips.is_empty()
            && let Some(topic) = image.topic(GROUP_TOPIC)
        {
            self.clients.administrator.group_tips = topic.topic_id_partitions().collect();
        }
    }

    fn next_change(&mut self) -> Option<MetadataChange> {
        let has_topic = !self.clients.tips().is_empty();
        let has_groups = !self.clients.administrator.group_tips.is_empty();
        if !has_topic || (self.profile.groups > 0 && !has_groups) {
            // Nobody places replicas before enough brokers are there.
            let active = self.active_brokers().len();
            if active < usize::try_from(REPLICAS).expect("it is small") {
                return None;
            }
            let topic = if has_topic { self.group_topic() } else { self.topic() };
            let topics = vec![topic];
            return Some(MetadataChange::CreateTopics { topics, validate_only: false });
        }
        let is_busy = self.now_us > QUIET_US && self.may_disturb();
        if is_busy && self.profile.reassigns && self.random.one_in(3) {
            return Some(self.reassign());
        }
        if is_busy && self.random.one_in(6) {
            let tips = self.clients.all_tips();
            let partitions = vec![tips[self.random.index(tips.len())]];
            return Some(MetadataChange::ElectLeaders {
                election: Election::Preferred,
                partitions,
            });
        }
        Some(MetadataChange::AllocateProducerIds(BrokerId(1)))
    }

    fn topic(&self) -> NewTopic {
        let config = |name: &str, value: String| (name.to_owned(), Some(value));
        NewTopic {
            partition_count: Some(self.profile.partitions),
            replication_factor: Some(REPLICAS),
            configs: vec![
                config("min.insync.replicas", self.profile.min_insync.to_string()),
                config("internal.segment.bytes", "16384".to_owned()),
                // Wall clocks jump.
                config("message.timestamp.after.max.ms", i64::MAX.to_string()),
                config("retention.ms", "-1".to_owned()),
            ],
            ..NewTopic::named(TOPIC)
        }
    }

    /// Not compacted: replicas compact each by itself, and are compared byte by byte.
    fn group_topic(&self) -> NewTopic {
        NewTopic {
            partition_count: Some(2),
            ..NewTopic { name: GROUP_TOPIC.to_owned(), ..self.topic() }
        }
    }

    fn active_brokers(&self) -> Vec<BrokerId> {
        let image = &self.invariants.newest.image;
        let is_active = |broker: &&std::sync::Arc<BrokerImage>| broker.is_active();
        image.brokers().filter(is_active).map(|broker| broker.id).collect()
    }

    /// Another place for a partition's replicas, or the end of a move.
    fn reassign(&mut self) -> MetadataChange {
        let tips = self.clients.all_tips();
        let tip = tips[self.random.index(tips.len())];
        let is_groups = self.clients.administrator.group_tips.contains(&tip);
        let topic = if is_groups { GROUP_TOPIC } else { TOPIC };
        let mut brokers: Vec<i32> = (1..=self.profile.brokers).collect();
        let count = if self.random.one_in(4) { 2 + self.random.index(2) } else { 3 };
        let mut replicas = Vec::new();
        while replicas.len() < count {
            replicas.push(brokers.swap_remove(self.random.index(brokers.len())));
        }
        let replicas = (!self.random.one_in(8)).then_some(replicas);
        MetadataChange::Reassign(vec![Reassignment {
            topic: topic.to_owned(),
            partition: tip.partition.0,
            replicas,
            may_change_factor: true,
        }])
    }

    fn delete_records(&mut self) -> Verdict {
        let tips = self.clients.tips();
        if tips.is_empty() || self.now_us < QUIET_US {
            return Ok(());
        }
        let tip = tips[self.random.index(tips.len())];
        let end = self.invariants.committed.end(tip);
        let before = i64::try_from(self.random.below(u64::try_from(end).unwrap_or(0) + 1));
        let before = before.expect("runs are short");
        let index = self.look_up(tip);
        if self.machines[index].paused_until_us > self.now_us {
            return Ok(());
        }
        self.clients.administrator.next_change += 1;
        let number = self.clients.administrator.next_change;
        self.clients.administrator.deletions.insert(number, (tip, before));
        let run = self.machines[index].run;
        self.step(index, run, "delete-records", |broker| {
            broker.delete_records(number, tip, Offset(before))
        })
    }

    /// A leader has deleted records, or has not.
    pub(super) fn on_deleted(
        &mut self,
        index: usize,
        number: u64,
        result: Result<Offset, DeleteRecordsError>,
    ) -> Verdict {
        let Some((tip, before)) = self.clients.administrator.deletions.remove(&number) else {
            return Ok(());
        };
        let Ok(log_start) = result else { return Ok(()) };
        self.coverage.hit(Branch::RecordsDeleted);
        if log_start.0 < before {
            let id = self.machines[index].id;
            let what = format!("{tip} on {id}: begins at {log_start}, asked was {before}");
            return Err(Violation { invariant: "A18: what is deleted is gone", what });
        }
        let broker = self.machines[index].broker.as_ref();
        if let Some(view) = broker.and_then(|broker| broker.replica(&tip)) {
            self.invariants.on_deleted(tip, before, view.role.leader_epoch);
        }
        Ok(())
    }

    /// C1: no producer id is given twice.
    pub(super) fn on_changed(&mut self, _: u64, result: Result<Applied, ChangeError>) -> Verdict {
        match result {
            Ok(Applied::ProducerIds(block)) => {
                let (start, end) = (block.start.0, block.end.0);
                let blocks = &mut self.clients.administrator.blocks;
                let before = blocks.range(..end).next_back();
                if before.is_some_and(|(_, other_end)| *other_end > start) {
                    let what = format!("{start}..{end} after {before:?}");
                    return Err(Violation { invariant: "C1: producer ids are given once", what });
                }
                blocks.insert(start, end);
            }
            Ok(Applied::ElectLeaders(results)) if results.iter().all(Result::is_ok) => {
                self.coverage.hit(Branch::Elected);
            }
            _ => {}
        }
        Ok(())
    }
}
