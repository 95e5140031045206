//! Histories written as text, for tests: a line says who did what, as time goes on by 10 ns a line.
//!
//! ```text
//! 1 send a b      1 ack a 0        1 fail a        1 unknown a
//! 2 start         2 poll 0a 1b     2 drained 2     2 retired
//! 3 subscribe     3 assigned       3 revoked       3 commit 2      3 committed 2      3 fetched 2     3 end 2
//! ```
//! All is about partition `t-0` and group `g`; values are letters, `?` is what no client wrote. A word `u/` before a value
//! sends it to, or reads it from, `u-0`.

use std::collections::BTreeSet;

use crate::judge::event::{At, Event, Found, Line, Seen};

/// The lines that a script tells. Processes are opened by their first line.
pub(in crate::judge) fn lines(script: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut opened = BTreeSet::new();
    let mut ns = 0;
    for text in script.lines().map(str::trim).filter(|text| !text.is_empty()) {
        ns += 10;
        let mut words = text.split_whitespace();
        let process: u32 = words.next().unwrap().parse().unwrap();
        let what = words.next().unwrap();
        let rest: Vec<&str> = words.collect();
        let mut push = |event| lines.push(Line { n: lines.len() as u64, ns, process, event });
        if opened.insert(process) {
            push(Event::Open { client: "script".to_owned() });
        }
        if what == "send" {
            for word in &rest {
                let (topic, value) = topic_of(word);
                push(Event::Send { at: At::new(topic, 0), value: letter(value).unwrap() });
            }
        } else {
            push(event(what, &rest, ns));
        }
    }
    lines
}

fn event(what: &str, rest: &[&str], ns: u64) -> Event {
    let (at, group, error) = (At::new("t", 0), "g".to_owned(), "as scripted".to_owned());
    let value = || letter(rest[0]).unwrap();
    let number = |index: usize| rest[index].parse::<i64>().unwrap();
    // What takes time began a little after the line before.
    let since_ns = ns - 5;
    match what {
        "ack" => Event::Acked { value: value(), offset: rest.get(1).map(|_| number(1)) },
        "fail" => Event::Failed { value: value(), error },
        "unknown" => Event::Unknown { value: value(), error },
        "start" => Event::AssignFromStart { partitions: vec![at, At::new("u", 0)] },
        "poll" => {
            Event::Poll { since_ns, found: rest.iter().copied().map(found).fold(vec![], join) }
        }
        "corrupt" => Event::Corrupt { at: Some(at), error },
        "drained" => {
            let end = |(topic, end): (&str, usize)| (At::new(topic, 0), number(end));
            Event::Drained { ends: ["t", "u"].into_iter().zip(0..rest.len()).map(end).collect() }
        }
        "subscribe" => Event::Subscribe { group },
        "assigned" => Event::Assigned { partitions: vec![at] },
        "revoked" => Event::Revoked { partitions: vec![at] },
        "commit" => Event::CommitSent { group, at, offset: number(0) },
        "committed" => Event::CommitAcked { group, at, offset: number(0) },
        "fetched" => Event::CommitFetched { group, at, offset: number(0), since_ns },
        "end" => Event::EndFetched { at, end: number(0), since_ns },
        "retired" => Event::Retired,
        _ => panic!("the word {what}"),
    }
}

/// What `u/12a` says was read.
fn found(word: &str) -> Found {
    let (topic, record) = topic_of(word);
    let (offset, value) = record.split_at(record.len() - 1);
    let seen: Seen = (offset.parse().unwrap(), letter(value));
    Found { at: At::new(topic, 0), records: vec![seen] }
}

/// Neighbours of one partition belong together.
fn join(mut all: Vec<Found>, next: Found) -> Vec<Found> {
    match all.last_mut() {
        Some(last) if last.at == next.at => last.records.extend(next.records),
        _ => all.push(next),
    }
    all
}

fn topic_of(word: &str) -> (&str, &str) {
    word.split_once('/').unwrap_or(("t", word))
}

fn letter(word: &str) -> Option<u64> {
    word.chars().next().filter(|letter| *letter != '?').map(u64::from)
}
