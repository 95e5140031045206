//! Rounds of produce and consume while the broker is killed with SIGKILL at random moments, and
//! the verdict.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::clock::{now, pause};
use crate::history::{Event, Violation, check};
use crate::process::BrokerProcess;
use crate::spawn;
use crate::workload::{Consumer, Producer, Shared, read_all};

/// What a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How often the broker is killed.
    pub rounds: u32,
    /// Decides the moments of the kills and what the clients send.
    pub seed: u64,
    /// Idempotent producers.
    pub producers: u32,
    /// Partitions of the topic.
    pub partitions: i32,
    /// Where the broker's files lie.
    pub folder: PathBuf,
}

impl Plan {
    /// A plan with as many rounds, in this folder.
    pub fn new(rounds: u32, seed: u64, folder: &Path) -> Self {
        Self { rounds, seed, producers: 3, partitions: 4, folder: folder.to_owned() }
    }
}

/// What a run found.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Empty when all was right.
    pub violations: Vec<Violation>,
    /// Records that were acknowledged.
    pub acknowledged: u64,
    /// Offset commits that were acknowledged, counted by partition.
    pub commits: u64,
    /// Records that the consumer read.
    pub read: u64,
    /// How long each start took until the broker served.
    pub starts: Vec<Duration>,
}

/// Runs the plan; `progress` is told each round.
///
/// # Panics
/// When the broker ends by itself, hangs, or does not come up.
pub fn run(plan: &Plan, mut progress: impl FnMut(u32)) -> Verdict {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut broker = BrokerProcess::start(&plan.folder, &[]);
    let shared = Arc::new(Shared {
        address: broker.address(),
        topic: "crash-rounds".to_owned(),
        partitions: plan.partitions,
        group: "crash-rounds".to_owned(),
        events: Mutex::new(Vec::new()),
        is_over: AtomicBool::new(false),
    });
    // Segments as small as Kafka allows, so that they roll.
    let configs = [("segment.bytes", "1048576"), ("retention.ms", "-1")];
    broker
        .connect()
        .create_topic(&shared.topic, plan.partitions, &configs)
        .expect("the topic is created");
    let mut clients = Vec::new();
    for number in 0..plan.producers {
        let producer = Producer::new(shared.clone(), number, plan.seed);
        clients.push(spawn::thread(format!("producer {number}"), move || producer.run()));
    }
    let consumer = Consumer::new(shared.clone(), plan.seed);
    clients.push(spawn::thread("consumer", move || consumer.run()));

    let mut starts = vec![broker.started_in()];
    for round in 0..plan.rounds {
        pause(Duration::from_millis(random.random_range(5..400)));
        broker.kill();
        // Now and then once more while it recovers.
        while random.random_bool(0.15) {
            broker.restart_and_kill(Duration::from_millis(random.random_range(0..60)));
        }
        broker.restart();
        starts.push(broker.started_in());
        if clients.iter().any(std::thread::JoinHandle::is_finished) {
            break;
        }
        progress(round + 1);
    }
    shared.is_over.store(true, Ordering::Release);
    for client in clients {
        if let Err(panic) = client.join() {
            std::panic::resume_unwind(panic);
        }
    }
    broker.assert_running();
    let mut log = read_all(&mut broker.connect(), &shared).expect("the log can be read");
    let mut violations = check(&shared.events.lock(), &log);
    // An orderly end must lose nothing either.
    let status = broker.terminate();
    assert!(status.success(), "the broker ended with {status} after SIGTERM");
    broker.restart();
    let begun = now();
    let again = loop {
        match read_all(&mut broker.connect(), &shared) {
            Ok(again) => break again,
            Err(error) => assert!(now() - begun < Duration::from_secs(20), "{error}"),
        }
    };
    if again != log {
        log = again;
        violations.extend(check(&shared.events.lock(), &log));
    }
    verdict(&shared.events.lock(), violations, starts)
}

fn verdict(events: &[Event], violations: Vec<Violation>, starts: Vec<Duration>) -> Verdict {
    let mut verdict = Verdict { violations, acknowledged: 0, commits: 0, read: 0, starts };
    for event in events {
        match event {
            Event::Acked { count, .. } => verdict.acknowledged += count,
            Event::CommitAcked { .. } => verdict.commits += 1,
            Event::Read { .. } => verdict.read += 1,
            _ => {}
        }
    }
    verdict
}
