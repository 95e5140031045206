//! Histories that are wrong in one way each, and close ones that are right.

use crate::judge::anomaly::Kind;
use crate::judge::judge;
use crate::judge::script::lines;

/// What the judge finds in a script, by kind, and how often.
#[track_caller]
fn check(script: &str, expected: &[(Kind, usize)]) {
    let verdict = judge(&lines(script)).expect("it can be judged");
    let found: Vec<_> = verdict.by_kind().into_iter().collect();
    assert_eq!(found, expected, "{verdict}");
}

/// As [`check`], where all was read to the end by process 9: these records.
#[track_caller]
fn check_read(script: &str, whole: &str, expected: &[(Kind, usize)]) {
    let last = whole.split_whitespace().last().unwrap();
    let end = last[..last.len() - 1].parse::<i64>().unwrap() + 1;
    let script = format!("{script}\n9 start\n9 poll {whole}\n9 drained {end} 0");
    check(&script, expected);
}

#[test]
fn lost_writes() {
    // b was acknowledged at 1 and is not there; c stands behind it.
    let script = "1 send a b c\n1 ack a 0\n1 ack b 1\n1 ack c 2";
    check_read(
        script,
        "0a 2c",
        &[(Kind::Lost, 1), (Kind::Unseen, 1), (Kind::Vanished, 1), (Kind::InternalSkip, 1)],
    );
    // Another value stands in its place.
    let script = "1 send a b\n2 send c\n1 ack a 0\n1 ack b 1";
    let expected =
        [(Kind::Lost, 1), (Kind::Unseen, 1), (Kind::Vanished, 1), (Kind::Inconsistent, 1)];
    check_read(script, "0a 1c", &expected);
}

#[test]
fn a_lost_end_is_unseen() {
    // Nothing stands behind b, so that Jepsen's lost write does not see it.
    let script = "1 send a b\n1 ack a 0\n1 ack b 1";
    check_read(script, "0a", &[(Kind::Unseen, 1), (Kind::Vanished, 1)]);
    // Without an offset.
    check_read("1 send a b\n1 ack a 0\n1 ack b", "0a", &[(Kind::Unseen, 1)]);
}

#[test]
fn what_was_read_once_stays() {
    // b was never acknowledged, but somebody was given it.
    let script = "1 send a b\n1 ack a 0\n2 start\n2 poll 0a 1b";
    check_read(script, "0a", &[(Kind::Vanished, 1)]);
    check_read(script, "0a 1b", &[]);
    // It stands elsewhere now.
    let expected = [(Kind::Vanished, 1), (Kind::Duplicate, 1)];
    check_read(script, "0a 2b", &[expected[0], expected[1], (Kind::InternalSkip, 1)]);
}

#[test]
fn duplicates() {
    check_read("1 send a b\n1 ack a 0", "0a 1a 2b", &[(Kind::Duplicate, 1)]);
    check_read("1 send a b\n1 ack a 0\n1 ack b 1", "0a 1b 2b", &[(Kind::Duplicate, 1)]);
}

#[test]
fn phantoms() {
    check_read("1 send a\n1 ack a 0", "0a 1z", &[(Kind::Phantom, 1)]);
    check_read("1 send a\n1 ack a 0", "0a 1?", &[(Kind::Phantom, 1)]);
    // Told once, however often it is read.
    let script = "1 send a\n1 ack a 0\n2 start\n2 poll 0a 1z";
    check_read(script, "0a 1z", &[(Kind::Phantom, 1)]);
    // Of another partition.
    let script = "1 send a u/b\n1 ack a 0\n9 start\n9 poll 0a 1b\n9 drained 2 0";
    check(script, &[(Kind::Phantom, 1)]);
    // Read before it was sent; what is sent after that can only stand behind it.
    let script = "1 send a\n1 ack a 0\n2 start\n2 poll 0a 1b\n1 send b";
    check_read(script, "0a 1b", &[(Kind::Phantom, 1), (Kind::Earlier, 1)]);
}

#[test]
fn aborted_reads() {
    check_read("1 send a b\n1 ack a 0\n1 fail b", "0a 1b", &[(Kind::Aborted, 1)]);
    check_read("1 send a b\n1 ack a 0\n1 fail b", "0a", &[]);
}

#[test]
fn damage_that_clients_find() {
    check_read("1 send a\n1 ack a 0\n2 start\n2 corrupt", "0a", &[(Kind::Corrupt, 1)]);
}

#[test]
fn inconsistent_offsets() {
    // Two acknowledgements of one offset.
    let script = "1 send a\n2 send b\n1 ack a 0\n2 ack b 0";
    let expected =
        [(Kind::Lost, 1), (Kind::Unseen, 1), (Kind::Vanished, 1), (Kind::Inconsistent, 1)];
    check_read(script, "0a", &expected);
    // Two readers who were given different values.
    let script = "1 send a b\n2 start\n2 poll 0b\n1 ack a 0";
    check_read(script, "0a", &[(Kind::Vanished, 1), (Kind::Inconsistent, 1)]);
}

#[test]
fn polls_that_skip() {
    let sent = "1 send a b c\n1 ack a 0\n1 ack b 1\n1 ack c 2\n2 start";
    check_read(&format!("{sent}\n2 poll 0a 2c"), "0a 1b 2c", &[(Kind::InternalSkip, 1)]);
    check_read(&format!("{sent}\n2 poll 0a\n2 poll 2c"), "0a 1b 2c", &[(Kind::Skip, 1)]);
    // Offsets that nobody ever saw a record at are passed over rightly.
    let script = "1 send a c\n1 ack a 0\n1 ack c 2\n2 start\n2 poll 0a 2c";
    check_read(script, "0a 2c", &[]);
}

