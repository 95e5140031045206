//! Scripts over one and three replicas, and the invariants under random steps.

use proptest::prelude::*;

use super::*;
use crate::assignment::AckRule;

fn ids(ids: &[i32]) -> BTreeSet<BrokerId> {
    ids.iter().map(|id| BrokerId(*id)).collect()
}

fn assignment(replicas: &[i32], isr: &[i32], partition_epoch: i32, rule: AckRule) -> Assignment {
    Assignment {
        leader: Some(BrokerId(1)),
        leader_epoch: LeaderEpoch(4),
        partition_epoch,
        replicas: replicas.iter().map(|id| (BrokerId(*id), None)).collect(),
        isr: ids(isr),
        rule,
    }
}

fn leader(replicas: &[i32], isr: &[i32], durability: Durability) -> LeaderReplica {
    let assignment = assignment(replicas, isr, 10, AckRule::default());
    let options = LeaderOptions { broker: BrokerId(1), assignment, durability, lag_ms_max: 100 };
    LeaderReplica::new(options, Positions::recovered(Offset(0), Offset(0), Offset(0)), 0)
}

/// One input a word: `a5` appended up to 5, `d5` durable up to 5, `f2:5/3` broker 2 (in broker epoch
/// 0; `f2e1` in epoch 1) fetches with log end 5 of which 3 durable (`f2:5/3^2`: and log start 2), `t9` time 9, `c1,2@11` ISR committed at epoch 11, `r` refused, `w` it withdraws.
fn step(leader: &mut LeaderReplica, input: &str, now: &mut i64) -> Result<(), String> {
    let number = |text: &str| text.parse::<i64>().unwrap();
    let (kind, rest) = input.split_at(1);
    match kind {
        "a" => leader.on_appended(Offset(number(rest))),
        "d" => leader.on_durable(Offset(number(rest))),
        "t" => {
            *now = number(rest);
            leader.on_tick(*now);
        }
        "f" => {
            let (follower, ends) = rest.split_once(':').unwrap();
            let (ends, log_start) = ends.split_once('^').unwrap_or((ends, "0"));
            let (log_end, durable_end) = ends.split_once('/').unwrap();
            let (follower, broker_epoch) = follower.split_once('e').unwrap_or((follower, "0"));
            let fetch = FollowerFetch {
                follower: BrokerId(follower.parse().unwrap()),
                broker_epoch: number(broker_epoch),
                log_end: Offset(number(log_end)),
                durable_end: Offset(number(durable_end)),
                log_start: Offset(number(log_start)),
            };
            leader.on_fetch(fetch, *now).map_err(|error| error.to_string())?;
        }
        "c" => {
            let (isr, epoch) = rest.split_once('@').unwrap();
            let isr = isr.split(',').map(|id| BrokerId(id.parse().unwrap())).collect();
            let epoch = epoch.parse().unwrap();
            leader.on_isr_committed(isr, epoch).map_err(|error| error.to_string())?;
        }
        "r" => leader.on_isr_refused(*now),
        "w" => leader.withdraw(*now),
        other => panic!("unknown input {other}"),
    }
    Ok(())
}

fn drain(leader: &mut LeaderReplica) -> String {
    let mut out = Vec::new();
    while let Some(effect) = leader.poll_effect() {
        out.push(match effect {
            Effect::AdvanceHighWatermark(offset) => format!("hw={offset}"),
            Effect::ProposeIsr(proposal) => {
                let isr: Vec<_> = proposal.isr.keys().map(ToString::to_string).collect();
                format!("isr={}@{}", isr.join(","), proposal.partition_epoch)
            }
        });
    }
    out.join(" ")
}

/// Each line is `input -> effects`.
#[track_caller]
fn check(mut leader: LeaderReplica, script: &str) {
    let mut now = 0;
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (input, expected) = line.split_once("->").unwrap();
        let found = match step(&mut leader, input.trim(), &mut now) {
            Ok(()) => drain(&mut leader),
            Err(error) => format!("refused: {error} {}", drain(&mut leader)).trim().to_owned(),
        };
        assert_eq!(found, expected.trim(), "after {input}");
    }
}

#[test]
fn alone_the_high_watermark_follows_what_is_durable() {
    check(
        leader(&[1], &[1], Durability::Disk),
        "a5 ->
         d3 -> hw=3
         a9 ->
         d5 -> hw=5
         d9 -> hw=9",
    );
}

