//! The broker is killed with SIGKILL again and again, and nothing acknowledged is lost.

use varve_tests::rounds::{Clients, Plan, run};

/// How many kills; `crash-rounds` does 200.
const ROUNDS: u32 = 10;

#[test]
fn rounds_of_kills_lose_nothing() {
    check(Clients::Wire);
}

#[test]
fn rounds_of_kills_lose_nothing_of_the_client_crate() {
    check(Clients::Crate);
}

#[track_caller]
fn check(clients: Clients) {
    let folder = tempfile::tempdir().unwrap();
    let seed = std::env::var("VARVE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random);
    println!("{ROUNDS} rounds, {clients:?} clients, seed {seed} (VARVE_SEED)");
    let plan = Plan { clients, ..Plan::new(ROUNDS, seed, folder.path()) };
    let verdict = run(&plan, |_| {});
    let violations: Vec<String> = verdict.violations.iter().map(ToString::to_string).collect();
    assert!(violations.is_empty(), "seed {seed}:\n{}", violations.join("\n"));
    assert!(verdict.acknowledged > 500, "only {} records", verdict.acknowledged);
    assert!(verdict.commits > 0, "no offset was committed");
}
