//! Links that carry nothing, or less, or later; and connections that end.

use std::time::Duration;

use rand::RngExt;

use crate::bed::fault::Fault;
use crate::bed::faults::Stage;
use crate::bed::network::{CLIENTS, GUESTS};
use crate::clock::{now, pause};

pub(super) fn strike(fault: Fault, stage: &mut Stage<'_>, hold_ms: u64) -> Result<String, String> {
    let victim = stage.victim;
    match fault {
        Fault::CutOff | Fault::CutPeers => {
            for other in stage.others(fault == Fault::CutOff) {
                cut_both_ways(stage, victim, other);
            }
            Ok(format!("broker {victim}"))
        }
        Fault::CutClients => {
            for other in [CLIENTS, GUESTS] {
                cut_both_ways(stage, victim, other);
            }
            Ok(format!("broker {victim}"))
        }
        Fault::OneWay => {
            let (is_deaf, with_clients) = (stage.random.random(), stage.random.random());
            for other in stage.others(with_clients) {
                let (from, to) = if is_deaf { (other, victim) } else { (victim, other) };
                stage.network.cut(from, to);
            }
            let what = if is_deaf { "hears" } else { "reaches" };
            let whom = if with_clients { "nobody" } else { "no other broker" };
            Ok(format!("broker {victim} {what} {whom}"))
        }
        Fault::CutPair => {
            let others = stage.others(false);
            let other = others[stage.random.random_range(0..others.len())];
            cut_both_ways(stage, victim, other);
            Ok(format!("brokers {victim} and {other}"))
        }
        Fault::Reset => {
            let until = now() + Duration::from_millis(hold_ms);
            let mut times = 0;
            while now() < until {
                stage.network.reset_connections(victim)?;
                times += 1;
                pause(Duration::from_millis(stage.random.random_range(20..400)));
            }
            Ok(format!("broker {victim}, {times} times"))
        }
        Fault::SlowLink => {
            let rate = ["128kbit", "256kbit", "1mbit"][stage.random.random_range(0..3)];
            stage.network.slow_down(victim, rate, 400)?;
            Ok(format!("broker {victim} sends {rate}/s"))
        }
        Fault::LateLink => {
            let delay_ms = stage.random.random_range(20..300);
            stage.network.delay(victim, delay_ms)?;
            Ok(format!("broker {victim} by {delay_ms} ms"))
        }
        Fault::LossyLink => {
            let percent = stage.random.random_range(5..35);
            stage.network.lose(victim, percent)?;
            Ok(format!("broker {victim} loses {percent} % of what is sent to it"))
        }
        _ => unreachable!("{fault:?} is no fault of links"),
    }
}

fn cut_both_ways(stage: &Stage<'_>, one: u8, other: u8) {
    stage.network.cut(one, other);
    stage.network.cut(other, one);
}
