//! The cluster at a glance: which brokers live, which partitions are short of replicas, whether a broker
//! may be stopped. A value, made from the metadata by a broker or from answers by the command line, and
//! judged here alike.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::metadata::MetadataImage;
use crate::topic_config::{ConfigLayers, ConfigMap, StaticConfig};

/// What is known of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Who decides changes, if anybody does.
    pub controller: Option<i32>,
    /// All registered brokers, by number.
    pub brokers: Vec<SurveyedBroker>,
    /// Who votes in the metadata quorum; empty where it is not known.
    pub voters: Vec<i32>,
    /// All partitions, by topic and number.
    pub partitions: Vec<SurveyedPartition>,
}

/// One broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SurveyedBroker {
    /// Its number.
    pub id: i32,
    /// Its failure domain.
    pub rack: Option<String>,
    /// Whether it counts as dead.
    pub is_fenced: bool,
    /// Whether it is in maintenance.
    pub is_draining: bool,
}

impl SurveyedBroker {
    /// Its state in a word.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match (self.is_fenced, self.is_draining) {
            (true, _) => "down",
            (false, true) => "maintenance",
            (false, false) => "alive",
        }
    }
}

/// One partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SurveyedPartition {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// Who leads it, if anybody does.
    pub leader: Option<i32>,
    /// Who holds it, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Those in sync.
    pub isr: Vec<i32>,
    /// Those out of sync that may lead all the same (KIP-966).
    pub eligible: Vec<i32>,
    /// Those that a move of replicas is adding.
    pub adding: Vec<i32>,
    /// Those that a move of replicas will remove.
    pub removing: Vec<i32>,
    /// `min.insync.replicas` of its topic.
    pub min_insync_replicas: usize,
    /// `min.insync.domains` of its topic.
    pub min_insync_domains: usize,
}

/// What a partition may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartitionState {
    /// Nobody leads it: it takes and gives no records.
    Leaderless,
    /// Fewer replicas are in sync than there are.
    UnderReplicated,
    /// Fewer replicas are in sync than `acks=all` demands: it takes no such records.
    UnderMinIsr,
    /// One replica less, and it takes no records with `acks=all`.
    AtMinIsr,
    /// Its replicas are being moved.
    Reassigning,
    /// Another one than the preferred replica leads.
    NotPreferred,
}

impl PartitionState {
    /// All of them, with their names in metrics.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Leaderless, "leaderless"),
        (Self::UnderReplicated, "under_replicated"),
        (Self::UnderMinIsr, "under_min_isr"),
        (Self::AtMinIsr, "at_min_isr"),
        (Self::Reassigning, "reassigning"),
        (Self::NotPreferred, "not_preferred"),
    ];
}

impl SurveyedPartition {
    /// Whether it is in this state; it may be in several.
    #[must_use]
    pub fn is(&self, state: PartitionState) -> bool {
        // A single replica is at its least by design.
        let has_spare = self.replicas.len() > 1;
        match state {
            PartitionState::Leaderless => self.leader.is_none(),
            PartitionState::UnderReplicated => {
                let is_wanted = |id: &&i32| !self.adding.contains(id);
                let mut wanted = self.replicas.iter().filter(is_wanted);
                wanted.any(|id| !self.isr.contains(id))
            }
            PartitionState::UnderMinIsr => self.isr.len() < self.least() || self.leader.is_none(),
            PartitionState::AtMinIsr => has_spare && self.isr.len() == self.least(),
            PartitionState::Reassigning => !self.adding.is_empty() || !self.removing.is_empty(),
            PartitionState::NotPreferred => {
                self.leader.is_some() && self.leader.as_ref() != self.replicas.first()
            }
        }
    }

    /// Replicas that have to be in sync.
    fn least(&self) -> usize {
        self.min_insync_replicas.min(self.replicas.len()).max(1)
    }

    /// Its name, as people write it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.topic, self.partition)
    }
}

