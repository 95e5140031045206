//! What dashboards and alerts are built on: every series that is promised is in a live scrape.

use std::collections::BTreeSet;
use std::time::Duration;

use varve_client::{Client, NewTopic, OffsetReset, ProducerRecord};
use varve_protocol::records::{BatchBuilder, Compression, NewRecord};
use varve_protocol::vocabulary::TimestampMs;
use varve_tests::clock::{now, wait_for};
use varve_tests::cluster::{Cluster, PATIENCE};
use varve_tests::http;

const TOPIC: &str = "metered";
const GROUP: &str = "meter-readers";
const RECORDS: i32 = 20;

/// The families that are promised, each with labels that must be seen in it. What is promised and not
/// there, with the reason: `phase="throttle"` (no quota holds an answer back yet), `tier="remote"` (no
/// records lie in object storage yet).
const PROMISED: &[(&str, &[&str])] = &[
    // Requests.
    ("varve_requests_total", &["api=\"Produce\",error=\"none\"", "api=\"Fetch\"", "error=\"79\""]),
    ("varve_request_duration_seconds", &["api=\"Produce\""]),
    (
        "varve_request_phase_seconds",
        &[
            "api=\"Produce\",phase=\"queue\"",
            "api=\"Produce\",phase=\"local\"",
            "api=\"Produce\",phase=\"remote\"",
            "api=\"Produce\",phase=\"send\"",
            "api=\"Fetch\",phase=\"remote\"",
        ],
    ),
    ("varve_request_size_bytes", &["api=\"Produce\""]),
    ("varve_network_receive_bytes_total", &["listener=\"kafka\",transport=\"tcp\""]),
    ("varve_network_transmit_bytes_total", &["listener=\"kafka\",transport=\"tcp\""]),
    ("varve_connections", &["transport=\"tcp\"", "transport=\"quic\""]),
    ("varve_connections_rejected_total", &["reason=\"malformed\""]),
    ("varve_client_software_info", &["name=\"varve-client\"", "version=\""]),
    // Topics.
    ("varve_topic_bytes_in_total", &["topic=\"metered\""]),
    ("varve_topic_bytes_out_total", &["topic=\"metered\""]),
    ("varve_topic_records_in_total", &["topic=\"metered\""]),
    ("varve_topic_batches_in_total", &["topic=\"metered\""]),
    ("varve_produce_errors_total", &["topic=\"metered\",error=\"2\""]),
    ("varve_topic_size_bytes", &["topic=\"metered\",tier=\"local\""]),
    ("varve_topic_partitions", &["topic=\"metered\""]),
    // Partitions.
    ("varve_partition_log_start_offset", &["topic=\"metered\",partition=\"0\""]),
    ("varve_partition_high_watermark", &["topic=\"metered\",partition=\"0\""]),
    ("varve_partition_log_end_offset", &["topic=\"metered\",partition=\"0\""]),
    ("varve_partition_size_bytes", &["topic=\"metered\",partition=\"0\""]),
    ("varve_partition_segments", &["topic=\"metered\",partition=\"0\""]),
    ("varve_partition_leader", &["topic=\"metered\",partition=\"0\""]),
    ("varve_partition_leader_epoch", &["topic=\"metered\",partition=\"0\""]),
    ("varve_partition_isr", &["topic=\"metered\",partition=\"0\""]),
    ("varve_partition_replicas", &["topic=\"metered\",partition=\"0\""]),
    ("varve_partition_follower_lag_messages", &["partition=\"0\",follower=\"2\""]),
    // The cluster and its quorum.
    ("varve_cluster_brokers", &["state=\"alive\"", "state=\"down\""]),
    (
        "varve_cluster_partitions",
        &[
            "state=\"leaderless\"",
            "state=\"under_replicated\"",
            "state=\"under_min_isr\"",
            "state=\"at_min_isr\"",
            "state=\"reassigning\"",
        ],
    ),
    ("varve_controller_active", &[]),
    ("varve_raft_term", &[]),
    ("varve_raft_commit_index", &[]),
    ("varve_raft_applied_index", &[]),
    ("varve_raft_last_log_index", &[]),
    ("varve_raft_leader_changes_total", &[]),
    ("varve_raft_append_duration_seconds", &[]),
    ("varve_raft_peer_lag_entries", &["peer=\""]),
    ("varve_isr_changes_total", &["kind=\"shrink\"", "kind=\"expand\""]),
    ("varve_leader_elections_total", &["kind=\"clean\"", "kind=\"unclean\""]),
    // Storage.
    ("varve_log_append_duration_seconds", &[]),
    ("varve_fsync_duration_seconds", &["file=\"log\"", "file=\"raft\""]),
    ("varve_disk_free_bytes", &["dir=\""]),
    ("varve_disk_total_bytes", &["dir=\""]),
    ("varve_disk_space_alert", &["dir=\""]),
    ("varve_log_recovery_seconds", &[]),
    ("varve_compaction_runs_total", &[]),
    ("varve_compaction_bytes_reclaimed_total", &[]),
    ("varve_crc_failures_total", &["source=\"produce\"", "source=\"replica\"", "source=\"disk\""]),
    ("varve_logs_repaired_total", &[]),
    // Groups.
    ("varve_group_members", &["group=\"meter-readers\""]),
    ("varve_group_state", &["group=\"meter-readers\",state=\"Empty\""]),
    ("varve_group_lag", &["group=\"meter-readers\",topic=\"metered\""]),
    ("varve_group_lag_max", &["group=\"meter-readers\",topic=\"metered\""]),
    ("varve_group_lag_seconds", &["group=\"meter-readers\",topic=\"metered\""]),
    ("varve_group_rebalances_total", &["group=\"meter-readers\",reason=\"joined\""]),
    ("varve_group_committed_offset", &["group=\"meter-readers\",topic=\"metered\""]),
    // The process.
    ("varve_build_info", &["version=\""]),
    ("varve_runtime_stall_seconds", &[]),
    ("process_cpu_seconds_total", &[]),
    ("process_resident_memory_bytes", &[]),
];

