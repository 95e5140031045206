//! Consuming from a real broker, alone and in groups.

use super::{PATIENCE, client, topic, unique};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use varve_client::{
    AssignmentStrategy, Client, CommitPolicy, Compression, Concurrency, ConsumeError, Consumer,
    ConsumerRecord, FenceReason, OffsetReset, OffsetSpec, ProducerRecord, RunError, TopicPartition,
};

/// Writes `count` records, dealt to the partitions in turn, with values 0, 1, 2 ….
async fn fill(client: &Client, topic: &str, partitions: i32, count: i32) {
    let producer = client.producer().compression(Compression::Lz4).build().await.unwrap();
    for index in 0..count {
        let record = ProducerRecord::new(topic.to_owned(), index.to_string())
            .partition(index % partitions)
            .key(format!("k{}", index % 10))
            .header("h", "v");
        drop(producer.enqueue(record).await.unwrap());
    }
    producer.close().await.unwrap();
}

async fn receive(consumer: &mut Consumer) -> ConsumerRecord {
    let received = tokio::time::timeout(PATIENCE, consumer.recv()).await;
    received.expect("a record in time").expect("no error").expect("not stopped")
}

async fn receive_all(consumer: &mut Consumer, count: usize) -> Vec<ConsumerRecord> {
    let mut records = Vec::new();
    while records.len() < count {
        records.push(receive(consumer).await);
    }
    records
}

fn values(records: &[ConsumerRecord]) -> BTreeSet<i32> {
    records.iter().map(|record| record.value_str().unwrap().parse().unwrap()).collect()
}

async fn committed(client: &Client, group: &str, topic: &str) -> BTreeMap<i32, i64> {
    let offsets = client.admin().list_group_offsets(group, None).await.unwrap();
    offsets
        .into_iter()
        .filter(|(at, _)| &*at.topic == topic)
        .map(|(at, offset)| (at.partition, offset.unwrap().unwrap().offset))
        .collect()
}

/// Lets each consumer receive until together they own `partitions` and each owns something; gives back what came.
async fn balance(consumers: &mut [&mut Consumer], partitions: usize) -> Vec<ConsumerRecord> {
    let mut records = Vec::new();
    let balancing = async {
        loop {
            let owned: Vec<usize> =
                consumers.iter().map(|consumer| consumer.assignment().len()).collect();
            if owned.iter().sum::<usize>() == partitions && owned.iter().all(|count| *count > 0) {
                return;
            }
            for consumer in consumers.iter_mut() {
                let batch =
                    consumer.recv_batch(1000, Duration::from_millis(20)).await.unwrap().unwrap();
                for record in &batch {
                    consumer.mark(record);
                }
                records.extend(batch);
            }
        }
    };
    tokio::time::timeout(3 * PATIENCE, balancing).await.expect("balanced in time");
    records
}

