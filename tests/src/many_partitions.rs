//! Many partitions on three brokers: how long their creation takes, a leader's death, a broker's
//! return; what they cost in memory; and what a thousand of them cost when nothing happens.

use std::path::Path;
use std::time::Duration;

use varve_protocol::messages::MetadataRequest;
use varve_protocol::messages::metadata::{MetadataRequestTopic, MetadataResponsePartition};

use crate::clock::{now, pause, wait_for};
use crate::cluster::Cluster;
use crate::connection::Connection;

const TOPIC: &str = "many";
/// Longest wait for one step.
const STEP_LIMIT: Duration = Duration::from_secs(120);

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// From the wish until every partition has a leader and all replicas in sync.
    pub created_in: Duration,
    /// From SIGKILL of a broker until none of its partitions is led by it.
    pub moved_in: Duration,
    /// Partitions that it led.
    pub moved: usize,
    /// From the broker's start until it serves.
    pub served_in: Duration,
    /// From the broker's start until every partition is in sync on all brokers again.
    pub in_sync_in: Duration,
    /// Resident bytes of each broker, and those that belong to no file, when all is in sync.
    pub resident: Vec<(u64, u64)>,
}

/// Creates so many partitions with three replicas, kills a broker and brings it back. `progress` is
/// told each step.
///
/// # Panics
/// When a step takes longer than two minutes.
pub fn run(folder: &Path, partitions: i32, mut progress: impl FnMut(&str)) -> Figures {
    let mut cluster = Cluster::start(folder, 3, &[]);
    let mut figures = Figures { created_in: create(&cluster, partitions), ..Figures::default() };
    progress(&format!("created in {:?}", figures.created_in));
    let victim = 1;
    let led = partitions_of(&cluster, None).iter().filter(|it| it.leader_id == victim).count();
    let began = now();
    cluster.broker(victim).kill();
    wait_for_all(&cluster, Some(victim), |it| it.leader_id > 0 && it.leader_id != victim);
    (figures.moved, figures.moved_in) = (led, now() - began);
    progress(&format!("{led} leaders moved in {:?}", figures.moved_in));
    let began = now();
    cluster.broker(victim).restart();
    figures.served_in = cluster.broker(victim).started_in();
    progress(&format!("served again in {:?}", figures.served_in));
    wait_for_all(&cluster, None, |it| it.isr_nodes.len() == 3);
    figures.in_sync_in = now() - began;
    progress(&format!("all in sync again in {:?}", figures.in_sync_in));
    for broker in cluster.brokers() {
        let found = broker.figures();
        figures.resident.push((found.resident_bytes, found.anonymous_bytes));
    }
    figures
}

/// The share of one core that each broker takes while so many partitions with three replicas are
/// idle, over this time.
///
/// # Panics
/// When the partitions cannot be created.
pub fn idle_cost(folder: &Path, partitions: i32, time: Duration) -> Vec<f64> {
    let cluster = Cluster::start(folder, 3, &[]);
    create(&cluster, partitions);
    // What creation has left to do is done by then.
    pause(Duration::from_secs(5));
    let cpu = || cluster.brokers().iter().map(|broker| broker.figures().cpu);
    let (before, began): (Vec<_>, _) = (cpu().collect(), now());
    pause(time);
    let took = (now() - began).as_secs_f64();
    cpu().zip(before).map(|(after, before)| (after - before).as_secs_f64() / took).collect()
}

fn create(cluster: &Cluster, partitions: i32) -> Duration {
    let began = now();
    let created = cluster.connect_beside(None).create_replicated_topic(TOPIC, partitions, 3, &[]);
    created.expect("the topic is created");
    wait_for_all(cluster, None, |it| it.leader_id > 0 && it.isr_nodes.len() == 3);
    now() - began
}

/// Waits until all partitions satisfy `condition`, asking not so often that the answers, which are
/// long, are what takes the time.
#[track_caller]
fn wait_for_all(
    cluster: &Cluster,
    shunned: Option<i32>,
    condition: impl Fn(&MetadataResponsePartition) -> bool,
) {
    wait_for("all partitions", STEP_LIMIT, || {
        let found = partitions_of(cluster, shunned);
        let is_done = !found.is_empty() && found.iter().all(&condition);
        if !is_done {
            pause(Duration::from_millis(50));
        }
        is_done.then_some(())
    });
}

/// The partitions as a broker beside `shunned` knows them; none while it does not answer.
fn partitions_of(cluster: &Cluster, shunned: Option<i32>) -> Vec<MetadataResponsePartition> {
    let name = Some(TOPIC.to_owned());
    let wanted = MetadataRequestTopic { name, ..MetadataRequestTopic::default() };
    let request = MetadataRequest {
        topics: Some(vec![wanted]),
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    };
    let ask = |connection: &mut Connection| connection.call(8, &request);
    let Ok(answer) = ask(&mut cluster.connect_beside(shunned)) else { return Vec::new() };
    answer.topics.into_iter().flat_map(|topic| topic.partitions).collect()
}