/// Both endpoints of all brokers.
fn scrape(cluster: &Cluster) -> String {
    let mut text = String::new();
    for broker in cluster.brokers() {
        for path in ["/metrics", "/metrics/partitions"] {
            let (status, body) = http::get(broker.http(), path);
            assert_eq!(status, 200, "{path}");
            assert_families(&body);
            text.push_str(&body);
        }
    }
    text
}

/// Every family is declared once in an answer, before its samples.
fn assert_families(body: &str) {
    let mut seen = BTreeSet::new();
    let mut present = "";
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            present = rest.split(' ').next().unwrap();
            assert!(seen.insert(present), "{present} is declared twice");
        } else if !line.starts_with('#') {
            assert!(line.starts_with(present), "{line} stands below {present}");
        }
    }
}

/// The samples of a family: its own name, or that of its buckets.
fn samples<'a>(text: &'a str, family: &str) -> Vec<&'a str> {
    let is_of = |line: &&str| {
        let rest = line.strip_prefix(family).unwrap_or("x");
        let rest = rest.strip_prefix("_bucket").unwrap_or(rest);
        rest.starts_with('{') || rest.starts_with(' ')
    };
    text.lines().filter(is_of).collect()
}

/// The sum of the values of samples that hold all `labels`.
fn sum(text: &str, name: &str, labels: &[&str]) -> f64 {
    let lines = text.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// A batch whose checksum is wrong.
fn damaged_batch() -> bytes::Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    let (timestamp, value) = (TimestampMs(1_000), Some(&b"damaged"[..]));
    builder.push(NewRecord { timestamp, value, ..NewRecord::default() }).unwrap();
    let mut bytes = builder.build().unwrap().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    bytes.into()
}

fn use_cluster(cluster: &Cluster) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::connect(&cluster.bootstrap()).await.unwrap();
        let topic = NewTopic::new(TOPIC).assignment(0, vec![1, 2, 3]);
        client.admin().create_topic(topic.config("min.insync.replicas", "2")).await.unwrap();
        let producer = client.producer().build().await.unwrap();
        for number in 0..RECORDS {
            let record = ProducerRecord::new(TOPIC, format!("record {number}"));
            producer.send(record).await.unwrap();
        }
        let consumer = client.consumer(GROUP).subscribe([TOPIC]);
        let mut consumer = consumer.auto_offset_reset(OffsetReset::Earliest).build().await.unwrap();
        for _ in 0..RECORDS {
            let record = tokio::time::timeout(PATIENCE, consumer.recv()).await.unwrap();
            consumer.mark(&record.unwrap().unwrap());
        }
        consumer.close().await.unwrap();
        producer.close().await.unwrap();
    });
}

