//! A run: lives of clusters, until so many rounds are done or the time is over.

use std::path::PathBuf;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::bed::fault::Fault;
use crate::bed::life::Life;
use crate::bed::network::Network;
use crate::bed::round::Round;
use crate::clock::now;

/// What a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many rounds at most.
    pub rounds: u32,
    /// How long at most; a round that has begun is ended.
    pub time: Duration,
    /// The faults; each comes once before any comes again.
    pub faults: Vec<Fault>,
    /// Brokers of a cluster, and voters of its quorum; partitions have three replicas.
    pub brokers: u8,
    /// Rounds of one cluster.
    pub rounds_of_life: u32,
    /// Records a second of each producer.
    pub rate: u64,
    /// Decides faults, victims and moments.
    pub seed: u64,
    /// Where everything lies.
    pub folder: PathBuf,
    /// The Python that has librdkafka, where there is one.
    pub python: Option<PathBuf>,
    /// Keeps the histories of lives in which all was right, too.
    pub keep: bool,
}

/// Runs a plan within the enclosure; `tell` hears of each round as it ends, and once more of the last round of a life at
/// whose end something was found.
///
/// # Panics
/// When the system refuses what the bed needs.
pub fn run(plan: &Plan, mut tell: impl FnMut(&Round)) -> Vec<Round> {
    let network = Network::lay(plan.brokers);
    let until = now() + plan.time;
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut faults = Faults { all: possible(&plan.faults), left: Vec::new() };
    let mut rounds: Vec<Round> = Vec::new();
    let mut number = 0;
    let is_over = |rounds: &[Round]| rounds.len() >= plan.rounds as usize || now() >= until;
    while !is_over(&rounds) && !faults.all.is_empty() {
        number += 1;
        let mut life = match Life::begin(plan, number, &network) {
            Ok(life) => life,
            Err(wrong) => {
                let round =
                    Round { seed: plan.seed, life: number, wrong: vec![wrong], ..Round::default() };
                tell(&round);
                rounds.push(round);
                break;
            }
        };
        for _ in 0..plan.rounds_of_life {
            if is_over(&rounds) {
                break;
            }
            let round = life.round(faults.draw(&mut random), &mut random);
            tell(&round);
            rounds.push(round);
            if life.is_broken() {
                break;
            }
        }
        let found = life.end(plan.keep || rounds.iter().any(|round| !round.wrong.is_empty()));
        if let Some(last) = rounds.last_mut().filter(|_| !found.is_empty()) {
            last.wrong.extend(found);
            tell(last);
        }
    }
    rounds
}

/// Those that this machine can do; the others are named.
fn possible(wanted: &[Fault]) -> Vec<Fault> {
    let can = |fault: &Fault| match fault.probe() {
        Ok(()) => true,
        Err(missing) => {
            println!("SKIPPED {}: {missing}", fault.name());
            false
        }
    };
    wanted.iter().copied().filter(can).collect()
}

/// Faults in a random order, each once before any comes again.
struct Faults {
    all: Vec<Fault>,
    left: Vec<Fault>,
}

impl Faults {
    fn draw(&mut self, random: &mut StdRng) -> Fault {
        if self.left.is_empty() {
            self.left.clone_from(&self.all);
            self.left.shuffle(random);
        }
        self.left.pop().expect("there are faults")
    }
}