/// A deletion is done once every replica that may be in sync has moved its log's start, in this run of its process.
#[test]
fn a_log_start_is_held_by_all_that_may_be_in_sync() {
    let mut leader = leader(&[1, 2, 3], &[1, 2], Durability::Disk);
    let mut now = 0;
    let mut after = |inputs: &str| {
        for input in inputs.split_whitespace() {
            step(&mut leader, input, &mut now).unwrap();
        }
        leader.is_log_start_held(Offset(4))
    };
    assert!(!after("a5 d5 f2:5/5"), "its own is lower");
    let own = |leader: &mut LeaderReplica| leader.on_log_start(Offset(4));
    own(&mut leader);
    let mut after = |inputs: &str| {
        for input in inputs.split_whitespace() {
            step(&mut leader, input, &mut now).unwrap();
        }
        leader.is_log_start_held(Offset(4))
    };
    assert!(!after("f2:5/5^3"));
    assert!(after("f2:5/5^4"), "3 is out of sync");
    assert!(after("f2:5/5^3"), "that was said earlier");
    assert!(!after("c1,2,3@11 f3:5/5^0"), "3 is in sync from here on");
    assert!(after("f3:5/5^4"));
    assert!(!after("f2e1:5/5^0"), "another run, with another disk perhaps");
}

/// Who left fewer than commit anything may be elected, and begins where it did (KIP-966).
#[test]
fn fewer_than_commit_hold_no_log_start() {
    let rule = AckRule { replicas_min: 2, ..AckRule::default() };
    let assignment = assignment(&[1, 2, 3], &[1], 10, rule);
    let durability = Durability::Disk;
    let options = LeaderOptions { broker: BrokerId(1), assignment, durability, lag_ms_max: 100 };
    let mut leader =
        LeaderReplica::new(options, Positions::recovered(Offset(0), Offset(5), Offset(5)), 0);
    leader.on_log_start(Offset(4));
    assert!(!leader.is_log_start_held(Offset(4)));
    for input in ["f2:5/5^4", "c1,2@11"] {
        step(&mut leader, input, &mut 0).unwrap();
    }
    assert!(leader.is_log_start_held(Offset(4)));
}

/// Records that were deleted do not come back with who joins.
#[test]
fn who_has_not_deleted_does_not_join() {
    let mut leader = leader(&[1, 2], &[1], Durability::Disk);
    for input in ["a5", "d5"] {
        step(&mut leader, input, &mut 0).unwrap();
    }
    leader.on_log_start(Offset(4));
    check(
        leader,
        "t1 -> hw=5
         f2:5/5^3 ->
         f2:5/5^4 -> isr=1,2@10",
    );
}

/// A leader whose log is damaged gives way as soon as somebody is in sync, and asks until it is heard.
#[test]
fn a_leader_withdraws_in_favour_of_who_is_in_sync() {
    check(
        leader(&[1, 2, 3], &[1], Durability::Disk),
        "w ->
         a5 ->
         d5 -> hw=5
         f2:5/5 -> isr=1,2@10
         t20 ->
         c1,2@11 ->
         t40 -> isr=2@11
         t60 ->
         r ->
         t70 ->
         t300 -> isr=2@11",
    );
}

#[test]
fn with_write_caching_it_follows_what_is_appended() {
    check(
        leader(&[1], &[1], Durability::PageCache),
        "a5 -> hw=5
         d3 ->
         a9 -> hw=9
         d9 ->",
    );
}

#[test]
fn of_three_it_is_what_all_in_sync_have_durable() {
    check(
        leader(&[1, 2, 3], &[1, 2, 3], Durability::Disk),
        "a5 ->
         d5 ->
         f2:5/0 ->
         f3:5/5 ->
         f2:5/4 -> hw=4
         f2:5/5 -> hw=5",
    );
}

/// What broke: a broker that died while nothing was written looked caught up for ever, was proposed
/// first at every tick, and was refused; the live one behind it never had its turn, and with too few
/// in sync nothing could be written that would have shown the dead one to lag.
#[test]
fn one_who_is_refused_keeps_nobody_else_out() {
    check(
        leader(&[1, 2, 3], &[1], Durability::Disk),
        "f2:0/0 -> isr=1,2@10
         f3:0/0 ->
         r ->
         t300 -> isr=1,3@10
         r ->
         t600 -> isr=1,2@10
         r ->
         t900 -> isr=1,3@10
         c1,3@11 ->
         t950 -> isr=1,2,3@11",
    );
}

