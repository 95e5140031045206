//! A follower over a log of epochs, one script a test.

use super::*;

/// A log as its epochs: `(epoch, end)`, from offset `start` on.
struct Log {
    start: i64,
    epochs: Vec<(i32, i64)>,
}

impl Log {
    fn end(&self) -> Offset {
        Offset(self.epochs.last().map_or(self.start, |(_, end)| *end))
    }

    fn end_of(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let known = self.epochs.iter().rev().find(|(known, _)| *known <= epoch.0)?;
        Some((LeaderEpoch(known.0), Offset(known.1)))
    }
}

fn follower(log: &Log, high_watermark: i64) -> FollowerReplica {
    let positions = Positions::recovered(Offset(log.start), Offset(high_watermark), log.end());
    FollowerReplica::new(BrokerId(2), LeaderEpoch(9), positions)
}

#[track_caller]
fn check(log: &Log, news: LeaderNews, expected: Result<FollowerStep, &str>) -> FollowerReplica {
    let mut follower = follower(log, log.start);
    let found = follower.on_news(LeaderEpoch(9), log.end(), news, |epoch| log.end_of(epoch));
    assert_eq!(found.map_err(|error| error.to_string()), expected.map_err(str::to_owned));
    follower
}

fn diverging(epoch: i32, end: i64) -> LeaderNews {
    LeaderNews::Diverging { epoch: LeaderEpoch(epoch), end_offset: Offset(end) }
}

#[test]
fn it_cuts_where_the_logs_part() {
    let log = Log { start: 0, epochs: vec![(1, 10), (3, 20), (5, 30)] };
    let to = |end| Ok(FollowerStep::TruncateTo(Offset(end)));
    // The leader has epoch 5, but ends it earlier.
    check(&log, diverging(5, 25), to(25));
    // The leader never had epoch 5; its epoch 3 is longer than ours, or shorter.
    check(&log, diverging(3, 28), to(20));
    check(&log, diverging(3, 15), to(15));
    // The leader has epoch 4, which we never had: its end there is compared next.
    check(&log, diverging(4, 22), to(20));
    // The leader has nothing as old as ours.
    check(&log, diverging(0, 4), to(4));
    let error = "the leader's answer asks for end 30, the log is 0..30";
    check(&log, diverging(5, 30), Err(error));
}

#[test]
fn it_begins_anew_where_the_leader_begins() {
    let log = Log { start: 5, epochs: vec![(1, 10)] };
    let out_of_range = |start| LeaderNews::OutOfRange { log_start: Offset(start) };
    check(&log, out_of_range(40), Ok(FollowerStep::ResetTo(Offset(40))));
    let error = "the leader's answer asks for end 7, the log is 5..10";
    check(&log, out_of_range(7), Err(error));
    let empty = Log { start: 50, epochs: Vec::new() };
    check(&empty, out_of_range(7), Ok(FollowerStep::ResetTo(Offset(7))));
}

/// A follower comes back with records that were never committed, and its leader has deleted what was committed in
/// their place, up to where the follower's log ends. The leader's answer is no agreement then: a log that lies before
/// its leader's start is dropped.
#[test]
fn a_log_before_the_leaders_start_is_not_believed() {
    let log = Log { start: 0, epochs: vec![(1, 14)] };
    let records =
        |start| LeaderNews::Records { high_watermark: Offset(23), log_start: Offset(start) };
    let mut follower = check(&log, records(14), Ok(FollowerStep::ResetTo(Offset(14))));
    assert_eq!(follower.positions().high_watermark, Offset(0));
    assert!(!follower.is_reconciled());
    // It asks from where it asked before, to which the leader may have nothing to say.
    follower.on_begun_anew(Offset(14));
    assert!(follower.is_reconciled());
    assert_eq!(*follower.positions(), Positions::recovered(Offset(14), Offset(14), Offset(14)));
    // Something is left that the leader has too.
    check(&log, records(13), Ok(FollowerStep::Append));
    // Nothing is there to be dropped.
    let empty = Log { start: 14, epochs: Vec::new() };
    check(&empty, records(14), Ok(FollowerStep::Append));
}

/// A broker that led without writing drops that epoch, and cuts nothing, before it takes what its leader sent along with the
/// high watermark. The leader tells that once.
#[test]
fn a_truncation_that_cuts_nothing_keeps_what_the_leader_told() {
    let log = Log { start: 0, epochs: Vec::new() };
    let records = LeaderNews::Records { high_watermark: Offset(43), log_start: Offset(0) };
    let mut follower = check(&log, records, Ok(FollowerStep::Append));
    follower.on_truncated(Offset(0));
    follower.on_appended(Offset(43));
    follower.on_durable(Offset(43));
    assert_eq!(follower.positions().high_watermark, Offset(43));
}

#[test]
fn other_epochs_and_positions_change_nothing() {
    let log = Log { start: 0, epochs: vec![(1, 10)] };
    let mut follower = follower(&log, 0);
    let news = LeaderNews::Records { high_watermark: Offset(10), log_start: Offset(0) };
    let refused = follower.on_news(LeaderEpoch(8), Offset(10), news, |_| None);
    assert!(matches!(refused, Err(NewsRefused::OtherEpoch { .. })));
    let refused = follower.on_news(LeaderEpoch(9), Offset(9), news, |_| None);
    assert!(matches!(refused, Err(NewsRefused::OtherPosition { .. })));
    assert!(!follower.is_reconciled());
    assert_eq!(follower.poll_high_watermark(), None);
}

#[test]
fn the_high_watermark_is_the_leaders_as_far_as_it_is_durable_here() {
    let log = Log { start: 0, epochs: vec![(1, 10)] };
    let mut follower = follower(&log, 4);
    let news = |high_watermark, log_start| LeaderNews::Records {
        high_watermark: Offset(high_watermark),
        log_start: Offset(log_start),
    };
    follower.on_news(LeaderEpoch(9), Offset(10), news(15, 0), |_| None).unwrap();
    assert!(follower.is_reconciled());
    assert_eq!(follower.poll_high_watermark(), Some(Offset(10)));
    follower.on_appended(Offset(20));
    assert_eq!(follower.poll_high_watermark(), None);
    follower.on_durable(Offset(14));
    assert_eq!(follower.poll_high_watermark(), Some(Offset(14)));
    follower.on_durable(Offset(20));
    assert_eq!(follower.poll_high_watermark(), Some(Offset(15)));
    // A new leader that knows less does not turn it back; one that starts later raises it.
    follower.on_news(LeaderEpoch(9), Offset(20), news(3, 0), |_| None).unwrap();
    assert_eq!(follower.poll_high_watermark(), None);
    follower.on_news(LeaderEpoch(9), Offset(20), news(3, 18), |_| None).unwrap();
    assert_eq!(follower.poll_high_watermark(), Some(Offset(18)));
    follower.on_log_start(Offset(18));
    follower.on_truncated(Offset(18));
    assert_eq!(follower.positions().log_end, Offset(18));
    follower.on_reset(Offset(40));
    assert_eq!(follower.positions().log_start, Offset(40));
}
