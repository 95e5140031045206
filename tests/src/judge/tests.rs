//! Whole histories: right ones pass, and what cannot be judged is refused.

use super::script::lines;
use super::*;

#[track_caller]
fn check_refused(script: &str, expected: &str) {
    let refusal = judge(&lines(script)).expect_err("it is refused").to_string();
    assert!(refusal.contains(expected), "{refusal}");
}

#[test]
fn a_right_history_passes() {
    let script = "
        1 send a b
        2 start
        3 subscribe
        1 ack a 0
        3 assigned
        2 poll 0a
        1 ack b 1
        3 poll 0a 1b
        3 commit 2
        4 fetched -1
        1 send c d
        3 committed 2
        2 poll 1b 2c
        4 end 3
        1 unknown d
        1 ack c 2
        4 fetched 2
        1 retired
        9 start
        9 poll 0a 1b 2c
        9 drained 3 0";
    let verdict = judge(&lines(script)).unwrap();
    assert_eq!(verdict.anomalies, []);
    let counts = verdict.counts;
    assert_eq!((counts.sent, counts.acknowledged, counts.unknown), (4, 3, 1));
    assert_eq!((counts.read, counts.commits, counts.looks, counts.drained), (8, 1, 3, 1));
}

#[test]
fn what_may_happen_is_no_anomaly() {
    // What nobody knows of may be there, at the end or in between, or not at all; offsets may be left out; a duplicate's
    // answer may say no offset; a member may read again what it had not committed.
    let script = "
        1 send a b c
        1 unknown b
        1 ack a 0
        1 ack c
        3 subscribe
        3 assigned
        3 poll 0a 1b 5c
        3 commit 2
        3 committed 2
        3 revoked
        4 subscribe
        4 assigned
        4 poll 5c
        9 start
        9 poll 0a 1b 5c
        9 drained 6 0";
    assert_eq!(judge(&lines(script)).unwrap().anomalies, []);
}

#[test]
fn the_worst_lag_is_told() {
    let script = "
        1 send a b
        2 start
        1 ack a 0
        2 poll 0a
        1 ack b 1
        4 end 2
        4 end 2
        2 poll
        9 start
        9 poll 0a 1b
        9 drained 2 0";
    let worst = judge(&lines(script)).unwrap().worst_lag.unwrap();
    // The poll of line 8 began at 75; the record behind the reader's position was known at 50.
    assert_eq!(worst.lag.as_nanos(), 25);
    assert_eq!((worst.process, worst.offset), (2, 0));
}

#[test]
fn a_history_without_acknowledgements_is_refused() {
    check_refused("1 send a\n9 start\n9 drained 0 0", "nothing was acknowledged");
    check_refused("", "nothing was acknowledged");
}

#[test]
fn a_history_that_nobody_read_whole_is_refused() {
    check_refused("1 send a\n1 ack a 0\n2 start\n2 poll 0a", "nobody read every partition");
    // Begun before the last acknowledgement.
    check_refused("1 send a\n9 start\n1 ack a 0\n9 poll 0a\n9 drained 1 0", "nobody read");
    // Without one of the partitions.
    check_refused("1 send a u/b\n1 ack a 0\n9 start\n9 poll 0a\n9 drained 1", "nobody read");
    check_refused("1 send a\n1 ack a 0\n9 start\n9 poll 0a\n9 drained 2 0", "t-0 ends at 1");
}

#[test]
fn a_history_that_contradicts_itself_is_refused() {
    check_refused("1 send a\n1 send a", "is sent a second time");
    check_refused("1 ack a 0", "does not wait for");
    check_refused("1 send a\n2 ack a 0", "does not wait for");
    check_refused("1 send a\n1 ack a 0\n1 unknown a", "does not wait for");
    check_refused("1 retired\n1 send a", "after it has ended");
    let mut turned = lines("1 send a\n1 ack a 0");
    turned[2].ns = 1;
    assert_eq!(judge(&turned), Err(Unsound::Clock { line: 2, process: 1 }));
    let mut unopened = lines("1 send a");
    unopened.remove(0);
    assert_eq!(judge(&unopened), Err(Unsound::Number(1)));
    unopened[0].n = 0;
    assert!(judge(&unopened).unwrap_err().to_string().contains("before it is opened"));
}

#[test]
fn values_of_all_processes_differ() {
    assert_eq!(value(1, 5), (1 << 40) + 5);
    assert_eq!(ledger::tell(value(3, 14)), "3.14");
}
