//! What kind of run a seed makes: how often which fault strikes, how slow network and disks are, what
//! the clients do. Drawn too, so that seeds differ in kind and not only in events.

use super::random::Random;

/// The kind of one run.
#[derive(Clone, Debug)]
pub struct Profile {
    /// How long faults strike, in microseconds.
    pub faults_us: u64,
    /// Between two faults, on average.
    pub fault_every_us: u64,
    /// One way through the network, on average.
    pub latency_us: u64,
    /// One sync, on average.
    pub sync_us: u64,
    /// From committed metadata to what follows from it, on average.
    pub finish_us: u64,
    /// Between two batches of a producer, on average.
    pub produce_every_us: u64,
    /// Batches of one producer and partition that are not answered.
    pub in_flight_max: usize,
    /// Partitions of the topic.
    pub partitions: i32,
    /// `min.insync.replicas`.
    pub min_insync: usize,
    /// `replica.lag.time.max.ms`.
    pub lag_ms_max: i64,
    /// Bytes of one value, at most.
    pub value_bytes_max: u64,
    /// How many brokers there are, numbered from 1.
    pub brokers: i32,
    /// How many of them vote in the quorum, the first ones; the others learn.
    pub voters: i32,
    /// Consumer groups.
    pub groups: usize,
    /// Members of each.
    pub members: usize,
    /// Replicas are moved.
    pub reassigns: bool,
    /// Records are deleted.
    pub deletes: bool,
    /// Which faults there are, each with its weight.
    pub weights: Vec<(Fault, u64)>,
}

/// What may strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A process dies, its machine lives.
    Kill,
    /// A machine loses its power.
    PowerCut,
    /// As that, in place of one of its next syncs.
    PowerCutAtSync,
    /// All machines lose their power.
    PowerCutAll,
    /// A process is stopped and goes on.
    Pause,
    /// A link stands still, both ways.
    Stall,
    /// One direction stands still.
    OneWayStall,
    /// One machine hears and is heard by nobody.
    Isolate,
    /// The connections between two machines break.
    Reset,
    /// A wall clock jumps.
    ClockJump,
    /// A disk becomes slow.
    SlowDisk,
    /// A sync fails once, and loses what it should have made durable.
    FailSync,
    /// A write fails.
    FailWrite,
    /// A disk has no room for a while.
    FullDisk,
    /// The machines fall into two parts that do not hear each other.
    Split,
    /// The machine that leads a partition, or the quorum, dies; soon its successor too.
    BackToBack,
}

const FAULTS: [Fault; 16] = [
    Fault::Kill,
    Fault::PowerCut,
    Fault::PowerCutAtSync,
    Fault::PowerCutAll,
    Fault::Pause,
    Fault::Stall,
    Fault::OneWayStall,
    Fault::Isolate,
    Fault::Reset,
    Fault::ClockJump,
    Fault::SlowDisk,
    Fault::FailSync,
    Fault::FailWrite,
    Fault::FullDisk,
    Fault::Split,
    Fault::BackToBack,
];

impl Profile {
    /// Draws one.
    #[must_use]
    pub fn draw(random: &mut Random) -> Self {
        let mut pick = |choices: &[u64]| choices[random.index(choices.len())];
        let mut profile = Self {
            faults_us: pick(&[6, 10, 15]) * 1_000_000,
            fault_every_us: pick(&[300, 800, 1_500, 3_000]) * 1_000,
            latency_us: pick(&[100, 500, 2_000, 10_000]),
            sync_us: pick(&[100, 500, 3_000]),
            finish_us: pick(&[50, 1_000, 20_000]),
            produce_every_us: pick(&[10_000, 30_000, 100_000]),
            in_flight_max: usize::try_from(pick(&[1, 2, 5])).expect("it is small"),
            partitions: i32::try_from(pick(&[1, 2])).expect("it is small"),
            min_insync: usize::try_from(pick(&[1, 2, 2])).expect("it is small"),
            lag_ms_max: i64::try_from(pick(&[500, 2_000])).expect("it is small"),
            value_bytes_max: pick(&[20, 200, 3_000]),
            weights: Vec::new(),
            brokers: i32::try_from(pick(&[3, 3, 3, 3, 4, 5, 5, 7])).expect("it is small"),
            voters: i32::try_from(pick(&[3, 3, 5])).expect("it is small"),
            groups: usize::try_from(pick(&[0, 1, 1, 2])).expect("it is small"),
            members: usize::try_from(pick(&[1, 2, 3])).expect("it is small"),
            reassigns: pick(&[0, 1]) == 1,
            deletes: pick(&[0, 1]) == 1,
        };
        if profile.voters > profile.brokers {
            profile.voters = 3;
        }
        for fault in FAULTS {
            // Some runs lack some faults, so that others are not drowned.
            let weight = [0, 1, 1, 4][random.index(4)];
            profile.weights.push((fault, weight));
        }
        if profile.weights.iter().all(|(_, weight)| *weight == 0) {
            profile.weights[0].1 = 1;
        }
        profile
    }

    /// The next fault.
    #[must_use]
    pub fn fault(&self, random: &mut Random) -> Fault {
        let total: u64 = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut draw = random.below(total);
        for (fault, weight) in &self.weights {
            if draw < *weight {
                return *fault;
            }
            draw -= weight;
        }
        unreachable!("the draw is below the sum of the weights")
    }
}
