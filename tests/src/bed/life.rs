//! A cluster and its history, from its first record to the comparison of its replicas.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use varve_client::{Client, ElectionType};

use crate::bed::clients::{Crew, Scene, read_everything};
use crate::bed::fault::Fault;
use crate::bed::faults::{self, Stage};
use crate::bed::fleet::{Fleet, heal_network};
use crate::bed::network::Network;
use crate::bed::plan::Plan;
use crate::bed::round::{Round, silences};
use crate::bed::scribe::Scribe;
use crate::clock::{monotonic_ns, now, pause};
use crate::judge::{At, Event, file, judge};
use crate::replicas::{compare, read_logs};

const TOPIC: &str = "bed";
const PARTITIONS: i32 = 3;
/// Of a topic that loses nothing of what two racks have; segments are small, so that they roll.
const CONFIGS: [(&str, &str); 3] =
    [("min.insync.replicas", "2"), ("retention.ms", "-1"), ("segment.bytes", "1048576")];
/// How long after the end of a fault everything may take to be as before. Also the bound for any answer.
pub(super) const LIVENESS_LIMIT: Duration = Duration::from_secs(60);
/// How long reading everything may take.
const READ_LIMIT: Duration = Duration::from_secs(60);
/// Anomalies of one round that are told.
const TOLD_MAX: usize = 20;

/// A cluster and its history.
pub(super) struct Life<'a> {
    seed: u64,
    number: u32,
    rounds: u32,
    folder: PathBuf,
    network: &'a Network,
    fleet: Fleet,
    scene: Scene,
    crew: Crew,
    /// The process that notes faults.
    bed: u32,
    /// Anomalies that an earlier round has told.
    known: BTreeSet<String>,
    is_broken: bool,
}

impl<'a> Life<'a> {
    /// Starts a cluster and its clients.
    ///
    /// # Errors
    /// What does not come up.
    pub(super) fn begin(plan: &Plan, number: u32, network: &'a Network) -> Result<Self, String> {
        heal_network(network);
        let folder = plan.folder.join(format!("life-{number}"));
        let mut fleet = Fleet::start(plan.brokers, &folder)?;
        create_topic(&fleet)?;
        fleet.wait_whole(LIVENESS_LIMIT)?;
        let about = format!("fault-bed --seed {}, life {number}", plan.seed);
        let scribe = Arc::new(Scribe::begin(&folder.join("history.jsonl"), &about));
        let bed = scribe.open("bed");
        let scene = Scene {
            bootstrap: fleet.bootstrap(),
            topic: TOPIC.to_owned(),
            partitions: PARTITIONS,
            scribe,
        };
        let crew = Crew::start(&scene, plan.python.as_ref(), plan.rate);
        let life = Self {
            seed: plan.seed,
            number,
            rounds: 0,
            folder,
            network,
            fleet,
            scene,
            crew,
            bed,
            known: BTreeSet::new(),
            is_broken: false,
        };
        life.wait_acknowledged(monotonic_ns(), plan.python.is_some())?;
        Ok(life)
    }

    /// Whether it cannot go on.
    pub(super) const fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// One fault, its healing, and the verdict.
    pub(super) fn round(&mut self, fault: Fault, random: &mut StdRng) -> Round {
        self.rounds += 1;
        let acked = self.scene.scribe.acked();
        let mut round = Round {
            seed: self.seed,
            life: self.number,
            number: self.rounds,
            fault: fault.name().to_owned(),
            ..Round::default()
        };
        if let Err(wrong) = self.strike_and_heal(fault, random, &mut round) {
            round.wrong.push(wrong);
            self.is_broken = true;
        }
        round.acknowledged = self.scene.scribe.acked() - acked;
        if !self.is_broken {
            round.wrong.extend(self.judge());
        }
        round.wrong.extend(self.panics());
        round
    }

