//! What a change of a broker or of an in-sync set does to one partition: who stays in sync, who may
//! lead, who leads.
//!
//! Everything that moves leaders plans with [`Shaper`], so that the rules stand once:
//! a sole in-sync replica stays in sync when its broker dies, since it may hold what nobody else does;
//! whoever leaves a set that is too small to commit without it stays eligible (KIP-966).

use std::collections::BTreeMap;

use varve_protocol::vocabulary::{BrokerId, PartitionIndex, TopicIdPartition};
use varve_replication::sabotage::{self, Sabotage};
use varve_replication::{choose_leader, choose_unclean_leader, eligible_after};

use super::super::broker_image::BrokerImage;
use super::super::image::MetadataImage;
use super::super::record::{MetadataRecord, PartitionChangeRecord};
use super::super::topic_image::{PartitionImage, TopicImage};
use super::DIRECTORY_UNASSIGNED;
use super::configs::layers_of_cluster;
use crate::topic_config::{ConfigLayers, StaticConfig};

/// Whether a broker can lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// It is fenced, or not registered.
    Dead,
    /// It is in maintenance or about to end: it leads what nobody else can.
    Reluctant,
    /// It can lead.
    Ready,
}

/// The standing of each broker.
#[derive(Debug)]
pub(super) struct Standings(BTreeMap<BrokerId, Standing>);

impl Standings {
    pub(super) fn of(image: &MetadataImage) -> Self {
        let standing = |broker: &BrokerImage| match broker {
            broker if broker.is_fenced => Standing::Dead,
            broker if broker.in_controlled_shutdown || broker.is_draining => Standing::Reluctant,
            _ => Standing::Ready,
        };
        Self(image.brokers().map(|broker| (broker.id, standing(broker))).collect())
    }

    pub(super) fn get(&self, broker: BrokerId) -> Standing {
        self.0.get(&broker).copied().unwrap_or(Standing::Dead)
    }
}

/// The rules, on one image and with the standing of each broker as it is about to be.
pub(super) struct Shaper<'a> {
    layers: ConfigLayers<'a>,
    standings: Standings,
}

/// A topic's values that the rules depend on.
#[derive(Debug, Clone, Copy)]
pub(super) struct TopicRule {
    min_insync_replicas: usize,
    /// Whether what is committed may be in a page cache only, and so be lost with a process.
    pub(super) is_cached: bool,
    /// Whether the topic's leaders are elected though records may be lost by it.
    is_unclean: bool,
}

impl<'a> Shaper<'a> {
    pub(super) fn new(image: &'a MetadataImage, fixed: &'a StaticConfig) -> Self {
        let standings = Standings::of(image);
        Self { layers: layers_of_cluster(image, fixed), standings }
    }

    /// The same, once this broker's standing is another one.
    pub(super) fn with(mut self, broker: BrokerId, standing: Standing) -> Self {
        self.standings.0.insert(broker, standing);
        self
    }

    pub(super) fn standing(&self, broker: BrokerId) -> Standing {
        self.standings.get(broker)
    }

    pub(super) fn rule(&self, topic: &TopicImage) -> TopicRule {
        let value = |name: &str| {
            let of_topic = topic.configs.get(name).map(String::as_str);
            of_topic.or_else(|| self.layers.broker_value(name).map(|(value, _)| value))
        };
        let is_true = |name: &str| value(name).is_some_and(|value| value == "true");
        TopicRule {
            min_insync_replicas: value("min.insync.replicas")
                .and_then(|text| text.parse().ok())
                .unwrap_or(1),
            is_cached: is_true("write.caching"),
            is_unclean: is_true("unclean.leader.election.enable"),
        }
    }

    /// Another in-sync set.
    pub(super) fn set_isr(&self, next: &mut PartitionImage, isr: Vec<BrokerId>, rule: TopicRule) {
        let least = committing_min(rule, next.replicas.len());
        next.elr = eligible_after(&next.isr, &next.elr, &isr, least);
        next.isr = isr;
    }

    /// Nobody else is eligible where the in-sync set commits by itself.
    pub(super) fn void_where_enough(&self, next: &mut PartitionImage, rule: TopicRule) {
        if next.isr.len() >= committing_min(rule, next.replicas.len()) {
            next.elr.clear();
        }
    }

    /// A broker is out of sync now. The last one stays.
    pub(super) fn take_out(&self, next: &mut PartitionImage, broker: BrokerId, rule: TopicRule) {
        if next.isr.len() > 1 && next.isr.contains(&broker) {
            let rest = next.isr.iter().copied().filter(|member| *member != broker).collect();
            self.set_isr(next, rest, rule);
        }
    }

    /// Somebody leads, if anybody can without losing records, or the topic takes the loss.
    pub(super) fn elect(&self, next: &mut PartitionImage, rule: TopicRule) {
        let is_ready = |broker| self.standing(broker) == Standing::Ready;
        let is_alive = |broker| self.standing(broker) >= Standing::Reluctant;
        let PartitionImage { replicas, isr, elr, .. } = &*next;
        let leader = choose_leader(replicas, isr, &[], is_ready);
        let leader = leader.or_else(|| choose_leader(replicas, isr, elr, is_alive));
        let leader = leader.or_else(|| {
            let may_lose = rule.is_unclean || sabotage::is_on(Sabotage::ElectAnybody);
            may_lose.then(|| choose_unclean_leader(replicas, isr, elr, is_alive)).flatten()
        });
        lead(next, leader);
    }

