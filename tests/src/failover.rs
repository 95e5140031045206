//! Rounds in which the leader of a partition is struck while a producer of the client crate sends at
//! a steady rate: how long nothing was acknowledged, and whether anything acknowledged is lost.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use varve_client::{Client, Delivery, ProducerRecord, Topic};

use crate::clock::{now, pause, wait_for};
use crate::cluster::{Cluster, PATIENCE};
use crate::history::{Event, FinalLog, RecordId, Violation, check};
use crate::spawn;
use crate::workload::{read_partition, write_id};

/// Brokers, and replicas of the partition.
const BROKERS: usize = 3;
const TOPIC: &str = "failover";
/// Records that must be acknowledged after a strike before the next one.
const RECOVERED_RECORDS: usize = 300;
/// Without any acknowledgement for so long, the run fails.
const STUCK_LIMIT: Duration = Duration::from_secs(60);

/// What is done to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// SIGKILL.
    Kill,
    /// SIGSTOP: it falls silent; SIGCONT once others have taken over.
    Pause,
    /// SIGTERM: it ends in order.
    Terminate,
    /// SIGKILL for all brokers at one instant.
    KillAll,
}

/// What a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How often.
    pub rounds: u32,
    /// What.
    pub strike: Strike,
    /// Records a second.
    pub rate: u64,
    /// Decides the moments.
    pub seed: u64,
    /// Where the brokers' files lie.
    pub folder: PathBuf,
}

impl Plan {
    /// So many strikes at 1,000 records a second.
    pub fn new(rounds: u32, strike: Strike, seed: u64, folder: &Path) -> Self {
        Self { rounds, strike, rate: 1_000, seed, folder: folder.to_owned() }
    }
}

/// What a run found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// The longest time without an acknowledgement, a strike.
    pub silences: Vec<Duration>,
    /// How long it took until the others named another leader, a strike; not for
    /// [`Strike::KillAll`].
    pub moves: Vec<Duration>,
    /// How long it took until all replicas were in sync again, a strike.
    pub returns: Vec<Duration>,
    /// Records that were acknowledged.
    pub acknowledged: u64,
    /// Empty when all was right.
    pub violations: Vec<Violation>,
}

/// What the producer tells.
#[derive(Default)]
struct Shared {
    events: Mutex<Vec<Event>>,
    /// When each acknowledgement came.
    acks: Mutex<Vec<Instant>>,
    is_over: AtomicBool,
}

/// Runs the plan; `progress` is told each round with its silence.
///
/// # Panics
/// When the cluster hangs or a broker ends by itself.
pub fn run(plan: &Plan, mut progress: impl FnMut(u32, Duration)) -> Verdict {
    let mut cluster = Cluster::start(&plan.folder, BROKERS, &[]);
    let configs = [("min.insync.replicas", "2"), ("retention.ms", "-1")];
    let created = cluster.connect_beside(None).create_replicated_topic(TOPIC, 1, 3, &configs);
    created.expect("the topic is created");
    cluster.wait_for_isr(TOPIC, 0, BROKERS);
    let shared = Arc::new(Shared::default());
    let producer = {
        let (shared, bootstrap, rate) = (Arc::clone(&shared), cluster.bootstrap(), plan.rate);
        spawn::thread("producer", move || produce(&shared, &bootstrap, rate))
    };
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut verdict = Verdict::default();
    wait_for_acks(&shared, RECOVERED_RECORDS);
    for round in 0..plan.rounds {
        pause(Duration::from_millis(random.random_range(200..700)));
        let (silence, moved) = strike(plan.strike, &mut cluster, &shared);
        verdict.silences.push(silence);
        verdict.moves.extend(moved);
        let struck = now();
        cluster.wait_for_isr(TOPIC, 0, BROKERS);
        verdict.returns.push(now() - struck);
        progress(round + 1, silence);
        assert!(!producer.is_finished(), "the producer ended by itself");
    }
    shared.is_over.store(true, Ordering::Release);
    if let Err(panic) = producer.join() {
        std::panic::resume_unwind(panic);
    }
    let events = shared.events.lock();
    verdict.violations = check(&events, &read_log(&cluster));
    verdict.acknowledged = shared.acks.lock().len() as u64;
    verdict
}