#[test]
fn every_promised_series_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(folder.path(), 3, &[]);
    use_cluster(&cluster);
    let mut leader = cluster.broker(1).connect();
    let refused = leader.produce(TOPIC, 0, damaged_batch()).unwrap();
    assert_eq!(refused.error_code, 2, "{refused:?}");
    // Its software is counted as long as a connection is open.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let client = runtime.block_on(Client::connect(&cluster.bootstrap())).unwrap();

    let missing = || {
        let text = scrape(&cluster);
        let lacks = |(family, labels): &(&str, &[&str])| {
            let found = samples(&text, family);
            let has = |label: &&str| found.iter().any(|line| line.contains(*label));
            let lacking: Vec<_> = labels.iter().filter(|label| !has(label)).collect();
            let is_whole = !found.is_empty() && lacking.is_empty();
            (!is_whole).then(|| format!("{family}: {} samples, without {lacking:?}", found.len()))
        };
        PROMISED.iter().filter_map(lacks).collect::<Vec<_>>()
    };
    // Groups and their offsets are told by a coordinator once it has them.
    let began = now();
    let mut lacking = missing();
    while !lacking.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(10), "{lacking:#?}\n{}", scrape(&cluster));
        lacking = missing();
    }
    drop(client);
}

/// A follower that is dead falls behind, leaves the in-sync set, and both are told by the leader; the
/// phases of requests add up to their number.
#[test]
fn a_dead_follower_is_seen_by_its_lag() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(folder.path(), 3, &[]);
    use_cluster(&cluster);
    let lag = |cluster: &Cluster| {
        let (_, text) = http::get(cluster.brokers()[0].http(), "/metrics/partitions");
        let of = ["topic=\"metered\"", "follower=\"3\""];
        let name = "varve_partition_follower_lag_messages";
        let found = text.lines().any(|line| line.starts_with(name) && line.contains(of[1]));
        found.then(|| sum(&text, name, &of))
    };
    wait_for("the follower to have all", PATIENCE, || (lag(&cluster)? == 0.0).then_some(()));
    cluster.broker(3).kill();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::connect(&cluster.bootstrap()).await.unwrap();
        let producer = client.producer().build().await.unwrap();
        for _ in 0..7 {
            producer.send(ProducerRecord::new(TOPIC, "more").partition(0)).await.unwrap();
        }
        producer.close().await.unwrap();
    });
    assert_eq!(lag(&cluster), Some(7.0));
    let (_, text) = http::get(cluster.brokers()[0].http(), "/metrics");
    assert!(sum(&text, "varve_isr_changes_total", &["kind=\"shrink\""]) >= 1.0, "{text}");
    let requests = sum(&text, "varve_request_duration_seconds_count", &["api=\"Produce\""]);
    assert!(requests >= 1.0, "{text}");
    for phase in ["queue", "local", "remote", "send"] {
        let label = format!("phase=\"{phase}\"");
        let labels = ["api=\"Produce\"", label.as_str()];
        assert_eq!(sum(&text, "varve_request_phase_seconds_count", &labels), requests, "{phase}");
    }
    // Others have to have what is acknowledged: that takes longer than working on it.
    let took = |phase: &str| {
        let labels = ["api=\"Produce\"", phase];
        sum(&text, "varve_request_phase_seconds_sum", &labels)
    };
    assert!(took("phase=\"remote\"") > 0.0, "{text}");
    let all = ["queue", "local", "remote"].map(|phase| took(&format!("phase=\"{phase}\"")));
    let whole = sum(&text, "varve_request_duration_seconds_sum", &["api=\"Produce\""]);
    assert!((all.iter().sum::<f64>() - whole).abs() < whole / 100.0, "{all:?} {whole}");
}