    fn strike_and_heal(
        &mut self,
        fault: Fault,
        random: &mut StdRng,
        round: &mut Round,
    ) -> Result<(), String> {
        pause(Duration::from_millis(random.random_range(100..500)));
        let victim = self.fleet.leader(TOPIC, random.random_range(0..PARTITIONS))?;
        let has_guests = self.crew.has_guests();
        let first = self.scene.scribe.acked();
        let hold_ms = random.random_range(fault.holds_ms());
        let struck_ns = monotonic_ns();
        self.note(fault, "", true);
        let mut stage = Stage { fleet: &mut self.fleet, network: self.network, random, victim };
        round.detail = faults::strike(fault, &mut stage, hold_ms)?;
        if fault != Fault::Reset {
            pause(Duration::from_millis(hold_ms));
        }
        if !fault.may_end_broker() {
            stage.fleet.check()?;
        }
        round.detail.push_str(&faults::heal(fault, &mut stage)?);
        if fault == Fault::BitRot {
            // What is rotten is found when it is read: by whoever follows, or by clients when it leads.
            self.fleet.wait_whole(LIVENESS_LIMIT)?;
            elect_preferred(&self.scene);
        }
        self.note(fault, &round.detail, false);
        let healed_ns = monotonic_ns();
        self.fleet.wait_whole(LIVENESS_LIMIT)?;
        self.wait_acknowledged(healed_ns, has_guests)?;
        // That may have taken a leader to leave a replica behind.
        self.fleet.wait_whole(LIVENESS_LIMIT)?;
        let live_ns = monotonic_ns();
        round.healed_in = Duration::from_nanos(live_ns - healed_ns);
        round.silences =
            silences(&self.scene.scribe.acks_from(first.saturating_sub(200)), struck_ns, live_ns);
        self.settle()?;
        self.crew.check()
    }

    /// Waits until everything has its answer and is read by everybody.
    fn settle(&mut self) -> Result<(), String> {
        self.crew.hold(&self.scene, LIVENESS_LIMIT)?;
        let ends = read_everything(&self.scene, READ_LIMIT)?;
        let until = now() + LIVENESS_LIMIT;
        loop {
            let behind = self.scene.scribe.behind(&ends);
            if behind.is_empty() {
                break;
            }
            if now() > until {
                return Err(format!("after {LIVENESS_LIMIT:?} {}", behind.join(", ")));
            }
            pause(Duration::from_millis(20));
        }
        self.fleet.check()?;
        self.crew.go();
        Ok(())
    }

    /// Waits until every client had a record acknowledged by every partition that was sent after `since_ns`.
    fn wait_acknowledged(&self, since_ns: u64, has_guests: bool) -> Result<(), String> {
        let until = now() + LIVENESS_LIMIT;
        let due = PARTITIONS as usize * self.crew.producers();
        let mut first = 0;
        let mut seen: BTreeSet<(u32, At)> = BTreeSet::new();
        loop {
            let acks = self.scene.scribe.acks_from(first);
            first += acks.len();
            seen.extend(
                acks.into_iter()
                    .filter(|ack| ack.sent_ns > since_ns)
                    .map(|ack| (ack.process, ack.at)),
            );
            if seen.len() >= due {
                return Ok(());
            }
            if now() > until {
                let guests = if has_guests { " (librdkafka's among them)" } else { "" };
                return Err(format!(
                    "after {LIVENESS_LIMIT:?} only {} of {due} producers' partitions{guests} had a record acknowledged: {seen:?}",
                    seen.len()
                ));
            }
            pause(Duration::from_millis(10));
        }
    }

    /// What the history so far has of anomalies that no earlier round told.
    fn judge(&mut self) -> Vec<String> {
        let verdict = match judge(&self.scene.scribe.lines()) {
            Ok(verdict) => verdict,
            Err(refusal) => return vec![format!("the history is refused: {refusal}")],
        };
        let found = verdict.anomalies.iter().map(ToString::to_string);
        let new: Vec<String> = found.filter(|words| self.known.insert(words.clone())).collect();
        let more = new.len().saturating_sub(TOLD_MAX);
        let mut told: Vec<String> = new.into_iter().take(TOLD_MAX).collect();
        if more > 0 {
            told.push(format!("and {more} more anomalies"));
        }
        told
    }

    /// Panics in the brokers' logs that no earlier round told.
    fn panics(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        for host in self.fleet.hosts() {
            let log = fs::read(host.log()).unwrap_or_default();
            let log = String::from_utf8_lossy(&log).into_owned();
            let panics = log.lines().filter(|line| line.contains("panicked at"));
            found.extend(panics.map(|line| format!("broker {}: {line}", host.number())));
        }
        found.into_iter().filter(|words| self.known.insert(words.clone())).collect()
    }

