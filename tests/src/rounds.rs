//! Rounds of produce and consume while the broker is killed with SIGKILL at random moments, and
//! the verdict.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::client_workload;
use crate::clock::{now, pause};
use crate::connection::Connection;
use crate::history::{Event, FinalLog, Violation, check};
use crate::process::BrokerProcess;
use crate::spawn;
use crate::workload::{Consumer, Producer, Shared, read_all};

/// How long reading the log at the end may fail.
const READ_LIMIT: Duration = Duration::from_secs(20);

/// Who produces and consumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clients {
    /// The harness's own, which speak the wire in plain sight.
    #[default]
    Wire,
    /// Varve's client crate.
    Crate,
}

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
    /// Who the clients are.
    pub clients: Clients,
    /// A broker that is there already, and is not killed: to see what the clients themselves get
    /// wrong.
    pub against: Option<SocketAddr>,
}

impl Plan {
    /// A plan with as many rounds, in this folder.
    pub fn new(rounds: u32, seed: u64, folder: &Path) -> Self {
        Self {
            rounds,
            seed,
            producers: 3,
            partitions: 4,
            folder: folder.to_owned(),
            clients: Clients::Wire,
            against: None,
        }
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

/// The broker of a run.
enum Victim {
    Own(BrokerProcess),
    Spared(SocketAddr),
}

impl Victim {
    fn address(&self) -> SocketAddr {
        match self {
            Self::Own(broker) => broker.address(),
            Self::Spared(address) => *address,
        }
    }

    fn connect(&self) -> io::Result<Connection> {
        Connection::open(self.address())
    }
}

/// Runs the plan; `progress` is told each round.
///
/// # Panics
/// When the broker ends by itself, hangs, or does not come up.
pub fn run(plan: &Plan, mut progress: impl FnMut(u32)) -> Verdict {
    let mut victim = match plan.against {
        None => Victim::Own(BrokerProcess::start(&plan.folder, &[])),
        Some(address) => Victim::Spared(address),
    };
    let shared = Arc::new(Shared {
        address: victim.address(),
        topic: format!("crash-rounds-{}-{}", plan.seed, std::process::id()),
        partitions: plan.partitions,
        group: format!("crash-rounds-{}-{}", plan.seed, std::process::id()),
        events: Mutex::new(Vec::new()),
        is_over: AtomicBool::new(false),
    });
    // Segments as small as Kafka allows, so that they roll.
    let configs = [("segment.bytes", "1048576"), ("retention.ms", "-1")];
    victim
        .connect()
        .and_then(|mut admin| admin.create_topic(&shared.topic, plan.partitions, &configs))
        .expect("the topic is created");
    let clients = start_clients(plan, &shared);
    let mut starts = Vec::new();
    let mut random = StdRng::seed_from_u64(plan.seed);
    for round in 0..plan.rounds {
        pause(Duration::from_millis(random.random_range(5..400)));
        if let Victim::Own(broker) = &mut victim {
            strike(broker, &mut random);
            starts.push(broker.started_in());
        }
        if clients.iter().any(JoinHandle::is_finished) {
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
    let log = read_patiently(&victim, &shared);
    let mut violations = check(&shared.events.lock(), &log);
    if let Victim::Own(broker) = &mut victim {
        // An orderly end must lose nothing either.
        broker.assert_running();
        let status = broker.terminate();
        assert!(status.success(), "the broker ended with {status} after SIGTERM");
        broker.restart();
        starts.push(broker.started_in());
        let again = read_patiently(&victim, &shared);
        if again != log {
            violations.extend(check(&shared.events.lock(), &again));
        }
    }
    verdict(&shared.events.lock(), violations, starts)
}

fn start_clients(plan: &Plan, shared: &Arc<Shared>) -> Vec<JoinHandle<()>> {
    let (clients, seed) = (plan.clients, plan.seed);
    let mut threads = Vec::new();
    for number in 0..plan.producers {
        let shared = shared.clone();
        threads.push(spawn::thread(format!("producer {number}"), move || match clients {
            Clients::Wire => Producer::new(shared, number, seed).run(),
            Clients::Crate => client_workload::produce(&shared, number, seed),
        }));
    }
    let shared = shared.clone();
    threads.push(spawn::thread("consumer", move || match clients {
        Clients::Wire => Consumer::new(shared, seed).run(),
        Clients::Crate => client_workload::consume(&shared, seed),
    }));
    threads
}

/// Kills the broker and starts it again; now and then it is killed once more while it recovers.
fn strike(broker: &mut BrokerProcess, random: &mut StdRng) {
    broker.kill();
    while random.random_bool(0.15) {
        broker.restart_and_kill(Duration::from_millis(random.random_range(0..60)));
    }
    broker.restart();
}

fn read_patiently(victim: &Victim, shared: &Shared) -> FinalLog {
    let mut last_error = String::new();
    let begun = now();
    loop {
        assert!(now() - begun < READ_LIMIT, "the log cannot be read: {last_error}");
        match victim.connect().and_then(|mut connection| read_all(&mut connection, shared)) {
            Ok(log) => return log,
            Err(error) => last_error = error.to_string(),
        }
        pause(Duration::from_millis(20));
    }
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