    /// Somebody leads, if anybody is alive at all.
    pub(super) fn elect_unclean(&self, next: &mut PartitionImage) {
        let is_alive = |broker| self.standing(broker) >= Standing::Reluctant;
        let leader = choose_unclean_leader(&next.replicas, &next.isr, &next.elr, is_alive);
        lead(next, leader);
    }
}

/// As `Assignment::committing_min` of the leader: so many in-sync replicas commit by themselves.
fn committing_min(rule: TopicRule, replicas: usize) -> usize {
    rule.min_insync_replicas.min(replicas).max(1)
}

/// This one leads. One from outside the in-sync set is alone in sync at first; if it was eligible, the
/// others are so still, else all that they have beyond it is given up.
pub(super) fn lead(next: &mut PartitionImage, leader: Option<BrokerId>) {
    next.leader = leader;
    let Some(leader) = leader.filter(|leader| !next.isr.contains(leader)) else { return };
    next.elr = if next.elr.contains(&leader) {
        eligible_after(&next.isr, &next.elr, &[leader], usize::MAX)
    } else {
        Vec::new()
    };
    next.isr = vec![leader];
}

/// Finishes a reassignment once all replicas that it adds are in sync (KIP-455).
pub(super) fn finish_reassignment(next: &mut PartitionImage, shaper: &Shaper<'_>, rule: TopicRule) {
    let isr: Vec<_> =
        next.isr.iter().copied().filter(|member| !next.removing.contains(member)).collect();
    let is_done = !isr.is_empty() && next.adding.iter().all(|added| isr.contains(added));
    if !next.is_reassigning() || !is_done {
        return;
    }
    let removing = std::mem::take(&mut next.removing);
    next.adding.clear();
    drop_replicas(next, &removing);
    next.isr = isr;
    next.elr.retain(|broker| !removing.contains(broker));
    shaper.void_where_enough(next, rule);
    if next.leader.is_none_or(|leader| removing.contains(&leader)) {
        next.leader = None;
        shaper.elect(next, rule);
    }
}

/// Takes replicas off the list, with their directories.
pub(super) fn drop_replicas(next: &mut PartitionImage, gone: &[BrokerId]) {
    let pairs = next.replicas.iter().copied().zip(next.directories.iter().copied());
    (next.replicas, next.directories) = pairs.filter(|(id, _)| !gone.contains(id)).unzip();
}

/// Replaces the list of replicas; those that stay keep their directories.
pub(super) fn set_replicas(next: &mut PartitionImage, replicas: Vec<BrokerId>) {
    let known: BTreeMap<_, _> =
        next.replicas.iter().copied().zip(next.directories.iter().copied()).collect();
    let directory = |id: &BrokerId| known.get(id).copied().unwrap_or(DIRECTORY_UNASSIGNED);
    next.directories = replicas.iter().map(directory).collect();
    next.replicas = replicas;
}

/// What makes `old` the partition `next`, if they differ. `is_new_epoch` starts a leader epoch even if
/// the same broker leads; so does whoever is taken off the list of replicas. It may be put on it again
/// before it has heard of that: what it says until then is of a log that it is about to delete, and
/// counts in no later epoch.
pub(super) fn change(
    name: TopicIdPartition,
    old: &PartitionImage,
    next: &PartitionImage,
    is_new_epoch: bool,
) -> Option<MetadataRecord> {
    let differs = |old: &Vec<BrokerId>, next: &Vec<BrokerId>| (old != next).then(|| next.clone());
    let pairs = || next.replicas.iter().copied().zip(next.directories.iter().copied()).collect();
    let is_shorter = old.replicas.iter().any(|id| !next.replicas.contains(id));
    let is_led_anew = is_new_epoch || is_shorter || old.leader != next.leader;
    let record = PartitionChangeRecord {
        leader: is_led_anew.then_some(next.leader),
        isr: differs(&old.isr, &next.isr),
        replicas: (old.replicas != next.replicas).then(pairs),
        elr: differs(&old.elr, &next.elr),
        adding: differs(&old.adding, &next.adding),
        removing: differs(&old.removing, &next.removing),
        ..PartitionChangeRecord::new(name.topic_id, name.partition)
    };
    (!record.is_empty()).then_some(MetadataRecord::PartitionChange(record))
}

/// Every partition, by topic, with its rule.
pub(super) fn for_each_partition(
    image: &MetadataImage,
    shaper: &Shaper<'_>,
    mut visit: impl FnMut(TopicIdPartition, &PartitionImage, TopicRule),
) {
    for topic in image.topics() {
        let rule = shaper.rule(topic);
        for (index, partition) in (0..).map(PartitionIndex).zip(&topic.partitions) {
            visit(TopicIdPartition { topic_id: topic.id, partition: index }, partition, rule);
        }
    }
}

/// Ends eligibility where the in-sync set can commit by itself, after `min.insync.replicas` was lowered:
/// from then on it commits without those who were eligible.
pub(in super::super) fn void_eligibility(
    image: &MetadataImage,
    fixed: &StaticConfig,
) -> Vec<MetadataRecord> {
    let shaper = Shaper::new(image, fixed);
    let mut records = Vec::new();
    for_each_partition(image, &shaper, |name, old, rule| {
        if !old.elr.is_empty() {
            let mut next = old.clone();
            shaper.void_where_enough(&mut next, rule);
            records.extend(change(name, old, &next, false));
        }
    });
    records
}