#[test]
fn polls_that_go_back() {
    let sent = "1 send a b\n1 ack a 0\n1 ack b 1\n2 start";
    check_read(&format!("{sent}\n2 poll 0a 1b 0a"), "0a 1b", &[(Kind::InternalBackwards, 1)]);
    check_read(&format!("{sent}\n2 poll 0a 1b\n2 poll 1b"), "0a 1b", &[(Kind::Backwards, 1)]);
    // Who begins anew may read again; another process has a place of its own.
    check_read(&format!("{sent}\n2 poll 0a 1b\n2 start\n2 poll 0a"), "0a 1b", &[]);
    check_read(&format!("{sent}\n2 poll 0a 1b\n3 start\n3 poll 0a"), "0a 1b", &[]);
}

#[test]
fn members_go_on_where_they_were_until_the_group_says_otherwise() {
    let sent = "1 send a b c\n1 ack a 0\n1 ack b 1\n1 ack c 2\n2 subscribe\n2 assigned\n2 poll 0a";
    check_read(&format!("{sent}\n2 poll 2c"), "0a 1b 2c", &[(Kind::Skip, 1)]);
    check_read(&format!("{sent}\n2 revoked\n2 assigned\n2 poll 0a"), "0a 1b 2c", &[]);
}

#[test]
fn sends_in_another_order() {
    let script = "1 send a b\n1 ack b 0\n1 ack a 1";
    check_read(script, "0b 1a", &[(Kind::Reordered, 1)]);
    // Of two producers, nobody knows which was first.
    check_read("1 send a\n2 send b\n2 ack b 0\n1 ack a 1", "0b 1a", &[]);
    // What failed between them is no matter.
    check_read("1 send a b c\n1 fail b\n1 ack a 0\n1 ack c 1", "0a 1c", &[]);
}

#[test]
fn what_is_sent_later_stands_later() {
    let script = "1 send a\n1 ack a 1\n2 send b\n2 ack b 0";
    check_read(script, "0b 1a", &[(Kind::Earlier, 1)]);
    // Known by a poll.
    let script = "1 send a\n2 start\n2 poll 1a\n3 send b\n3 ack b 0";
    check_read(script, "0b 1a", &[(Kind::Earlier, 1)]);
}

/// Three records that process 2 of the group has read.
const READ: &str =
    "1 send a b c\n1 ack a 0\n1 ack b 1\n1 ack c 2\n2 subscribe\n2 assigned\n2 poll 0a 1b 2c";

#[test]
fn commits_that_go_back() {
    let script = format!("{READ}\n2 commit 3\n2 committed 3\n4 fetched 2");
    check_read(&script, "0a 1b 2c", &[(Kind::CommitBack, 1)]);
    let script = format!("{READ}\n2 commit 3\n2 committed 3\n4 fetched -1");
    check_read(&script, "0a 1b 2c", &[(Kind::CommitBack, 1)]);
    // Without an acknowledgement it may have been done or not, but what was found once stays.
    let script = format!("{READ}\n2 commit 2\n2 committed 2\n2 commit 3\n4 fetched 2\n4 fetched 3");
    check_read(&script, "0a 1b 2c", &[]);
    let script = format!("{READ}\n2 commit 3\n4 fetched 3\n4 fetched -1");
    check_read(&script, "0a 1b 2c", &[(Kind::CommitBack, 1)]);
    // The successor begins anew, although something was committed.
    let script =
        format!("{READ}\n2 commit 3\n2 committed 3\n4 subscribe\n4 assigned\n4 poll 0a 1b 2c");
    check_read(&script, "0a 1b 2c", &[(Kind::CommitBack, 1)]);
    // It asked before that was acknowledged.
    let script =
        format!("{READ}\n2 commit 3\n4 subscribe\n2 committed 3\n4 assigned\n4 poll 0a 1b 2c");
    check_read(&script, "0a 1b 2c", &[]);
}

#[test]
fn commits_that_nobody_asked_for() {
    let script = format!("{READ}\n2 commit 2\n2 committed 2\n4 fetched 3");
    check_read(&script, "0a 1b 2c", &[(Kind::CommitInvented, 1)]);
    // A successor that passes over what was not committed.
    let script = format!("{READ}\n2 commit 1\n2 committed 1\n4 subscribe\n4 assigned\n4 poll 2c");
    check_read(&script, "0a 1b 2c", &[(Kind::CommitInvented, 1)]);
}

#[test]
fn records_that_a_group_never_had() {
    let script = "1 send a b\n1 ack a 0\n1 ack b 1\n2 subscribe\n2 assigned\n2 poll 0a\n2 commit 2\n2 committed 2";
    check_read(script, "0a 1b", &[(Kind::Undelivered, 1)]);
}

#[test]
fn ends_that_go_back() {
    let sent = "1 send a b\n1 ack a 0\n1 ack b 1";
    check_read(&format!("{sent}\n4 end 2\n5 end 1"), "0a 1b", &[(Kind::EndBack, 1)]);
    // Before what was acknowledged.
    check_read(&format!("{sent}\n4 end 1"), "0a 1b", &[(Kind::EndBack, 1)]);
    check_read(&format!("{sent}\n4 end 2\n5 end 2\n4 end 3"), "0a 1b", &[]);
}
