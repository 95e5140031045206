//! Clients of all kinds on one cluster whose leaders are struck: what each of them saw, and whether
//! that was right.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::clients::{ClientKind, Place, RunningClient, Sightings};
use crate::clock::{now, pause, wait_for};
use crate::cluster::{Cluster, PATIENCE};
use crate::failover::{
    Strike, TOPIC_CONFIGS, Verdict, compare_replicas, read_log, start_cluster, wait_for_acks,
};
use crate::history::{Violation, check};

/// Records of each client that must be acknowledged between two strikes.
const RECOVERED_RECORDS: usize = 50;
/// How long a paused broker stays so: longer than it takes to be noticed, and as long as clients
/// have patience with a connection that says nothing.
const PAUSED_FOR: Duration = Duration::from_secs(3);

/// What a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many strikes.
    pub rounds: u32,
    /// Records a second of each producer.
    pub rate: u64,
    /// Who takes part.
    pub clients: Vec<ClientKind>,
    /// What is done, one after the other.
    pub strikes: Vec<Strike>,
    /// Decides the moments.
    pub seed: u64,
    /// Where the brokers' files lie.
    pub folder: PathBuf,
}

/// What a client's topic came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Who produced.
    pub producer: ClientKind,
    /// Who read.
    pub consumer: ClientKind,
    /// Records that were acknowledged.
    pub acknowledged: usize,
    /// Records that were read, those read again included.
    pub read: u64,
    /// The longest time without an acknowledgement, a strike.
    pub silences: Vec<(Strike, Duration)>,
    /// Empty when all was right.
    pub violations: Vec<Violation>,
    /// What is not the same on all brokers.
    pub differences: Vec<String>,
    /// Offsets that the consumer never saw.
    pub unread: usize,
}

impl Report {
    /// Whether nothing is wrong, and something was done.
    pub fn is_right(&self) -> bool {
        self.acknowledged > 0
            && self.violations.is_empty()
            && self.differences.is_empty()
            && self.unread == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_right() { "pass" } else { "fail" };
        let (producer, consumer) = (self.producer.name(), self.consumer.name());
        write!(
            f,
            "{verdict} {producer} to {consumer}: {} acknowledged, {} read",
            self.acknowledged, self.read
        )?;
        for (strike, silence) in &self.silences {
            write!(f, ", {} {} ms", strike.name(), silence.as_millis())?;
        }
        for violation in self.violations.iter().take(10) {
            write!(f, "\n  VIOLATION {violation}")?;
        }
        for difference in &self.differences {
            write!(f, "\n  DIFFERENCE {difference}")?;
        }
        if self.unread > 0 {
            write!(f, "\n  {} records were never read", self.unread)?;
        }
        Ok(())
    }
}

/// A topic, who produces to it and who reads it.
struct Lane {
    place: Place,
    producer: RunningClient,
    consumer: RunningClient,
    silences: Vec<(Strike, Duration)>,
}

/// Runs the plan; `progress` is told each round.
///
/// # Panics
/// When a client or the cluster hangs, or a broker ends by itself.
pub fn run(plan: &Plan, mut progress: impl FnMut(&str)) -> Vec<Report> {
    assert!(!plan.clients.is_empty(), "no client takes part");
    let with_quic = plan.clients.contains(&ClientKind::CrateQuic);
    let (mut cluster, ca) = start_cluster(&plan.folder, with_quic, &[]);
    let mut lanes = start_lanes(plan, &cluster, ca);
    let mut random = StdRng::seed_from_u64(plan.seed);
    for lane in &lanes {
        wait_for_acks(&lane.place.sightings, RECOVERED_RECORDS);
    }
    for (round, strike) in (0..plan.rounds as usize).zip(plan.strikes.iter().cycle()) {
        pause(Duration::from_millis(random.random_range(100..500)));
        let topic = lanes[round % lanes.len()].place.topic.clone();
        let victim = cluster.leader(&topic, 0);
        strike_one(*strike, victim, &mut cluster, &mut lanes);
        progress(&format!("{}: {} broker {victim}, leader of {topic}", round + 1, strike.name()));
    }
    judge(lanes, &mut cluster)
}

