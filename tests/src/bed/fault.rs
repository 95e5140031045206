//! The kinds of faults: what each is called, what it needs of the machine, how long it lasts. What is done is in `faults`.

use std::ops::Range;

use crate::bed::tool::{is_there, run};
use crate::bed::{faults, network};

/// A kind of fault. Most strike one broker: the leader of a partition that clients write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGKILL for all brokers at once.
    KillAll,
    /// SIGSTOP, later SIGCONT.
    Pause,
    /// SIGTERM: it ends in order.
    Stop,
    /// Every broker in turn ends in order and comes back.
    Rolling,
    /// A broker is cut off from everybody.
    CutOff,
    /// A broker is cut off from the other brokers; clients reach it.
    CutPeers,
    /// A broker is cut off from clients; the other brokers reach it.
    CutClients,
    /// What a broker sends reaches nobody, or nothing reaches it.
    OneWay,
    /// Two brokers do not reach each other; the third reaches both.
    CutPair,
    /// A broker's connections are ended again and again.
    Reset,
    /// A broker's link carries little, and queues it.
    SlowLink,
    /// Everything that a broker sends arrives late.
    LateLink,
    /// A part of what is sent to a broker is lost.
    LossyLink,
    /// A broker's disk is full.
    FullDisk,
    /// A broker's disk is slow.
    SlowDisk,
    /// A broker's machine loses power: what was not synced is gone.
    PowerCut,
    /// All machines lose power at once.
    PowerCutAll,
    /// The kernel cannot write back what a broker wrote.
    WritebackError,
    /// Bits of a segment turn over while its broker is down.
    BitRot,
    /// A broker comes back with an empty disk.
    NewDisk,
    /// A broker's wall clock jumps by hours, both ways.
    ClockJump,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::Kill,
        Self::KillAll,
        Self::Pause,
        Self::Stop,
        Self::Rolling,
        Self::CutOff,
        Self::CutPeers,
        Self::CutClients,
        Self::OneWay,
        Self::CutPair,
        Self::Reset,
        Self::SlowLink,
        Self::LateLink,
        Self::LossyLink,
        Self::FullDisk,
        Self::SlowDisk,
        Self::PowerCut,
        Self::PowerCutAll,
        Self::WritebackError,
        Self::BitRot,
        Self::NewDisk,
        Self::ClockJump,
    ];

    /// Those of a short run.
    pub const SHORT: [Self; 6] =
        [Self::Kill, Self::Pause, Self::OneWay, Self::CutOff, Self::PowerCut, Self::FullDisk];

    /// As people write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillAll => "kill-all",
            Self::Pause => "pause",
            Self::Stop => "stop",
            Self::Rolling => "rolling",
            Self::CutOff => "cut-off",
            Self::CutPeers => "cut-peers",
            Self::CutClients => "cut-clients",
            Self::OneWay => "one-way",
            Self::CutPair => "cut-pair",
            Self::Reset => "reset",
            Self::SlowLink => "slow-link",
            Self::LateLink => "late-link",
            Self::LossyLink => "lossy-link",
            Self::FullDisk => "full-disk",
            Self::SlowDisk => "slow-disk",
            Self::PowerCut => "power-cut",
            Self::PowerCutAll => "power-cut-all",
            Self::WritebackError => "writeback-error",
            Self::BitRot => "bit-rot",
            Self::NewDisk => "new-disk",
            Self::ClockJump => "clock-jump",
        }
    }

    /// The one with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }

    /// For how long it holds, in milliseconds.
    pub const fn holds_ms(self) -> Range<u64> {
        match self {
            Self::Kill | Self::Stop | Self::NewDisk => 100..1_500,
            Self::KillAll | Self::Rolling | Self::PowerCutAll | Self::BitRot => 0..300,
            Self::PowerCut => 0..1_000,
            Self::Reset => 1_000..2_500,
            Self::Pause => 800..3_000,
            _ => 1_200..4_000,
        }
    }

    /// Whether a broker may end by itself because of it: one whose disk fails does so in order that another leads.
    pub const fn may_end_broker(self) -> bool {
        matches!(self, Self::PowerCut | Self::PowerCutAll | Self::WritebackError | Self::BitRot)
    }

    /// Looks whether this machine can do it. To be called within the enclosure, when the network is laid.
    ///
    /// # Errors
    /// What is missing.
    pub fn probe(self) -> Result<(), String> {
        match self {
            Self::Reset => need("ss"),
            Self::SlowLink => within(
                &["tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate"],
                &["1mbit", "burst", "8kb", "latency", "50ms"],
            ),
            Self::LateLink => {
                within(&["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"], &[])
            }
            Self::LossyLink => {
                need("nft")?;
                within(&["nft", "add", "table", "inet", "probe"], &[])
            }
            Self::FullDisk => need("fallocate"),
            Self::SlowDisk => faults::probe_slow_disk(),
            Self::ClockJump => faults::probe_clock().map(|_| ()),
            _ => Ok(()),
        }
    }
}

fn need(program: &str) -> Result<(), String> {
    if is_there(program) { Ok(()) } else { Err(format!("{program} is not installed")) }
}

/// Tries a command in a guest's network and undoes it.
fn within(command: &[&str], rest: &[&str]) -> Result<(), String> {
    let [program, space] = network::prefix(network::GUESTS);
    let result = run(&program, &[&[space.as_str()], command, rest].concat());
    let _ = run(&program, &[&space, "tc", "qdisc", "del", "dev", "lo", "root"]);
    let _ = run(&program, &[&space, "nft", "delete", "table", "inet", "probe"]);
    result.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for fault in Fault::ALL {
            assert_eq!(Fault::parse(fault.name()), Some(fault));
        }
        assert_eq!(Fault::parse("kills"), None);
    }
}
