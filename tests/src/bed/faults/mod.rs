//! What is done to a cluster, and how it is undone: one file for each part of a machine that can fail.

mod clock;
mod links;
mod processes;
mod storage;

use rand::rngs::StdRng;

pub(super) use clock::probe as probe_clock;
pub(super) use storage::probe_slow_disk;

use crate::bed::fault::Fault;
use crate::bed::fleet::Fleet;
use crate::bed::network::Network;

/// What faults strike.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) fleet: &'a mut Fleet,
    pub(super) network: &'a Network,
    /// Decides what the kind leaves open.
    pub(super) random: &'a mut StdRng,
    /// The broker that is struck, where it is one.
    pub(super) victim: u8,
}

impl Stage<'_> {
    /// Everybody but the victim: brokers, and clients if `with_clients`.
    fn others(&self, with_clients: bool) -> Vec<u8> {
        let brokers = self.fleet.numbers();
        let is_meant = |host: &u8| *host != self.victim && (with_clients || brokers.contains(host));
        self.network.all().filter(is_meant).collect()
    }
}

/// Strikes; what exactly was done. What holds for a time by itself (connections that are ended again and again) does so in here.
///
/// # Errors
/// What went otherwise than it must.
pub(super) fn strike(fault: Fault, stage: &mut Stage<'_>, hold_ms: u64) -> Result<String, String> {
    match fault {
        Fault::Kill | Fault::KillAll | Fault::Pause | Fault::Stop | Fault::Rolling => {
            processes::strike(fault, stage)
        }
        Fault::CutOff
        | Fault::CutPeers
        | Fault::CutClients
        | Fault::OneWay
        | Fault::CutPair
        | Fault::Reset
        | Fault::SlowLink
        | Fault::LateLink
        | Fault::LossyLink => links::strike(fault, stage, hold_ms),
        Fault::FullDisk
        | Fault::SlowDisk
        | Fault::PowerCut
        | Fault::PowerCutAll
        | Fault::WritebackError
        | Fault::BitRot
        | Fault::NewDisk => storage::strike(fault, stage),
        Fault::ClockJump => clock::strike(stage),
    }
}

/// Undoes what [`strike`] did, and waits until all brokers serve; what was noteworthy about it.
///
/// # Errors
/// What went otherwise than it must.
pub(super) fn heal(fault: Fault, stage: &mut Stage<'_>) -> Result<String, String> {
    match fault {
        Fault::Kill | Fault::KillAll | Fault::Pause | Fault::Stop | Fault::Rolling => {
            processes::heal(fault, stage).map(|()| String::new())
        }
        Fault::FullDisk
        | Fault::SlowDisk
        | Fault::PowerCut
        | Fault::PowerCutAll
        | Fault::WritebackError
        | Fault::BitRot
        | Fault::NewDisk => storage::heal(fault, stage),
        Fault::ClockJump => clock::heal(stage).map(|()| String::new()),
        _ => {
            crate::bed::fleet::heal_network(stage.network);
            Ok(String::new())
        }
    }
}
