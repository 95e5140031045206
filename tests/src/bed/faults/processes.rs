//! Processes that die, stand still, or end in order.

use std::time::Duration;

use rustix::process::Signal;

use crate::bed::fault::Fault;
use crate::bed::faults::Stage;

/// How long a broker may take to serve again.
pub(super) const START_LIMIT: Duration = Duration::from_secs(60);
/// How long all replicas may take to be in sync between two steps of a rolling restart.
const WHOLE_LIMIT: Duration = Duration::from_secs(60);

pub(super) fn strike(fault: Fault, stage: &mut Stage<'_>) -> Result<String, String> {
    let victim = stage.victim;
    match fault {
        Fault::Kill => stage.fleet.host(victim).kill()?,
        Fault::KillAll => {
            for host in stage.fleet.hosts() {
                host.signal(Signal::KILL);
            }
            for host in stage.fleet.hosts() {
                host.kill()?;
            }
        }
        Fault::Pause => stage.fleet.host(victim).signal(Signal::STOP),
        Fault::Stop => {
            let took = stage.fleet.host(victim).terminate()?;
            return Ok(format!("broker {victim} ended in {took:.0?}"));
        }
        Fault::Rolling => {
            for number in stage.fleet.numbers() {
                stage.fleet.host(number).terminate()?;
                stage.fleet.host(number).start(&[]);
                stage.fleet.host(number).wait_serving(START_LIMIT)?;
                stage.fleet.wait_whole(WHOLE_LIMIT)?;
            }
        }
        _ => unreachable!("{fault:?} is no fault of processes"),
    }
    Ok(format!("broker {victim}"))
}

pub(super) fn heal(fault: Fault, stage: &mut Stage<'_>) -> Result<(), String> {
    match fault {
        Fault::Pause => {
            stage.fleet.host(stage.victim).signal(Signal::CONT);
            Ok(())
        }
        _ => start_all(stage),
    }
}

/// Starts every broker that does not run, all at once, and waits until they serve.
pub(super) fn start_all(stage: &mut Stage<'_>) -> Result<(), String> {
    let mut started = Vec::new();
    for host in stage.fleet.hosts() {
        if host.process().is_none() {
            host.start(&[]);
            started.push(host.number());
        }
    }
    for number in started {
        stage.fleet.host(number).wait_serving(START_LIMIT)?;
    }
    Ok(())
}