fn start_lanes(plan: &Plan, cluster: &Cluster, ca: Option<PathBuf>) -> Vec<Lane> {
    let topic = |kind: ClientKind| format!("of-{}", kind.name());
    for kind in &plan.clients {
        let mut connection = cluster.connect_beside(None);
        let created = connection.create_replicated_topic(&topic(*kind), 1, 3, &TOPIC_CONFIGS);
        created.expect("the topic is created");
        cluster.wait_for_isr(&topic(*kind), 0, 3);
    }
    // Each is read by the next kind.
    let neighbours = plan.clients.iter().cycle().skip(1);
    let lanes = (0..).zip(plan.clients.iter().zip(neighbours));
    let lanes = lanes.map(|(number, (producer, consumer))| {
        let place = Place {
            bootstrap: cluster.bootstrap(),
            ca: ca.clone(),
            topic: topic(*producer),
            sightings: Arc::new(Sightings::default()),
        };
        let group = format!("readers-of-{}", place.topic);
        Lane {
            producer: producer.produce(number, plan.rate, &place),
            consumer: consumer.consume(&group, &place),
            place,
            silences: Vec::new(),
        }
    });
    lanes.collect()
}

/// Strikes a broker, brings it back when another leads, and waits until all clients go on and all
/// replicas are in sync.
fn strike_one(strike: Strike, victim: i32, cluster: &mut Cluster, lanes: &mut [Lane]) {
    let began = now();
    let before: Vec<_> = lanes.iter().map(|lane| lane.place.sightings.acked_count()).collect();
    strike.hit(cluster, victim);
    if strike == Strike::Pause {
        pause(PAUSED_FOR);
        strike.heal(cluster, victim);
    }
    for (lane, before) in lanes.iter_mut().zip(before) {
        wait_for_acks(&lane.place.sightings, before + RECOVERED_RECORDS);
        let silence = lane.place.sightings.longest_silence(began);
        lane.silences.push((strike, silence));
        let (producer, consumer) = (&mut lane.producer, &mut lane.consumer);
        for client in [producer, consumer] {
            assert!(!client.is_finished(), "{} ended by itself", client.kind().name());
        }
    }
    if strike != Strike::Pause {
        strike.heal(cluster, victim);
    }
    for lane in lanes {
        cluster.wait_for_isr(&lane.place.topic, 0, 3);
    }
}

/// Ends all clients, then the brokers, and judges what is there.
fn judge(lanes: Vec<Lane>, cluster: &mut Cluster) -> Vec<Report> {
    let mut reports = Vec::new();
    for Lane { place, producer, consumer, silences } in lanes {
        let kinds = (producer.kind(), consumer.kind());
        producer.stop();
        let sightings = &place.sightings;
        let log = read_log(cluster, &place.topic);
        let end = log.values().flatten().last().map_or(0, |(offset, _)| offset + 1);
        let what = format!("{} to read {} up to {end}", kinds.1.name(), place.topic);
        wait_for(&what, PATIENCE, || (sightings.read_end() >= end).then_some(()));
        consumer.stop();
        let mut violations = check(&sightings.events(), &log);
        violations.truncate(1_000);
        reports.push((
            place.clone(),
            Report {
                producer: kinds.0,
                consumer: kinds.1,
                acknowledged: sightings.acked_count(),
                read: sightings.read_count(),
                silences,
                violations,
                differences: Vec::new(),
                unread: sightings.unread_below(end),
            },
        ));
    }
    // One end for all topics, so that all are compared as they are then.
    let ends: Vec<_> = reports
        .iter()
        .map(|(place, _)| (place.topic.as_str(), place.sightings.acked_end()))
        .collect();
    let mut verdict = Verdict::default();
    compare_replicas(cluster, &ends, true, &mut verdict);
    let of_topic = |topic: &str| {
        let prefix = format!("{topic}: ");
        verdict.differences.iter().filter(|told| told.starts_with(&prefix)).cloned().collect()
    };
    let told = reports
        .iter()
        .map(|(place, report)| Report { differences: of_topic(&place.topic), ..report.clone() });
    told.collect()
}