    fn note(&self, fault: Fault, detail: &str, begins: bool) {
        let (kind, detail) = (fault.name().to_owned(), detail.to_owned());
        self.scene.scribe.note(self.bed, Event::Fault { kind, detail, begins });
    }

    /// Ends clients and brokers, compares the replicas' bytes and judges the history's file; what is wrong.
    pub(super) fn end(self, is_kept: bool) -> Vec<String> {
        let Self { folder, mut fleet, scene, crew, is_broken, known, .. } = self;
        let ready = if is_broken {
            Ok(Vec::new())
        } else {
            crew.hold(&scene, LIVENESS_LIMIT).and_then(|()| read_everything(&scene, READ_LIMIT))
        };
        crew.stop();
        let mut wrong = Vec::new();
        match ready {
            Ok(ends) if !is_broken => wrong.extend(compare_replicas(&mut fleet, &ends)),
            Ok(_) => {}
            Err(words) => wrong.push(words),
        }
        drop(fleet);
        let Scene { scribe, .. } = scene;
        let Ok(scribe) = Arc::try_unwrap(scribe) else {
            return vec!["a client did not end".to_owned()];
        };
        let path = scribe.finish();
        if !is_broken {
            match file::read(&path)
                .map_err(|error| error.to_string())
                .and_then(|recorded| judge(&recorded.lines).map_err(|error| error.to_string()))
            {
                Ok(verdict) => {
                    let found = verdict.anomalies.iter().map(ToString::to_string);
                    wrong.extend(found.filter(|words| !known.contains(words)).take(TOLD_MAX));
                }
                Err(refusal) => wrong.push(format!("the history's file is refused: {refusal}")),
            }
        }
        if wrong.is_empty() && !is_kept {
            let _ = fs::remove_dir_all(&folder);
        }
        wrong
    }
}

fn create_topic(fleet: &Fleet) -> Result<(), String> {
    let until = now() + LIVENESS_LIMIT;
    loop {
        let created = fleet.connect().and_then(|mut connection| {
            let created = connection.create_replicated_topic(TOPIC, PARTITIONS, 3, &CONFIGS);
            created.map_err(|error| error.to_string())
        });
        match created {
            Ok(()) => return Ok(()),
            Err(error) if now() > until => return Err(error),
            Err(_) => pause(Duration::from_millis(50)),
        }
    }
}

/// Asks for the preferred leaders. Whether they can lead is the cluster's to say.
fn elect_preferred(scene: &Scene) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let elect = async {
            let client = Client::connect(&scene.bootstrap).await.ok()?;
            client.admin().elect_leaders(ElectionType::Preferred, None).await.ok()
        };
        let _ = tokio::time::timeout(Duration::from_secs(10), elect).await;
    });
}

/// Ends all brokers in order, and compares what they hold, byte for byte.
fn compare_replicas(fleet: &mut Fleet, ends: &[(At, i64)]) -> Vec<String> {
    let compared = (|| {
        fleet.wait_whole(LIVENESS_LIMIT)?;
        let id = fleet.connect()?.topic_id(TOPIC).map_err(|error| error.to_string())?;
        for host in fleet.hosts() {
            host.signal(rustix::process::Signal::TERM);
        }
        for host in fleet.hosts() {
            host.wait_end()?;
        }
        let mut logs = Vec::new();
        for host in fleet.hosts() {
            logs.push(read_logs(&host.data()).map_err(|error| error.to_string())?);
        }
        let mut wrong = Vec::new();
        for (at, end) in ends {
            // With more than three brokers, each partition lies on three of them.
            let name = (id.clone(), at.partition);
            let holders: Vec<_> =
                logs.iter().filter(|logs| logs.contains_key(&name)).cloned().collect();
            if holders.len() != 3 {
                wrong.push(format!("{at} lies on {} brokers", holders.len()));
            }
            if let Err(difference) = compare(&holders, &name, *end, true) {
                wrong.push(format!("{at}: {difference}"));
            }
        }
        Ok::<_, String>(wrong)
    })();
    compared.unwrap_or_else(|error| vec![error])
}