#[test]
fn a_laggard_leaves_only_when_the_controller_says_so() {
    check(
        leader(&[1, 2, 3], &[1, 2, 3], Durability::Disk),
        "a5 ->
         d5 ->
         f2:5/5 ->
         t50 ->
         f2:5/5 ->
         t150 -> isr=1,2@10
         a6 ->
         d6 ->
         f2:6/6 ->
         c1,2@11 -> hw=6",
    );
}

#[test]
fn a_follower_holds_the_mark_from_the_moment_it_is_proposed() {
    check(
        leader(&[1, 2], &[1], Durability::Disk),
        "a5 ->
         d5 -> hw=5
         f2:4/4 ->
         f2:5/5 -> isr=1,2@10
         a8 ->
         d8 ->
         f2:8/7 -> hw=7
         r -> hw=8",
    );
}

/// A follower left a slow connection for another one, and what it had said on the first came after what
/// it said on the second: it looked as far behind as it had been, was not told again, since the follower
/// knew that it had said so, and stayed out of the ISR until the next record.
#[test]
fn progress_that_comes_late_changes_nothing() {
    check(
        leader(&[1, 2], &[1], Durability::Disk),
        "a5 ->
         d5 -> hw=5
         f2:3/3 ->
         f2:5/5 -> isr=1,2@10
         f2:3/3 ->
         c1,2@11 ->
         a6 ->
         d6 ->
         f2:6/6 -> hw=6
         f2:3/3 ->
         f2:6/5 ->
         f2:6/6 ->",
    );
}

#[test]
fn a_member_that_lost_what_was_committed_is_refused() {
    check(
        leader(&[1, 2], &[1, 2], Durability::Disk),
        "a5 ->
         d5 ->
         f2:5/5 -> hw=5
         f2e1:5/3 -> refused: the follower is in sync, but has 3 where the high watermark is 5 isr=1@10
         f3:1/1 -> refused: broker 3 has no replica of this partition
         f2:9/9 -> refused: the follower's log ends at 9, of which 9 durable; the leader's at 5",
    );
}

#[test]
fn a_refused_proposal_is_made_again_after_a_while() {
    check(
        leader(&[1, 2], &[1], Durability::Disk),
        "a5 ->
         d5 -> hw=5
         f2:5/5 -> isr=1,2@10
         r ->
         f2:5/5 ->
         t199 ->
         t200 -> isr=1,2@10
         c1,2@11 ->
         c1@11 -> refused: the ISR of partition epoch 11 is not newer than that of 11",
    );
}

#[test]
fn an_earlier_run_of_a_follower_is_not_heard() {
    check(
        leader(&[1, 2], &[1, 2], Durability::Disk),
        "a5 ->
         d5 ->
         f2e7:3/3 -> hw=3
         f2e6:5/5 -> refused: broker epoch 6 is older than 7
         f2e8:5/4 -> hw=4",
    );
}

#[test]
fn nobody_joins_on_records_before_the_epoch() {
    let options = LeaderOptions {
        broker: BrokerId(1),
        assignment: assignment(&[1, 2, 3], &[1, 3], 10, AckRule::default()),
        durability: Durability::Disk,
        lag_ms_max: 100,
    };
    // Up to 4 was known to be committed; up to 8 an earlier leader wrote.
    let leader =
        LeaderReplica::new(options, Positions::recovered(Offset(0), Offset(4), Offset(8)), 0);
    assert!(!leader.is_high_watermark_current());
    check(
        leader,
        "f2:6/6 ->
         f3:6/6 -> hw=6
         f2:7/7 ->
         f2:8/8 -> isr=1,2,3@10
         f3:8/8 -> hw=8",
    );
}

#[test]
fn min_in_sync_counts_what_is_certain() {
    let mut leader = leader(&[1, 2], &[1, 2], Durability::Disk);
    let rule = AckRule { replicas_min: 2, domains_min: 1 };
    leader.on_assignment(assignment(&[1, 2], &[1, 2], 10, rule), 0);
    assert!(!leader.is_under_min_in_sync());
    leader.on_appended(Offset(1));
    leader.on_tick(1_000);
    assert!(leader.is_under_min_in_sync());
}

