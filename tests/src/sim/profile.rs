//! What kind of run a seed makes: how often which fault strikes, how slow network and disks are, what
//! the clients do. Drawn too, so that seeds differ in kind and not only in events.

use super::random::Random;

/// How long a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Length {
    /// Seconds, in which clients are busy and faults strike one upon the other.
    #[default]
    Short,
    /// Minutes, in which clients are calm and faults are rare: what comes of time and not of haste.
    Long,
}

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
    /// Between two looks of the reader, on average.
    pub read_every_us: u64,
    /// Between two deeds of a group's member, on average.
    pub act_every_us: u64,
    /// And at most.
    pub act_every_us_max: u64,
    /// What a member's session is to outlast beside the latencies of the network.
    pub session_ms: i32,
    /// How long a member stands still, on average: often for longer than its session.
    pub member_pause_us: u64,
    /// How long a member waits for the others of its group.
    pub join_patience_us: u64,
    /// Between two deeds of the administrator.
    pub administer_every_us: u64,
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
    /// Between two looks for damage in all logs of a broker, where disks do harm.
    pub scrub_ms: i64,
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
    /// A disk harms what it was given, without a word.
    Rot,
    /// The machine that leads a partition, or the quorum, dies; soon its successor too.
    BackToBack,
}

const FAULTS: [Fault; 17] = [
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
    Fault::Rot,
    Fault::BackToBack,
];

impl Profile {
    /// The one that a seed makes.
    #[must_use]
    pub fn of(seed: u64, length: Length) -> Self {
        Self::draw(&mut Random::new(seed), length)
    }

    /// Draws one.
    #[must_use]
    pub fn draw(random: &mut Random, length: Length) -> Self {
        let mut profile = Self::draw_short(random);
        if length == Length::Long {
            profile.calm(random);
        }
        profile
    }

    fn calm(&mut self, random: &mut Random) {
        let mut pick = |choices: &[u64]| choices[random.index(choices.len())];
        self.faults_us = pick(&[5, 10, 15]) * 60_000_000;
        self.fault_every_us = pick(&[15, 30, 60]) * 1_000_000;
        self.latency_us = pick(&[100, 500, 2_000]);
        self.produce_every_us = pick(&[500, 1_000, 2_000]) * 1_000;
        self.read_every_us = 2_000_000;
        self.act_every_us = 1_000_000;
        self.act_every_us_max = 3_000_000;
        self.session_ms = 10_000;
        self.member_pause_us = 15_000_000;
        self.join_patience_us = 25_000_000;
        self.administer_every_us = 5_000_000;
        self.scrub_ms = 30_000;
        self.brokers = i32::try_from(pick(&[3, 3, 3, 5])).expect("it is small");
        self.voters = self.voters.min(self.brokers);
    }

    fn draw_short(random: &mut Random) -> Self {
        let mut pick = |choices: &[u64]| choices[random.index(choices.len())];
        let mut profile = Self {
            faults_us: pick(&[6, 10, 15]) * 1_000_000,
            fault_every_us: pick(&[300, 800, 1_500, 3_000]) * 1_000,
            latency_us: pick(&[100, 500, 2_000, 10_000]),
            sync_us: pick(&[100, 500, 3_000]),
            finish_us: pick(&[50, 1_000, 20_000]),
            produce_every_us: pick(&[10_000, 30_000, 100_000]),
            read_every_us: 20_000,
            act_every_us: 60_000,
            act_every_us_max: u64::MAX,
            session_ms: 800,
            member_pause_us: 1_500_000,
            join_patience_us: 4_000_000,
            administer_every_us: 300_000,
            scrub_ms: 1_500,
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

    /// Whether disks do harm.
    #[must_use]
    pub fn has_rot(&self) -> bool {
        self.weights.iter().any(|(fault, weight)| *fault == Fault::Rot && *weight > 0)
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
