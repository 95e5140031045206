//! Rounds in which the leader of a partition is struck while a client produces at a steady rate: how
//! long nothing was acknowledged, whether anything acknowledged is lost, and whether all replicas
//! hold the same bytes.

mod strike;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::certificates::Certificates;
use crate::clients::{ClientKind, Place, Sightings, parse_text_id};
use crate::clock::{now, pause, wait_for};
use crate::cluster::{Cluster, PATIENCE};
use crate::history::{FinalLog, Violation, check};
use crate::replicas::{Compared, compare, read_logs};
use crate::workload::read_partition_as;
pub use strike::Strike;

/// Brokers, and replicas of the partition.
const BROKERS: usize = 3;
const TOPIC: &str = "failover";
/// Records that must be acknowledged after a strike before the next one.
const RECOVERED_RECORDS: usize = 300;
/// Without any acknowledgement for so long, the run fails.
const STUCK_LIMIT: Duration = Duration::from_secs(60);
/// Of a topic that loses nothing of what two racks have.
pub const TOPIC_CONFIGS: [(&str, &str); 2] = [("min.insync.replicas", "2"), ("retention.ms", "-1")];

/// What a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How often.
    pub rounds: u32,
    /// What.
    pub strike: Strike,
    /// Who produces.
    pub client: ClientKind,
    /// Records a second.
    pub rate: u64,
    /// After how many rounds the brokers are ended in order and their bytes compared; at the end
    /// that is done in any case.
    pub compare_every: u32,
    /// How long nothing happens between two strikes. librdkafka doubles its wait before it connects
    /// again, up to 10 s, with every attempt that comes sooner than that after the one before.
    pub settle: Duration,
    /// Decides the moments.
    pub seed: u64,
    /// Where the brokers' files lie.
    pub folder: PathBuf,
}

impl Plan {
    /// So many strikes at 1,000 records a second of the client crate.
    pub fn new(rounds: u32, strike: Strike, seed: u64, folder: &Path) -> Self {
        let folder = folder.to_owned();
        Self {
            rounds,
            strike,
            client: ClientKind::Crate,
            rate: 1_000,
            compare_every: u32::MAX,
            settle: Duration::ZERO,
            seed,
            folder,
        }
    }
}

/// What a run found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// The longest time without an acknowledgement, a strike.
    pub silences: Vec<Duration>,
    /// The longest time without an acknowledgement while a broker came back and nothing was struck,
    /// a round.
    pub calms: Vec<Duration>,
    /// How long it took until the others named another leader, a strike; not for
    /// [`Strike::KillAll`].
    pub moves: Vec<Duration>,
    /// How long it took until all replicas were in sync again, a strike.
    pub returns: Vec<Duration>,
    /// Records that were acknowledged.
    pub acknowledged: usize,
    /// How often all replicas' bytes were compared, and what was compared the last time.
    pub comparisons: (u32, Compared),
    /// Empty when all was right.
    pub violations: Vec<Violation>,
    /// What is not the same on all replicas; empty when all is right.
    pub differences: Vec<String>,
}

/// Starts three brokers; with certificates where a client wants QUIC.
///
/// # Panics
/// When they do not come up.
pub fn start_cluster(
    folder: &Path,
    with_quic: bool,
    settings: &[(&str, &str)],
) -> (Cluster, Option<PathBuf>) {
    let certificates = with_quic.then(|| Certificates::make(&folder.join("certificates")));
    let served = certificates.as_ref().map(Certificates::settings).unwrap_or_default();
    let mut all: Vec<(&str, &str)> =
        served.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    if with_quic {
        // The other clients speak without.
        all.push(("listeners.kafka.tls.plaintext", "true"));
    }
    all.extend_from_slice(settings);
    (Cluster::start(folder, BROKERS, &all), certificates.map(|certificates| certificates.ca()))
}