/// Whether all is well, and if not, why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterHealth {
    /// Who decides changes.
    pub controller: Option<i32>,
    /// What is wrong, in sentences; empty if all is well.
    pub reasons: Vec<String>,
    /// Brokers that count as dead.
    pub nodes_down: Vec<i32>,
    /// Brokers in maintenance, which is no illness.
    pub in_maintenance: Vec<i32>,
    /// Partitions that nobody leads.
    pub leaderless: Vec<String>,
    /// Partitions with replicas out of sync.
    pub under_replicated: Vec<String>,
    /// Partitions that take no records with `acks=all`.
    pub under_min_isr: Vec<String>,
}

impl ClusterHealth {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.reasons.is_empty()
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "healthy": self.is_healthy(),
            "reasons": self.reasons,
            "controller": self.controller,
            "nodes_down": self.nodes_down,
            "in_maintenance": self.in_maintenance,
            "leaderless": self.leaderless,
            "under_replicated": self.under_replicated,
            "under_min_isr": self.under_min_isr,
        })
    }
}

/// Whether a broker may be stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopVerdict {
    /// Which.
    pub broker: i32,
    /// What would come of it, in sentences; empty if nothing would.
    pub reasons: Vec<String>,
    /// Partitions that would take no records with `acks=all`, or have no leader.
    pub partitions: Vec<String>,
}

impl StopVerdict {
    /// Whether nothing would come of it.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.reasons.is_empty()
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "broker": self.broker,
            "safe_to_stop": self.is_safe(),
            "reasons": self.reasons,
            "partitions": self.partitions,
        })
    }
}

impl Survey {
    /// What a broker's metadata says.
    #[must_use]
    pub fn of(
        image: &MetadataImage,
        fixed: &StaticConfig,
        controller: Option<i32>,
        voters: Vec<i32>,
    ) -> Self {
        let empty = ConfigMap::new();
        let layers = ConfigLayers { broker: &empty, cluster: image.cluster_configs(), fixed };
        let brokers = image.brokers().map(|broker| SurveyedBroker {
            id: broker.id.0,
            rack: broker.rack.clone(),
            is_fenced: broker.is_fenced,
            is_draining: broker.is_draining,
        });
        let brokers = brokers.collect();
        let mut partitions = Vec::with_capacity(image.partition_count());
        for topic in image.topics_by_name() {
            let least = |name: &str| {
                let of_topic = topic.configs.get(name).map(String::as_str);
                let text = of_topic.or_else(|| layers.broker_value(name).map(|(value, _)| value));
                text.and_then(|text| text.parse().ok()).unwrap_or(1)
            };
            let (replicas, domains) = (least("min.insync.replicas"), least("min.insync.domains"));
            partitions.extend((0..).zip(&topic.partitions).map(|(index, partition)| {
                let numbers = |ids: &[varve_protocol::vocabulary::BrokerId]| {
                    ids.iter().map(|id| id.0).collect::<Vec<_>>()
                };
                SurveyedPartition {
                    topic: topic.name.to_string(),
                    partition: index,
                    leader: partition.leader.map(|leader| leader.0),
                    replicas: numbers(&partition.replicas),
                    isr: numbers(&partition.isr),
                    eligible: numbers(&partition.elr),
                    adding: numbers(&partition.adding),
                    removing: numbers(&partition.removing),
                    min_insync_replicas: replicas,
                    min_insync_domains: domains,
                }
            }));
        }
        Self { controller, brokers, voters, partitions }
    }

    /// The partitions in a state.
    pub fn in_state(&self, state: PartitionState) -> impl Iterator<Item = &SurveyedPartition> {
        self.partitions.iter().filter(move |partition| partition.is(state))
    }