/// Strikes, waits until records are acknowledged again, and brings back what was struck. Answers
/// the silence, and the time until there was another leader.
fn strike(strike: Strike, cluster: &mut Cluster, shared: &Shared) -> (Duration, Option<Duration>) {
    let victim = cluster.leader(TOPIC, 0);
    let began = now();
    let before = shared.acks.lock().len();
    match strike {
        Strike::Kill => cluster.broker(victim).kill(),
        Strike::Pause => cluster.broker(victim).pause(),
        Strike::Terminate => {
            let status = cluster.broker(victim).terminate();
            assert!(status.success(), "broker {victim} ended with {status} after SIGTERM");
        }
        Strike::KillAll => {
            cluster.kill_all();
            cluster.restart_all();
        }
    }
    let moved = (strike != Strike::KillAll).then(|| {
        let at = (TOPIC, 0);
        let is_moved = |leader: i32| leader >= 0 && leader != victim;
        cluster.wait_for_state(at, Some(victim), "a new leader", |state| is_moved(state.leader));
        now() - began
    });
    wait_for_acks(shared, before + RECOVERED_RECORDS);
    let silence = longest_silence(&shared.acks.lock(), began);
    match strike {
        Strike::Kill | Strike::Terminate => cluster.broker(victim).restart(),
        Strike::Pause => cluster.broker(victim).resume(),
        Strike::KillAll => {}
    }
    (silence, moved)
}

/// The longest time between two acknowledgements of which the later one came after `began`.
fn longest_silence(acks: &[Instant], began: Instant) -> Duration {
    let pairs = acks.windows(2).filter(|pair| pair[1] >= began);
    pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

fn wait_for_acks(shared: &Shared, count: usize) {
    wait_for("acknowledgements", STUCK_LIMIT, || (shared.acks.lock().len() >= count).then_some(()));
}

/// Sends at the rate until it is over, and notes every acknowledgement.
fn produce(shared: &Arc<Shared>, bootstrap: &str, rate: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let client = Client::connect(bootstrap).await.expect("the cluster is there");
        let producer = client.producer().linger(Duration::ZERO).build().await;
        let producer = producer.expect("a producer is built while the cluster is there");
        let (sender, mut sent) = tokio::sync::mpsc::unbounded_channel::<(RecordId, Delivery)>();
        let send = async {
            let topic = Topic::from(TOPIC.to_owned());
            let mut random = StdRng::seed_from_u64(rate);
            let began = now();
            for number in 0.. {
                if shared.is_over.load(Ordering::Acquire) {
                    break;
                }
                let due = began + Duration::from_micros(number * 1_000_000 / rate);
                tokio::time::sleep_until(due.into()).await;
                let id = RecordId { producer: 0, partition: 0, number };
                let value = write_id(id, 100, &mut random);
                shared.events.lock().push(Event::Sent { first: id, count: 1 });
                let record = ProducerRecord::new(topic.clone(), value).partition(0);
                let delivery = producer.enqueue(record).await.expect("it can be enqueued");
                // The receiver lives as long as this.
                let _ = sender.send((id, delivery));
            }
            drop(sender);
        };
        let receive = async {
            while let Some((first, delivery)) = sent.recv().await {
                let event = match tokio::time::timeout(STUCK_LIMIT, delivery).await {
                    Ok(Ok(metadata)) => {
                        shared.acks.lock().push(now());
                        let base_offset = (metadata.offset >= 0).then_some(metadata.offset);
                        Event::Acked { first, count: 1, base_offset }
                    }
                    Ok(Err(error)) => {
                        eprintln!("{first} is not delivered: {error}");
                        let error_code = error.code().map_or(-1, |code| code.code());
                        Event::Refused { first, error_code }
                    }
                    Err(_) => panic!("{first} is neither acknowledged nor refused"),
                };
                shared.events.lock().push(event);
            }
        };
        tokio::join!(send, receive);
        producer.close().await.expect("everything was acknowledged before");
    });
}

fn read_log(cluster: &Cluster) -> FinalLog {
    let records = wait_for("the log to be read", PATIENCE, || {
        let leader = cluster.leader(TOPIC, 0);
        let broker = &cluster.brokers()[usize::try_from(leader - 1).ok()?];
        read_partition(&mut broker.connect(), TOPIC, 0).ok()
    });
    FinalLog::from([(0, records)])
}
