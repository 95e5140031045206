//! Clients against a simulated cluster: what survives what.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use varve_client::{
    Client, CommitPolicy, Consumer, NewTopic, OffsetReset, Producer, ProducerRecord,
};
use varve_test::TestCluster;

#[tokio::test(start_paused = true)]
async fn a_consumer_survives_a_crash() {
    let cluster = TestCluster::start(1).await;
    let client = cluster.client().await;
    let producer = client.producer().build().await.unwrap();
    let mut consumer = reader(&client, "billing", CommitPolicy::default()).await;
    send(&producer, 0..1).await;
    cluster.crash(cluster.leader_of("orders", 0).unwrap());
    send(&producer, 1..2).await;
    assert_eq!(receive(&mut consumer, 2).await, ["0", "1"]);
}

#[test]
fn a_group_resumes_where_it_committed() {
    for seed in seeds() {
        varve_test::run(commit_and_resume(seed));
    }
}

async fn commit_and_resume(seed: u64) {
    let cluster = TestCluster::start(seed).await;
    let client = cluster.client().await;
    let producer = client.producer().build().await.unwrap();
    send(&producer, 0..10).await;
    let mut first = reader(&client, "billing", CommitPolicy::Manual).await;
    for record in 0..10 {
        let received = first.recv().await.unwrap().unwrap();
        if record < 6 {
            first.mark(&received);
        }
    }
    first.commit().await.unwrap();
    drop(first);

    // Those who know of the commit, and of the records, die one after the other.
    let coordinator = cluster.coordinator_of("billing").unwrap();
    cluster.crash(coordinator);
    let mut second = reader(&client, "billing", CommitPolicy::Manual).await;
    assert_eq!(receive(&mut second, 4).await, ["6", "7", "8", "9"]);
    assert_ne!(cluster.coordinator_of("billing"), Some(coordinator));
    second.close().await.unwrap();
    cluster.restart(coordinator);
    cluster.settled().await.unwrap();
    cluster.power_cut(cluster.leader_of("orders", 0).unwrap());
    let mut third = reader(&client, "billing", CommitPolicy::Manual).await;
    assert_eq!(receive(&mut third, 4).await, ["6", "7", "8", "9"]);
}

#[test]
fn nothing_is_lost_or_twice_behind_a_partition() {
    for seed in seeds() {
        varve_test::run(produce_through_partitions(seed));
    }
}

