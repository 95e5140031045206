//! A few simulated clusters; `just simulate` runs thousands.

use varve_tests::sim::fleet::FleetOptions;
use varve_tests::sim::{Length, RunOptions, fleet, simulate};

#[test]
fn seeds_hold() {
    let options = FleetOptions {
        seeds: 0..24,
        length: Length::Short,
        brokers: None,
        threads: 2,
        failures_max: 1,
    };
    let fleet = fleet::run(&options, &fleet::unobserved());
    if let Some((seed, outcome)) = fleet.failed.first() {
        let replay = format!("just simulate 1 --seed {seed} --trace");
        panic!("seed {seed}: {:?}; replay: {replay}", outcome.violation);
    }
    assert_eq!(fleet.seeds, 24);
    assert!(fleet.acknowledged > 0);
}

/// A replica was taken off a partition and put on it again before its broker had heard of either, and was
/// elected with an empty log (the rule's own test is
/// `a_replica_that_is_taken_off_ends_the_leaders_epoch`).
#[test]
fn a_replica_is_taken_off_and_put_on_again() {
    check(&[842]);
}

/// A controller that was handing over refused a change, was none for a moment, and its own broker
/// asked it again without end (`a_refused_change_leaves_the_controller_in_office`).
#[test]
fn a_controller_that_hands_over_is_asked_once() {
    check(&[498, 790]);
}

/// A power cut kept the name of a log's second segment and lost that of its first, neither of which was
/// synced. The log began at the second one then, and its replica could have come into sync without
/// what was before.
#[test]
fn a_log_does_not_begin_where_its_second_segment_does() {
    check(&[360]);
}

/// A broker that was killed and started on a full disk had no checkpoint for what its journal held, and wrote on in the
/// journal's other file: a power cut left a gap, and it did not start again (`the_journal_is_kept_until_a_checkpoint_covers_it`).
#[test]
fn a_start_on_a_full_disk_keeps_the_journal() {
    check(&[1120]);
}

/// A follower that had led without writing forgot the high watermark with which its first records came, and was not told
/// again while nothing was written (`a_truncation_that_cuts_nothing_keeps_what_the_leader_told`).
#[test]
fn a_follower_keeps_the_high_watermark_that_it_was_told() {
    check(&[1451]);
}

/// Members that read with the client crate's consumer were given what lay before a position to which it had been reset
/// (`nothing_from_before_a_reset_is_returned` in `client/src/consumer/state/tests.rs`).
#[test]
fn nobody_reads_what_lies_before_a_reset() {
    check(&[616, 732, 1139, 1711, 1713, 2406]);
}

/// Where frames were slow, members of groups were away for longer than their sessions allowed, and a
/// group never came to rest. Sessions outlast the network there now, as whoever sets them up would
/// have it.
#[test]
fn sessions_outlast_slow_frames() {
    check(&[27, 557]);
}

/// Nor did groups whose members, once everything was well, now and then let their sessions pass for no reason.
#[test]
fn members_that_are_well_show_it_in_time() {
    check(&[10220]);
}

/// A batch was answered while it lay on one replica: another had told that it has it, was taken off by the
/// administrator, and had deleted its log before the leader heard. The witness counts that copy now.
#[test]
fn a_copy_that_is_deleted_on_demand_counted_when_it_was_told() {
    check(&[1534]);
}

/// A producer sent a batch again, after it, and all else of that producer, had been deleted, and all replicas
/// had been made anew: they know nothing of that producer, and take the batch again. So do Kafka's; the
/// witness knows.
#[test]
fn a_producer_is_forgotten_with_its_records() {
    check(&[2086]);
}

/// Followers came back with records that were never committed, where their leader had deleted the committed
/// ones since, and took them for committed
/// (`a_log_before_the_leaders_start_is_not_believed` in `replication/src/follower/tests.rs`).
#[test]
fn what_lies_before_a_leaders_start_is_not_believed() {
    check(&[6887, 9661, 13990]);
}

/// A candidate that stood still heard that it was elected when another led a later term.
#[test]
fn who_leads_late_lacks_what_later_terms_committed() {
    check(&[12231]);
}

/// A producer part of whose records were deleted was unknown to a leader that was made anew, and tried for ever.
#[test]
fn a_producer_that_is_half_forgotten_gives_up() {
    check(&[13496]);
}

/// A follower dropped its log, which ended where its leader's begins, and asked from the same offset as before. The leader
/// had nothing more to say to that; the follower never counted, and nothing was ever written again
/// (`a_log_before_the_leaders_start_is_not_believed`).
#[test]
fn a_follower_that_begins_anew_where_it_ended_counts() {
    check(&[330, 1221]);
}

/// What DeleteRecords had answered came back: a replica that had left too small an in-sync set was elected (KIP-966;
/// `fewer_than_commit_hold_no_log_start`).
#[test]
fn too_few_in_sync_delete_nothing() {
    check(&[101, 941, 1544]);
}

/// So it did with a replica that came into sync with an earlier start (`who_has_not_deleted_does_not_join`), and after a
/// deletion that a failed disk had refused was asked for again (`a_failed_deletion_is_not_answered_later`).
#[test]
fn what_is_deleted_stays_deleted() {
    check(&[1736, 837]);
}

/// Seeds that once violated something hold. What a seed does changes with the simulator: the rule that was
/// broken has a test of its own where a core could break it.
#[track_caller]
fn check(seeds: &[u64]) {
    for seed in seeds {
        let outcome = simulate(*seed, RunOptions::default());
        assert_eq!(outcome.violation, None, "seed {seed}");
    }
}

/// Minutes of calm clients and rare faults hold too.
#[test]
fn a_long_seed_holds() {
    let options = RunOptions { length: Length::Long, ..RunOptions::default() };
    let outcome = simulate(1, options);
    assert_eq!(outcome.violation, None);
    assert!(outcome.simulated_us > 5 * 60_000_000);
}

/// Everything that happens follows from the seed.
#[test]
fn the_same_seed_gives_the_same_trace() {
    let run = |seed| {
        let outcome = simulate(seed, RunOptions { is_read: true, ..RunOptions::default() });
        (outcome.hash, outcome.events, outcome.lines)
    };
    for seed in [3, 4] {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(3).0, run(4).0);
}

/// A checker that cannot fail proves nothing.
#[cfg(feature = "sabotage")]
#[test]
fn deliberate_bugs_are_found() {
    for bug in varve_tests::sim::sabotage::Bug::ALL {
        let hunt = fleet::hunt(*bug, 0, 1);
        assert!(hunt.mean().is_some(), "{} is not found", bug.name);
    }
}
