//! Brokers that talk to each other over TCP, TLS and QUIC: records are replicated, a leader's death is
//! noticed by its broken connection, and who shows a wrong certificate is refused by name.

use std::time::Duration;

use varve_tests::certificates::Certificates;
use varve_tests::clock::{now, wait_for};
use varve_tests::cluster::{Cluster, PATIENCE, PeerTransport};
use varve_tests::replicas::{compare, read_logs};

use super::{create, produce};

const TOPIC: &str = "replicated";
const CONFIGS: [(&str, &str); 1] = [("min.insync.replicas", "2")];
/// A broker that is only silent is noticed after a second.
const FAILOVER_MAX: Duration = Duration::from_secs(1);
/// The machine may be busy: the quickest of so many counts.
const STRIKES: usize = 3;

fn check(transport: PeerTransport) {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start_over(transport, folder.path(), 3, &[]);
    create(&cluster, TOPIC, 3, &CONFIGS);
    let mut number = 0;
    let mut write = |cluster: &Cluster, shunned: Option<i32>| {
        produce(cluster, TOPIC, shunned, number);
        number += 1;
    };
    for _ in 0..10 {
        write(&cluster, None);
    }
    let mut quickest = Duration::MAX;
    for _ in 0..STRIKES {
        let leader = cluster.leader(TOPIC, 0);
        let began = now();
        cluster.broker(leader).kill();
        write(&cluster, Some(leader));
        quickest = quickest.min(now() - began);
        cluster.broker(leader).restart();
        cluster.wait_for_isr(TOPIC, 0, 3);
        write(&cluster, None);
        if quickest < FAILOVER_MAX {
            break;
        }
    }
    assert!(quickest < FAILOVER_MAX, "{transport:?}: the quickest failover took {quickest:?}");
    let name = (cluster.connect_beside(None).topic_id(TOPIC).unwrap(), 0);
    cluster.terminate_all();
    let folders = cluster.brokers().iter().map(|broker| broker.folder().join("data"));
    let logs: Vec<_> = folders.map(|folder| read_logs(&folder).unwrap()).collect();
    // A record that was sent twice lies there twice.
    let found = compare(&logs, &name, i64::try_from(number).unwrap(), true).unwrap();
    assert!(found.batches >= u64::try_from(number).unwrap(), "{number} records: {found:?}");
}

#[test]
fn brokers_talk_over_tcp() {
    check(PeerTransport::Tcp);
}

#[test]
fn brokers_talk_over_tls() {
    check(PeerTransport::Tls);
}

#[test]
fn brokers_talk_over_quic() {
    check(PeerTransport::Quic);
}

/// Starts a fourth broker that shows this; what it says at its end.
fn refused(cluster: &Cluster, certificates: &Certificates, shown: &str, quic: bool) -> String {
    let mut settings = certificates.peer_settings_of(shown);
    settings.push(("listeners.internal.quic".to_owned(), quic.to_string()));
    let settings: Vec<_> =
        settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    cluster.begin_stranger(4, "stranger", &settings).wait_refused()
}

fn check_strangers(transport: PeerTransport) {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start_over(transport, folder.path(), 3, &[]);
    let ours = cluster.certificates().unwrap().clone();
    let others = Certificates::make(&folder.path().join("others"));
    let quic = transport == PeerTransport::Quic;
    // What nobody would believe is refused by the broker itself, before it connects to anybody.
    let lacks = "it lacks the name broker-4.varve.internal";
    let told = refused(&cluster, &ours, "client", quic);
    assert!(told.contains(lacks) && told.contains("connects to this broker will"), "{told}");
    let told = refused(&cluster, &ours, "broker", quic);
    assert!(told.contains(lacks) && told.contains("this broker connects to will"), "{told}");
    let told = refused(&cluster, &ours, "broker-3", quic);
    assert!(told.contains(lacks), "{told}");
    let told = refused(&cluster, &ours, "nobody", quic);
    assert!(told.contains("nobody.pem") && told.contains("can be read"), "{told}");
    // A broker of another cluster's CA finds nobody that believes it, nor believes anybody.
    let told = refused(&cluster, &others, "broker-4", quic);
    assert!(told.contains("certificate and this one's"), "{told}");
    // One that speaks in the open is closed on, with one line there.
    let stranger = cluster.begin_stranger(4, "plain", &[]);
    wait_for("a line about who speaks without TLS", PATIENCE, || {
        let told = cluster.brokers().iter().map(|broker| broker.last_words()).collect::<String>();
        told.contains("it speaks without TLS, which this port demands").then_some(())
    });
    drop(stranger);
    // Who is right is taken.
    assert_eq!(cluster.join(&[]), 4);
    for id in 1..=4 {
        cluster.broker(id).assert_running();
    }
}

#[test]
fn strangers_are_refused_over_tls() {
    check_strangers(PeerTransport::Tls);
}

#[test]
fn strangers_are_refused_over_quic() {
    check_strangers(PeerTransport::Quic);
}