#[tokio::test]
async fn assigned_partitions_are_read_in_order_without_a_group() {
    let Some(client) = client("assigned_partitions_are_read_in_order_without_a_group").await else {
        return;
    };
    let name = topic(&client, 2, &[]).await;
    fill(&client, &name, 2, 4_000).await;
    let mut consumer = client
        .consumer("")
        .assign([(name.as_str(), 0), (name.as_str(), 1)])
        .auto_offset_reset(OffsetReset::Earliest)
        .build()
        .await
        .unwrap();
    let mut next = [0i64; 2];
    for record in receive_all(&mut consumer, 4_000).await {
        let partition = usize::try_from(record.partition).unwrap();
        assert_eq!(record.offset, next[partition]);
        let value: i64 = record.value_str().unwrap().parse().unwrap();
        assert_eq!(value, record.offset * 2 + i64::from(record.partition));
        assert_eq!(record.key_str().unwrap(), format!("k{}", value % 10));
        assert_eq!(record.headers[0].key_text(), "h");
        assert!(record.timestamp_ms > 1_600_000_000_000);
        next[partition] += 1;
    }
    let at = TopicPartition::new(name.as_str(), 1);
    assert_eq!(consumer.position(&at), Some(2_000));
    assert_eq!(consumer.lag()[&at], 0);

    consumer.seek(&at, 1_990).unwrap();
    assert_eq!(receive(&mut consumer).await.offset, 1_990);
    consumer.seek_to_spec(&at, OffsetSpec::Earliest).unwrap();
    assert_eq!(receive(&mut consumer).await.offset, 0);
    consumer.pause(&at).unwrap();
    let nothing = tokio::time::timeout(Duration::from_millis(300), consumer.recv()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    consumer.resume(&at).unwrap();
    assert_eq!(receive(&mut consumer).await.offset, 1);
    let elsewhere = consumer.seek(&TopicPartition::new("x", 0), 0);
    assert!(matches!(elsewhere, Err(ConsumeError::NotAssigned { .. })));
    consumer.close().await.unwrap();
}

#[tokio::test]
async fn new_records_wake_a_waiting_consumer() {
    let Some(client) = client("new_records_wake_a_waiting_consumer").await else { return };
    let name = topic(&client, 1, &[]).await;
    let mut consumer = client
        .consumer("")
        .assign([(name.as_str(), 0)])
        .auto_offset_reset(OffsetReset::Earliest)
        .build()
        .await
        .unwrap();
    let producer = client.producer().build().await.unwrap();
    for index in 0..5 {
        let (written, received) = tokio::join!(
            producer.send(ProducerRecord::new(&name, index.to_string())),
            receive(&mut consumer)
        );
        assert_eq!(written.unwrap().offset, received.offset);
    }
    let handle = consumer.handle();
    handle.stop();
    assert!(consumer.recv().await.unwrap().is_none());
}

#[tokio::test]
async fn a_group_resumes_where_marks_ended() {
    let Some(client) = client("a_group_resumes_where_marks_ended").await else { return };
    let name = topic(&client, 1, &[]).await;
    let group = unique("group");
    fill(&client, &name, 1, 100).await;
    let build = || {
        client
            .consumer(&group)
            .subscribe([name.as_str()])
            .auto_offset_reset(OffsetReset::Earliest)
            .rebalance_grace(Duration::from_millis(50))
            .build()
    };
    let mut first = build().await.unwrap();
    let records = receive_all(&mut first, 50).await;
    // Out of order, and number 30 is not done.
    for record in records.iter().rev().filter(|record| record.offset != 30) {
        first.mark(record);
    }
    let report = first.commit().await.unwrap();
    assert_eq!(report.offset(&TopicPartition::new(name.as_str(), 0)), Some(30));
    first.close().await.unwrap();
    assert_eq!(committed(&client, &group, &name).await[&0], 30);

    let mut second = build().await.unwrap();
    let rest = receive_all(&mut second, 70).await;
    assert_eq!(rest[0].offset, 30);
    for record in &rest {
        second.mark(record);
    }
    // Without commit: closing does it.
    second.close().await.unwrap();
    assert_eq!(committed(&client, &group, &name).await[&0], 100);
    let admin = client.admin();
    assert_eq!(admin.describe_group(&group).await.unwrap().state, "Empty");
    admin.delete_group(&group).await.unwrap();
}

#[tokio::test]
async fn members_share_partitions_with_every_strategy() {
    let Some(client) = client("members_share_partitions_with_every_strategy").await else { return };
    for strategy in [
        AssignmentStrategy::Range,
        AssignmentStrategy::RoundRobin,
        AssignmentStrategy::Sticky,
        AssignmentStrategy::CooperativeSticky,
    ] {
        let name = topic(&client, 6, &[]).await;
        let group = unique("group");
        fill(&client, &name, 6, 600).await;
        let build = || {
            client
                .consumer(&group)
                .subscribe([name.as_str()])
                .assignment_strategies([strategy])
                .heartbeat_interval(Duration::from_millis(100))
                .rebalance_grace(Duration::from_millis(200))
                .auto_offset_reset(OffsetReset::Earliest)
                .build()
        };
        let mut one = build().await.unwrap();
        let mut records = receive_all(&mut one, 100).await;
        for record in &records {
            one.mark(record);
        }
        let mut two = build().await.unwrap();
        records.extend(balance(&mut [&mut one, &mut two], 6).await);
        assert_eq!((one.assignment().len(), two.assignment().len()), (3, 3), "{strategy:?}");
        let described = client.admin().describe_group(&group).await.unwrap();
        let owned: usize = described.members.iter().map(|member| member.assignment.len()).sum();
        assert_eq!((described.members.len(), owned), (2, 6), "{strategy:?}");
        one.close().await.unwrap();
        let alone = async {
            while two.assignment().len() < 6 {
                let batch = two.recv_batch(1000, Duration::from_millis(20)).await.unwrap().unwrap();
                for record in &batch {
                    two.mark(record);
                }
                records.extend(batch);
            }
        };
        tokio::time::timeout(3 * PATIENCE, alone).await.unwrap();
        let rest = async {
            while values(&records).len() < 600 {
                let batch = two.recv_batch(1000, Duration::from_millis(20)).await.unwrap().unwrap();
                for record in &batch {
                    two.mark(record);
                }
                records.extend(batch);
            }
        };
        tokio::time::timeout(PATIENCE, rest).await.expect("every record arrives");
        two.close().await.unwrap();
        let total: i64 = committed(&client, &group, &name).await.values().sum();
        assert_eq!(total, 600, "{strategy:?}");
    }
}

#[tokio::test]
async fn who_does_not_call_recv_is_told_and_may_come_back() {
    let Some(client) = client("who_does_not_call_recv_is_told_and_may_come_back").await else {
        return;
    };
    let name = topic(&client, 1, &[]).await;
    let group = unique("group");
    fill(&client, &name, 1, 10).await;
    let mut consumer = client
        .consumer(&group)
        .subscribe([name.as_str()])
        .auto_offset_reset(OffsetReset::Earliest)
        .heartbeat_interval(Duration::from_millis(50))
        .max_poll_interval(Duration::from_millis(500))
        .build()
        .await
        .unwrap();
    assert_eq!(receive(&mut consumer).await.offset, 0);
    let mut events = consumer.events();
    let lost = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap();
    assert!(matches!(lost, varve_client::Event::Lost(_)), "{lost:?}");
    let fenced = consumer.recv().await.unwrap_err();
    let ConsumeError::Fenced { reason: FenceReason::PollInterval { .. }, .. } = &fenced else {
        panic!("{fenced}")
    };
    assert!(fenced.is_retriable() && !fenced.is_fatal());
    assert_eq!(receive(&mut consumer).await.offset, 0, "nothing was marked");
    consumer.close().await.unwrap();
}

#[tokio::test]
async fn without_a_position_the_caller_decides() {
    let Some(client) = client("without_a_position_the_caller_decides").await else { return };
    let name = topic(&client, 1, &[]).await;
    fill(&client, &name, 1, 10).await;
    let mut consumer = client
        .consumer(unique("group"))
        .assign([(name.as_str(), 0)])
        .auto_offset_reset(OffsetReset::Error)
        .commit(CommitPolicy::Manual)
        .build()
        .await
        .unwrap();
    let error = consumer.recv().await.unwrap_err();
    assert!(matches!(error, ConsumeError::NoPosition { .. }), "{error}");
    let at = TopicPartition::new(name.as_str(), 0);
    consumer.seek(&at, 50).unwrap();
    let error = consumer.recv().await.unwrap_err();
    assert!(matches!(error, ConsumeError::OffsetOutOfRange { .. }), "{error}");
    consumer.seek(&at, 5).unwrap();
    assert_eq!(receive(&mut consumer).await.offset, 5);
    let report = consumer.commit().await.unwrap();
    assert_eq!(report.offset(&at), Some(6));
    consumer.close().await.unwrap();
}

#[tokio::test]
async fn run_processes_keys_in_order_and_ends_on_a_failure() {
    let Some(client) = client("run_processes_keys_in_order_and_ends_on_a_failure").await else {
        return;
    };
    let name = topic(&client, 2, &[]).await;
    let group = unique("group");
    fill(&client, &name, 2, 500).await;
    let build = || {
        client
            .consumer(&group)
            .subscribe([name.as_str()])
            .auto_offset_reset(OffsetReset::Earliest)
            .build()
    };
    let consumer = build().await.unwrap();
    let handle = consumer.handle();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(BTreeMap::<(i32, String), i64>::new()));
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let running = consumer.run(Concurrency::PerKey(8), move |record| {
        let (seen, count, handle) = (seen.clone(), count.clone(), handle.clone());
        async move {
            tokio::task::yield_now().await;
            let key = (record.partition, record.key_str().unwrap().to_owned());
            let before = seen.lock().unwrap().insert(key, record.offset);
            assert!(before.is_none_or(|before| before < record.offset), "a key out of order");
            if count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 499 {
                handle.stop();
            }
            Ok::<(), std::io::Error>(())
        }
    });
    tokio::time::timeout(3 * PATIENCE, running).await.unwrap().unwrap();
    assert_eq!(committed(&client, &group, &name).await.values().sum::<i64>(), 500);

    fill(&client, &name, 2, 100).await;
    let failing = build().await.unwrap().run(Concurrency::Unordered(4), |record| async move {
        if record.offset == 270 { Err(std::io::Error::other("no")) } else { Ok(()) }
    });
    let failed = tokio::time::timeout(3 * PATIENCE, failing).await.unwrap().unwrap_err();
    assert!(matches!(failed, RunError::Handler { offset: 270, .. }), "{failed}");
    assert!(committed(&client, &group, &name).await.values().all(|offset| *offset <= 300));
}

#[tokio::test]
async fn a_static_member_comes_back_to_its_partitions() {
    let Some(client) = client("a_static_member_comes_back_to_its_partitions").await else { return };
    let name = topic(&client, 2, &[]).await;
    let group = unique("group");
    fill(&client, &name, 2, 10).await;
    let build = || {
        client
            .consumer(&group)
            .subscribe([name.as_str()])
            .group_instance_id("first")
            .auto_offset_reset(OffsetReset::Earliest)
            .build()
    };
    let mut consumer = build().await.unwrap();
    receive_all(&mut consumer, 10).await;
    consumer.close().await.unwrap();
    let described = client.admin().describe_group(&group).await.unwrap();
    assert_eq!(described.members[0].group_instance_id.as_deref(), Some("first"));
    let mut again = build().await.unwrap();
    receive(&mut again).await;
    again.close().await.unwrap();
}
