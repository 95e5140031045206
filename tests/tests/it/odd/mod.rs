//! Odd requests: what Apache Kafka 4.3 answered to 693 hand-made requests, most of them wrong in
//! some way, and what a broker of this tree answers to the same ones in the same order.
//!
//! Compared are the fields that a client acts on (`facts`), and whether the connection was closed
//! or nothing came. Where varve differs on purpose, `differences` has the request and the reason.
//!
//! `VARVE_TEST_ODD_BOOTSTRAP=host:port` replays against a broker that runs already. That is how the
//! replay itself was checked: an Apache Kafka 4.3.1 of one node differs in six answers from the
//! recorded one of three, by what it has not made yet (transaction and share coordinators; topics
//! asked for right after their creation) and by the follower that it does not have.
#![allow(clippy::unwrap_used, reason = "the corpus is part of the test")]

mod corpus;
mod differences;
mod facts;
mod replay;
mod translate;

use std::net::SocketAddr;
use std::time::Duration;

use varve_protocol::messages::{FindCoordinatorRequest, InitProducerIdRequest};
use varve_protocol::wire::ApiKey;
use varve_tests::clock::wait_for;
use varve_tests::connection::Connection;
use varve_tests::process::BrokerProcess;

use corpus::{Recorded, Row, rows};
use differences::{Difference, reason_for};
use replay::Replay;

#[test]
fn odd_requests_are_answered_as_kafka_does() {
    let folder = tempfile::tempdir().unwrap();
    let running = std::env::var("VARVE_TEST_ODD_BOOTSTRAP").ok();
    let broker = running.is_none().then(|| {
        let settings = [("auto_create_topics", "false"), ("num_partitions", "3")];
        BrokerProcess::start(folder.path(), &settings)
    });
    let address: SocketAddr = match (&broker, running) {
        (Some(broker), _) => broker.address(),
        (None, running) => running.unwrap().parse().expect("VARVE_TEST_ODD_BOOTSTRAP is host:port"),
    };
    let mut report = Vec::new();
    let mut stale: Vec<&Difference> = differences::ALL.iter().collect();
    wait_for_coordinators(address);
    let rows = rows();
    let mut replay = Replay::new(address, &rows);
    for (place, row) in rows.iter().enumerate() {
        // Versions that are not announced close the connection, on which more would follow.
        if is_beyond(row) {
            continue;
        }
        let (expected, found) = replay.step(place);
        if expected == found {
            continue;
        }
        match reason_for(row) {
            Some(difference) => stale.retain(|other| !std::ptr::eq(*other, difference)),
            None => report.push(format!(
                "case {} request {}: {}\n{}",
                row.case,
                row.place,
                row.description,
                found.against(&expected)
            )),
        }
    }
    let (count, all) = (report.len(), rows.len());
    assert!(report.is_empty(), "{count} of {all} answers differ:\n\n{}", report.join("\n"));
    assert!(stale.is_empty(), "these are answered as Kafka does: {stale:#?}");
}

/// Whether Kafka answers a version that varve does not announce.
fn is_beyond(row: &Row) -> bool {
    let header = row.request.get(4..8).map(|bytes| (&bytes[..2], &bytes[2..]));
    let number = |bytes: &[u8]| i16::from_be_bytes([bytes[0], bytes[1]]);
    let Some((key, version)) = header.map(|(key, version)| (number(key), number(version))) else {
        return false;
    };
    matches!(row.answer, Recorded::Frames(_))
        && ApiKey::from_code(key)
            .is_some_and(|api| api != ApiKey::ApiVersions && version > api.announced().max_version)
}

/// Kafka makes the topics of its coordinators when they are asked for; the recording began later.
fn wait_for_coordinators(address: SocketAddr) {
    let mut connection = Connection::open(address).expect("the broker takes connections");
    let ask = FindCoordinatorRequest { key: "odd-g".to_owned(), ..Default::default() };
    let producer = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: 1_000,
        ..Default::default()
    };
    wait_for("the coordinators", Duration::from_secs(30), || {
        let group = connection.call(2, &ask).expect("an answer");
        let producer = connection.call(4, &producer).expect("an answer");
        (group.error_code == 0 && producer.error_code == 0).then_some(())
    });
}
