//! Whether a history can be judged at all. One that is whole as a file may still be no history: its clients forgot to say
//! what they sent, their clocks went back, or nobody read everything at the end. Such a history gets no verdict.

use std::collections::{BTreeMap, BTreeSet};

use crate::judge::event::{Event, Line};
use crate::judge::ledger::tell;

/// Why a history is not judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// Lines are not numbered from 0 up.
    #[error("line {0} is not numbered as it stands")]
    Number(u64),
    /// A process did something before it was opened, or was opened twice, or after its end.
    #[error("line {line}: process {process} {what}")]
    Process {
        /// The number of the line.
        line: u64,
        /// Who.
        process: u32,
        /// What is wrong.
        what: &'static str,
    },
    /// The clock of a process went back.
    #[error("line {line}: the clock of process {process} went back")]
    Clock {
        /// The number of the line.
        line: u64,
        /// Whose.
        process: u32,
    },
    /// A value was sent twice: nobody could tell which one was read.
    #[error("line {line}: {} is sent a second time", tell(*value))]
    SentTwice {
        /// The number of the line.
        line: u64,
        /// Which.
        value: u64,
    },
    /// A value that was not sent, or not by this process, or that has an answer already, is answered.
    #[error("line {line}: an answer for {}, which process {process} does not wait for", tell(*value))]
    Answer {
        /// The number of the line.
        line: u64,
        /// Who.
        process: u32,
        /// Which.
        value: u64,
    },
    /// Nothing was acknowledged, so that nothing can be lost.
    #[error("nothing was acknowledged: there is nothing to judge")]
    NothingAcknowledged,
    /// Nobody read everything when all was over.
    #[error(
        "nobody read every partition to its end after the last acknowledgement: what is lost cannot be told"
    )]
    NotDrained,
    /// The last reading left something out.
    #[error("the last reading of {at} ends at {found}, its leader said {end}")]
    DrainedShort {
        /// Of which partition.
        at: String,
        /// Where it ends.
        found: i64,
        /// Where it should.
        end: i64,
    },
}

pub(in crate::judge) fn check(lines: &[Line]) -> Result<(), Unsound> {
    check_processes(lines)?;
    check_answers(lines)?;
    check_drained(lines)
}

fn check_processes(lines: &[Line]) -> Result<(), Unsound> {
    let mut last: BTreeMap<u32, u64> = BTreeMap::new();
    let mut retired: BTreeSet<u32> = BTreeSet::new();
    for (due, line) in (0..).zip(lines) {
        let (n, process) = (line.n, line.process);
        if n != due {
            return Err(Unsound::Number(n));
        }
        let wrong = |what| Err(Unsound::Process { line: n, process, what });
        match (&line.event, last.insert(process, line.ns)) {
            (Event::Open { .. }, Some(_)) => return wrong("is opened twice"),
            (Event::Open { .. }, None) => {}
            (_, None) => return wrong("does something before it is opened"),
            (_, Some(before)) if line.ns < before => {
                return Err(Unsound::Clock { line: n, process });
            }
            (_, Some(_)) => {}
        }
        if retired.contains(&process) {
            return wrong("does something after it has ended");
        }
        if line.event == Event::Retired {
            retired.insert(process);
        }
    }
    Ok(())
}

fn check_answers(lines: &[Line]) -> Result<(), Unsound> {
    let mut waiting: BTreeMap<u64, u32> = BTreeMap::new();
    let mut sent: BTreeSet<u64> = BTreeSet::new();
    for line in lines {
        let (n, process) = (line.n, line.process);
        match line.event {
            Event::Send { value, .. } => {
                if !sent.insert(value) {
                    return Err(Unsound::SentTwice { line: n, value });
                }
                waiting.insert(value, process);
            }
            Event::Acked { value, .. }
            | Event::Failed { value, .. }
            | Event::Unknown { value, .. }
                if waiting.remove(&value) != Some(process) =>
            {
                return Err(Unsound::Answer { line: n, process, value });
            }
            _ => {}
        }
    }
    Ok(())
}

/// The last reading must be behind all acknowledgements, and have got as far as it says.
fn check_drained(lines: &[Line]) -> Result<(), Unsound> {
    let is_ack = |line: &&Line| matches!(line.event, Event::Acked { .. });
    let Some(last_ack) = lines.iter().filter(is_ack).map(|line| line.ns).max() else {
        return Err(Unsound::NothingAcknowledged);
    };
    let last = lines.iter().rev().find_map(|line| match &line.event {
        Event::Drained { ends } => Some((line, ends)),
        _ => None,
    });
    let Some((drained, ends)) = last else { return Err(Unsound::NotDrained) };
    let of_reader = lines.iter().filter(|line| line.process == drained.process);
    let begun = of_reader.clone().find(|line| matches!(line.event, Event::AssignFromStart { .. }));
    let Some(Line { event: Event::AssignFromStart { partitions }, ns: begun, .. }) = begun else {
        return Err(Unsound::NotDrained);
    };
    let sent_to = lines.iter().filter_map(|line| match &line.event {
        Event::Send { at, .. } => Some(at),
        _ => None,
    });
    let is_told = |at| partitions.contains(at) && ends.iter().any(|(told, _)| told == at);
    if *begun < last_ack || !sent_to.clone().all(is_told) {
        return Err(Unsound::NotDrained);
    }
    let mut read_to = BTreeMap::new();
    for line in of_reader.filter(|line| line.n < drained.n) {
        let Event::Poll { found, .. } = &line.event else { continue };
        for found in found {
            read_to.extend(found.records.last().map(|(offset, _)| (&found.at, offset + 1)));
        }
    }
    for (at, end) in ends {
        let found = read_to.get(at).copied().unwrap_or(0);
        if found < *end {
            return Err(Unsound::DrainedShort { at: at.to_string(), found, end: *end });
        }
    }
    Ok(())
}