async fn produce_through_partitions(seed: u64) {
    let cluster = TestCluster::start(seed).await;
    let client = cluster.client().await;
    let topic = NewTopic::new("orders").replication_factor(3).config("min.insync.replicas", "2");
    client.admin().create_topic(topic).await.unwrap();
    let producer = client.producer().linger(Duration::from_millis(2)).build().await.unwrap();
    let mut deliveries = Vec::new();
    for number in 0..400 {
        let record = ProducerRecord::new("orders", number.to_string());
        deliveries.push(producer.enqueue(record).await.unwrap());
        tokio::time::sleep(Duration::from_millis(10)).await;
        let leader = cluster.leader_of("orders", 0).unwrap();
        match number {
            100 | 200 => {
                let others: Vec<_> =
                    cluster.brokers().into_iter().filter(|id| *id != leader).collect();
                cluster.partition(&[leader], &others);
            }
            150 | 250 | 350 => cluster.heal(),
            300 => cluster.isolate(leader),
            _ => {}
        }
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    let mut consumer = reader(&client, "billing", CommitPolicy::Manual).await;
    let expected: Vec<_> = (0..400).map(|number| number.to_string()).collect();
    assert_eq!(receive(&mut consumer, 400).await, expected);
    let more = tokio::time::timeout(Duration::from_secs(30), consumer.recv()).await;
    assert!(more.is_err(), "{more:?}");
}

#[test]
fn what_is_acknowledged_survives_a_power_cut_of_all() {
    for seed in seeds() {
        varve_test::run(produce_through_power_cuts(seed));
    }
}

async fn produce_through_power_cuts(seed: u64) {
    let cluster = TestCluster::start(seed).await;
    let client = cluster.client().await;
    let producer = client.producer().build().await.unwrap();
    for round in 0..3 {
        send(&producer, round * 5..round * 5 + 5).await;
        for broker in cluster.brokers() {
            cluster.power_cut(broker);
        }
        for broker in cluster.brokers() {
            cluster.restart(broker);
        }
    }
    let mut consumer = reader(&client, "billing", CommitPolicy::Manual).await;
    let expected: Vec<_> = (0..15).map(|number| number.to_string()).collect();
    assert_eq!(receive(&mut consumer, 15).await, expected);
}

#[tokio::test(start_paused = true)]
async fn members_share_partitions() {
    let cluster = TestCluster::builder().seed(5).brokers(5).start().await;
    let client = cluster.client().await;
    client.admin().create_topic(NewTopic::new("orders").partitions(6)).await.unwrap();
    let mut one = reader(&client, "billing", CommitPolicy::default()).await;
    let mut two = reader(&cluster.client().await, "billing", CommitPolicy::default()).await;
    let share = |share: usize| Duration::from_millis(100 * u64::try_from(share).unwrap());
    // `recv` is what keeps a member in its group.
    while one.assignment().len() != 3 || two.assignment().len() != 3 {
        let _ = tokio::time::timeout(share(1), one.recv()).await;
        let _ = tokio::time::timeout(share(1), two.recv()).await;
    }
    one.close().await.unwrap();
    while two.assignment().len() != 6 {
        let _ = tokio::time::timeout(share(1), two.recv()).await;
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in seeds() {
        let first = history(seed);
        assert_eq!(history(seed), first, "seed {seed}");
        assert_ne!(history(seed + 1), first);
    }
}

/// What happens in a cluster in which much happens.
fn history(seed: u64) -> (u64, u64, Duration, Vec<(Duration, String)>) {
    varve_test::run(async {
        let cluster = TestCluster::start(seed).await;
        let client = cluster.client().await;
        client.admin().create_topic(NewTopic::new("orders").partitions(4)).await.unwrap();
        let producer = client.producer().build().await.unwrap();
        let commit = CommitPolicy::Marked { every: Duration::from_millis(300) };
        let mut one = reader(&client, "billing", commit).await;
        let mut two = reader(&cluster.client().await, "billing", commit).await;
        let mut seen = Vec::new();
        for number in 0..200 {
            let record = ProducerRecord::new("orders", number.to_string());
            let _delivery = producer.enqueue(record).await.unwrap();
            let leader = cluster.leader_of("orders", 1).unwrap();
            match number {
                40 => cluster.crash(leader),
                80 => cluster.brokers().into_iter().for_each(|id| {
                    if !cluster.is_running(id) {
                        cluster.restart(id);
                    }
                }),
                120 => cluster.isolate(leader),
                160 => cluster.heal(),
                _ => {}
            }
            for consumer in [&mut one, &mut two] {
                let wait = Duration::from_millis(20);
                if let Ok(received) = tokio::time::timeout(wait, consumer.recv()).await {
                    let received = received.unwrap().unwrap();
                    consumer.mark(&received);
                    seen.push((cluster.now(), format!("{received:?}")));
                }
            }
        }
        producer.close().await.unwrap();
        one.close().await.unwrap();
        two.close().await.unwrap();
        (cluster.history(), cluster.events(), cluster.now(), seen)
    })
}

#[tokio::test(start_paused = true)]
async fn idle_time_passes_quickly() {
    let cluster = TestCluster::start(6).await;
    let client = cluster.client().await;
    let producer = client.producer().build().await.unwrap();
    let mut consumer = reader(&client, "billing", CommitPolicy::default()).await;
    send(&producer, 0..1).await;
    assert_eq!(receive(&mut consumer, 1).await, ["0"]);
    let (virtual_start, events) = (cluster.now(), cluster.events());
    #[expect(clippy::disallowed_methods, reason = "how long it takes is what is tested")]
    let start = Instant::now();
    let minutes = 10;
    let more = tokio::time::timeout(Duration::from_secs(minutes * 60), consumer.recv()).await;
    assert!(more.is_err(), "{more:?}");
    let (passed, events) = (cluster.now() - virtual_start, cluster.events() - events);
    assert!(passed >= Duration::from_secs(minutes * 60), "{passed:?}");
    let took = start.elapsed();
    println!("{passed:?} with {events} events took {took:?}");
    assert!(took < passed, "{passed:?} with {events} events took {took:?}");
    // Nobody was thrown out meanwhile.
    send(&producer, 1..2).await;
    assert_eq!(receive(&mut consumer, 1).await, ["1"]);
}

#[tokio::test(start_paused = true)]
async fn admins_are_answered() {
    let cluster = TestCluster::builder().racks(["a", "b", "c"]).start().await;
    let client = cluster.client().await;
    let admin = client.admin();
    let created = admin.create_topic(NewTopic::new("orders").partitions(2)).await.unwrap();
    let described = admin.describe_topic("orders").await.unwrap();
    assert_eq!(described.partitions.len(), 2, "{created:?}");
    assert_eq!(cluster.in_sync("orders", 0).len(), 3);
    let cluster_now = admin.describe_cluster().await.unwrap();
    let racks: BTreeMap<_, _> =
        cluster_now.brokers.iter().map(|broker| (broker.id, broker.rack.clone())).collect();
    assert_eq!(racks[&2].as_deref(), Some("b"));
    let refused = admin.list_groups(&[], &[]).await.unwrap_err();
    assert!(refused.to_string().contains("ListGroups"), "{refused}");
    admin.delete_topic("orders").await.unwrap();
    assert_eq!(cluster.leader_of("orders", 0), None);
}

/// A few seeds, or as many as `VARVE_TEST_SEEDS` says.
fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("VARVE_TEST_SEEDS").ok();
    1..1 + count.map_or(2, |count| count.parse::<u64>().unwrap())
}

async fn reader(client: &Client, group: &str, commit: CommitPolicy) -> Consumer {
    let consumer = client.consumer(group).subscribe(["orders"]).commit(commit);
    consumer.auto_offset_reset(OffsetReset::Earliest).build().await.unwrap()
}

async fn send(producer: &Producer, numbers: std::ops::Range<i32>) {
    for number in numbers {
        producer.send(ProducerRecord::new("orders", number.to_string())).await.unwrap();
    }
}

async fn receive(consumer: &mut Consumer, count: usize) -> Vec<String> {
    let mut values = Vec::new();
    while values.len() < count {
        let received = tokio::time::timeout(Duration::from_secs(60), consumer.recv()).await;
        let record = received.expect("records come").unwrap().unwrap();
        values.push(record.value_str().unwrap().to_owned());
    }
    values
}