/// Runs the plan; `progress` is told each round with its silence.
///
/// # Panics
/// When the cluster hangs or a broker ends by itself.
pub fn run(plan: &Plan, mut progress: impl FnMut(u32, Duration)) -> Verdict {
    let with_quic = plan.client == ClientKind::CrateQuic;
    let (mut cluster, ca) = start_cluster(&plan.folder, with_quic, &[]);
    let created = cluster.connect_beside(None).create_replicated_topic(TOPIC, 1, 3, &TOPIC_CONFIGS);
    created.expect("the topic is created");
    cluster.wait_for_isr(TOPIC, 0, BROKERS);
    let sightings = Arc::new(Sightings::default());
    let bootstrap = cluster.bootstrap();
    let place = Place { bootstrap, ca, topic: TOPIC.to_owned(), sightings: Arc::clone(&sightings) };
    let mut producer = plan.client.produce(0, plan.rate, &place);
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut verdict = Verdict::default();
    wait_for_acks(&sightings, RECOVERED_RECORDS);
    for round in 1..=plan.rounds {
        pause(Duration::from_millis(random.random_range(200..700)));
        let (silence, moved) = strike_leader((plan.strike, plan.client), &mut cluster, &sightings);
        verdict.silences.push(silence);
        verdict.moves.extend(moved);
        let struck = now();
        cluster.wait_for_isr(TOPIC, 0, BROKERS);
        verdict.returns.push(now() - struck);
        pause(plan.settle);
        verdict.calms.push(sightings.longest_silence(struck));
        progress(round, silence);
        assert!(!producer.is_finished(), "the producer ended by itself");
        if round % plan.compare_every == 0 {
            compare_replicas(&mut cluster, &[(TOPIC, sightings.acked_end())], false, &mut verdict);
            cluster.restart_all();
            cluster.wait_for_isr(TOPIC, 0, BROKERS);
        }
    }
    producer.stop();
    verdict.violations = check(&sightings.events(), &read_log(&cluster, TOPIC));
    verdict.acknowledged = sightings.acked_count();
    cluster.wait_for_isr(TOPIC, 0, BROKERS);
    compare_replicas(&mut cluster, &[(TOPIC, sightings.acked_end())], true, &mut verdict);
    verdict
}

/// Strikes the leader, waits until records are acknowledged again, and brings back what was struck.
/// Answers the silence, and the time until there was another leader.
fn strike_leader(
    (strike, client): (Strike, ClientKind),
    cluster: &mut Cluster,
    sightings: &Sightings,
) -> (Duration, Option<Duration>) {
    let victim = cluster.leader(TOPIC, 0);
    let began = now();
    let before = sightings.acked_count();
    strike.hit(cluster, victim);
    let moved = (strike != Strike::KillAll).then(|| {
        let at = (TOPIC, 0);
        let is_moved = |leader: i32| leader >= 0 && leader != victim;
        cluster.wait_for_state(at, Some(victim), "a new leader", |state| is_moved(state.leader));
        now() - began
    });
    if strike == Strike::Pause && client.waits_for_a_silent_broker() {
        strike.heal(cluster, victim);
        wait_for_acks(sightings, before + RECOVERED_RECORDS);
        return (sightings.longest_silence(began), moved);
    }
    wait_for_acks(sightings, before + RECOVERED_RECORDS);
    let silence = sightings.longest_silence(began);
    strike.heal(cluster, victim);
    (silence, moved)
}

/// Waits until so many records are acknowledged.
///
/// # Panics
/// When they are not within a minute.
#[track_caller]
pub fn wait_for_acks(sightings: &Sightings, count: usize) {
    wait_for("acknowledgements", STUCK_LIMIT, || (sightings.acked_count() >= count).then_some(()));
}

/// Ends all brokers in order and compares what they hold of these topics' only partitions, each at
/// least up to the offset that is known to be committed.
///
/// # Panics
/// When a broker does not end in order, or its data directory cannot be read.
pub fn compare_replicas(
    cluster: &mut Cluster,
    topics: &[(&str, i64)],
    is_quiet: bool,
    verdict: &mut Verdict,
) {
    let mut connection = cluster.connect_beside(None);
    let names = topics.iter().map(|(topic, _)| connection.topic_id(topic));
    let names: Vec<_> = names.map(|id| (id.expect("the topic has an id"), 0)).collect();
    cluster.terminate_all();
    let folders = cluster.brokers().iter().map(|broker| broker.folder().join("data"));
    let logs: Vec<_> =
        folders.map(|folder| read_logs(&folder).expect("its directory can be read")).collect();
    verdict.comparisons.0 += 1;
    for ((topic, committed_end), name) in topics.iter().zip(&names) {
        match compare(&logs, name, *committed_end, is_quiet) {
            Ok(compared) => verdict.comparisons.1 = compared,
            Err(difference) => verdict.differences.push(format!("{topic}: {difference}")),
        }
    }
}

/// The topic's only partition, from its start to its end.
///
/// # Panics
/// When it cannot be read.
pub fn read_log(cluster: &Cluster, topic: &str) -> FinalLog {
    let records = wait_for("the log to be read", PATIENCE, || {
        let leader = cluster.leader(topic, 0);
        let broker = &cluster.brokers()[usize::try_from(leader - 1).ok()?];
        read_partition_as(&mut broker.connect(), topic, 0, &parse_text_id).ok()
    });
    FinalLog::from([(0, records)])
}