    /// Whether all is well.
    #[must_use]
    pub fn health(&self) -> ClusterHealth {
        let names = |state| self.in_state(state).map(SurveyedPartition::name).collect::<Vec<_>>();
        let brokers = |is_wanted: fn(&SurveyedBroker) -> bool| {
            let wanted = self.brokers.iter().filter(|broker| is_wanted(broker));
            wanted.map(|broker| broker.id).collect::<Vec<_>>()
        };
        let mut health = ClusterHealth {
            controller: self.controller,
            reasons: Vec::new(),
            nodes_down: brokers(|broker| broker.is_fenced),
            in_maintenance: brokers(|broker| !broker.is_fenced && broker.is_draining),
            leaderless: names(PartitionState::Leaderless),
            under_replicated: names(PartitionState::UnderReplicated),
            under_min_isr: names(PartitionState::UnderMinIsr),
        };
        if health.controller.is_none() {
            health.reasons.push("no broker is the controller".to_owned());
        }
        let counts = [
            (health.nodes_down.len(), "broker is down", "brokers are down"),
            (health.leaderless.len(), "partition has no leader", "partitions have no leader"),
            (
                health.under_min_isr.len(),
                "partition takes no records with acks=all",
                "partitions take no records with acks=all",
            ),
            (
                health.under_replicated.len(),
                "partition is under-replicated",
                "partitions are under-replicated",
            ),
        ];
        for (count, one, several) in counts.into_iter().filter(|(count, ..)| *count > 0) {
            health.reasons.push(format!("{count} {}", if count == 1 { one } else { several }));
        }
        health
    }