/// KIP-966: who leaves an ISR that is too small stays eligible, so nothing may be committed
/// without it.
#[test]
fn nothing_is_committed_below_min_in_sync() {
    let mut leader = leader(&[1, 2], &[1, 2], Durability::Disk);
    let rule = AckRule { replicas_min: 2, domains_min: 1 };
    leader.on_assignment(assignment(&[1, 2], &[1], 11, rule), 0);
    leader.on_appended(Offset(3));
    leader.on_durable(Offset(3));
    assert_eq!(drain(&mut leader), "");
    leader.on_assignment(assignment(&[1], &[1], 12, rule), 0);
    assert_eq!(drain(&mut leader), "hw=3");
}

#[test]
fn a_reassigned_follower_is_forgotten() {
    let mut leader = leader(&[1, 2], &[1, 2], Durability::Disk);
    leader.on_assignment(assignment(&[1, 3], &[1], 11, AckRule::default()), 0);
    check(
        leader,
        "a2 ->
         d2 -> hw=2
         f2:2/2 -> refused: broker 2 has no replica of this partition
         f3:2/2 -> isr=1,3@11",
    );
}

#[derive(Clone, Debug)]
enum Step {
    Append(i64),
    Durable(i64),
    Fetch { follower: i32, log_back: i64, durable_back: i64 },
    Tick(i64),
    Commit,
    Refuse,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1..5_i64).prop_map(Step::Append),
        (0..4_i64).prop_map(Step::Durable),
        (2..4_i32, 0..4_i64, 0..3_i64).prop_map(|(follower, log_back, durable_back)| {
            Step::Fetch { follower, log_back, durable_back }
        }),
        (1..80_i64).prop_map(Step::Tick),
        Just(Step::Commit),
        Just(Step::Refuse),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    /// The high watermark never falls, is durable here, and is durable on every committed member
    /// that has spoken in this epoch.
    #[test]
    fn the_high_watermark_is_durable_on_every_member(
        steps in steps(),
        set_of_three in any::<bool>(),
        is_cached in any::<bool>(),
    ) {
        let durability = if is_cached { Durability::PageCache } else { Durability::Disk };
        let replicas: &[i32] = if set_of_three { &[1, 2, 3] } else { &[1] };
        let mut leader = leader(replicas, replicas, durability);
        let mut now = 0;
        let mut partition_epoch = 10;
        let mut proposal = None;
        let mut high_watermark = Offset(0);
        for step in steps {
            let log_end = leader.positions().log_end;
            match step {
                Step::Append(count) => leader.on_appended(log_end + count),
                Step::Durable(back) => {
                    let end = Offset(log_end.0 - back).max(leader.synced_end);
                    leader.on_durable(end);
                }
                Step::Fetch { follower, log_back, durable_back } => {
                    let follower_end = Offset((log_end.0 - log_back).max(0));
                    let durable_end = Offset((follower_end.0 - durable_back).max(0));
                    let follower = BrokerId(follower);
                    let fetch = FollowerFetch {
                        follower,
                        broker_epoch: 0,
                        log_end: follower_end,
                        durable_end,
                        log_start: Offset(0),
                    };
                    let _ = leader.on_fetch(fetch, now);
                }
                Step::Tick(by) => {
                    now += by;
                    leader.on_tick(now);
                }
                Step::Commit => {
                    if let Some(IsrWish { isr, .. }) = proposal.take() {
                        let isr = isr.into_keys().collect();
                        partition_epoch += 1;
                        leader.on_isr_committed(isr, partition_epoch).unwrap();
                    }
                }
                Step::Refuse => {
                    if proposal.take().is_some() {
                        leader.on_isr_refused(now);
                    }
                }
            }
            while let Some(effect) = leader.poll_effect() {
                match effect {
                    Effect::AdvanceHighWatermark(offset) => {
                        prop_assert!(offset > high_watermark);
                        high_watermark = offset;
                        for member in leader.isr().maximal() {
                            let Some(progress) = leader.progress(member) else { continue };
                            prop_assert!(progress.durable_end().is_some_and(|end| end >= offset));
                        }
                    }
                    Effect::ProposeIsr(next) => {
                        prop_assert!(proposal.is_none());
                        prop_assert!(next.isr.contains_key(&BrokerId(1)));
                        proposal = Some(next);
                    }
                }
            }
            prop_assert_eq!(leader.positions().high_watermark, high_watermark);
            prop_assert!(is_cached || high_watermark <= leader.synced_end);
        }
    }
}