    /// Whether a broker may be stopped: whether each partition that it holds stays in sync on as many
    /// replicas and in as many racks as `acks=all` demands, and the metadata quorum keeps its majority.
    /// None if there is no such broker.
    #[must_use]
    pub fn safe_to_stop(&self, id: i32) -> Option<StopVerdict> {
        self.brokers.iter().find(|broker| broker.id == id)?;
        let mut verdict = StopVerdict { broker: id, reasons: Vec::new(), partitions: Vec::new() };
        let racks: BTreeMap<i32, Option<&str>> =
            self.brokers.iter().map(|broker| (broker.id, broker.rack.as_deref())).collect();
        for partition in self.partitions.iter().filter(|one| one.replicas.contains(&id)) {
            let rest = partition.isr.iter().filter(|member| **member != id);
            let domains: BTreeSet<_> =
                rest.clone().map(|member| racks.get(member).copied().flatten()).collect();
            let is_enough = rest.count() >= partition.least()
                && domains.len() >= partition.min_insync_domains.max(1);
            if !is_enough {
                verdict.partitions.push(partition.name());
            }
        }
        match verdict.partitions.len() {
            0 => {}
            1 => verdict.reasons.push(format!(
                "partition {} would have too few replicas in sync",
                verdict.partitions[0]
            )),
            count => verdict
                .reasons
                .push(format!("{count} partitions would have too few replicas in sync")),
        }
        if self.voters.contains(&id) && self.voters.len() > 1 {
            let is_alive =
                |voter: &&i32| self.brokers.iter().any(|one| one.id == **voter && !one.is_fenced);
            let alive = self.voters.iter().filter(is_alive).filter(|voter| **voter != id).count();
            let majority = self.voters.len() / 2 + 1;
            if alive < majority {
                verdict.reasons.push(format!(
                    "{alive} of {} voters of the metadata quorum would live; {majority} are needed",
                    self.voters.len()
                ));
            }
        }
        Some(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three brokers in three racks; partitions as `(replicas, isr, leader, least)`.
    /// Replicas, in-sync replicas, leader, and the least number in sync.
    type Described<'a> = (&'a [i32], &'a [i32], Option<i32>, usize);

    fn survey(partitions: &[Described<'_>]) -> Survey {
        let broker = |id: i32| SurveyedBroker {
            id,
            rack: Some(format!("r{id}")),
            ..SurveyedBroker::default()
        };
        let partition = |(index, one): (i32, &Described<'_>)| {
            let (replicas, isr, leader, least) = *one;
            SurveyedPartition {
                topic: "t".to_owned(),
                partition: index,
                leader,
                replicas: replicas.to_vec(),
                isr: isr.to_vec(),
                min_insync_replicas: least,
                min_insync_domains: 1,
                ..SurveyedPartition::default()
            }
        };
        Survey {
            controller: Some(1),
            brokers: (1..=3).map(broker).collect(),
            voters: vec![1, 2, 3],
            partitions: (0..).zip(partitions).map(partition).collect(),
        }
    }

    #[test]
    fn a_whole_cluster_is_healthy() {
        let survey = survey(&[(&[1, 2, 3], &[3, 2, 1], Some(1), 2), (&[2], &[2], Some(2), 2)]);
        assert_eq!(survey.health().reasons, [""; 0]);
        assert_eq!(survey.in_state(PartitionState::AtMinIsr).count(), 0);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let mut survey = survey(&[
            (&[1, 2, 3], &[1, 2], Some(2), 2),
            (&[1, 2, 3], &[1], Some(1), 2),
            (&[3], &[3], None, 1),
        ]);
        survey.brokers[2].is_fenced = true;
        survey.brokers[1].is_draining = true;
        let health = survey.health();
        assert_eq!(
            health.reasons,
            [
                "1 broker is down",
                "1 partition has no leader",
                "2 partitions take no records with acks=all",
                "2 partitions are under-replicated"
            ]
        );
        assert_eq!((health.nodes_down, health.in_maintenance), (vec![3], vec![2]));
        assert_eq!(health.under_replicated, ["t/0", "t/1"]);
        assert_eq!(health.leaderless, ["t/2"]);
        let names = |state| survey.in_state(state).map(|one| one.partition).collect::<Vec<_>>();
        assert_eq!(names(PartitionState::AtMinIsr), [0]);
        assert_eq!(names(PartitionState::NotPreferred), [0]);
    }

    #[test]
    fn a_replica_that_is_being_added_is_not_missed() {
        let mut survey = survey(&[(&[3, 1, 2], &[1, 2], Some(1), 2)]);
        survey.partitions[0].adding = vec![3];
        survey.partitions[0].removing = vec![1];
        assert!(survey.health().is_healthy());
        assert_eq!(survey.in_state(PartitionState::Reassigning).count(), 1);
    }

    #[test]
    fn a_broker_may_stop_while_enough_others_are_in_sync() {
        let mut survey =
            survey(&[(&[1, 2, 3], &[1, 2, 3], Some(1), 2), (&[2, 3], &[2, 3], Some(2), 1)]);
        assert!(survey.safe_to_stop(1).unwrap().is_safe());
        assert_eq!(survey.safe_to_stop(9), None);
        survey.partitions[0].isr = vec![1, 2];
        assert_eq!(survey.safe_to_stop(1).unwrap().partitions, ["t/0"]);
        assert_eq!(survey.safe_to_stop(2).unwrap().partitions, ["t/0"]);
        // Two replicas are left, in one rack.
        survey.partitions[0].isr = vec![1, 2, 3];
        survey.partitions[0].min_insync_domains = 2;
        survey.brokers[1].rack = Some("r3".to_owned());
        assert_eq!(survey.safe_to_stop(1).unwrap().partitions, ["t/0"]);
        assert!(survey.safe_to_stop(2).unwrap().is_safe());
    }

    #[test]
    fn the_quorum_keeps_its_majority() {
        let mut survey = survey(&[]);
        assert!(survey.safe_to_stop(1).unwrap().is_safe());
        survey.brokers[2].is_fenced = true;
        let verdict = survey.safe_to_stop(1).unwrap();
        assert!(verdict.reasons[0].starts_with("1 of 3 voters"), "{verdict:?}");
        assert!(survey.safe_to_stop(3).unwrap().is_safe());
    }
}
