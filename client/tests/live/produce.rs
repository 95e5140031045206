//! Producing to a real broker; what arrived is counted by its offsets.

use super::{PATIENCE, client, topic};
use std::time::Duration;
use varve_client::{
    Acks, Client, Compression, ErrorCode, IsolationLevel, OffsetSpec, ProduceError, ProducerRecord,
    TopicPartition, TryEnqueueError,
};

async fn end_offset(client: &Client, topic: &str, partition: i32) -> i64 {
    let asked = [(TopicPartition::new(topic, partition), OffsetSpec::Latest)];
    let listed = client.admin().list_offsets(&asked, IsolationLevel::ReadUncommitted).await;
    listed.unwrap()[0].1.as_ref().unwrap().offset
}

#[tokio::test]
async fn a_record_is_acknowledged_with_its_place() {
    let Some(client) = client("a_record_is_acknowledged_with_its_place").await else { return };
    let name = topic(&client, 1, &[]).await;
    let producer = client.producer().build().await.unwrap();
    for offset in 0..3 {
        let record = ProducerRecord::new(&name, "hello").key("k").timestamp_ms(7).header("h", "v");
        let written = producer.send(record).await.unwrap();
        assert_eq!((written.partition, written.offset, written.timestamp_ms), (0, offset, 7));
    }
    let stats = producer.stats();
    assert_eq!(
        (stats.records_acknowledged, stats.records_outstanding, stats.buffer_bytes),
        (3, 0, 0)
    );
    producer.close().await.unwrap();
    assert_eq!(end_offset(&client, &name, 0).await, 3);
}

#[tokio::test]
async fn a_lone_record_does_not_linger() {
    let Some(client) = client("a_lone_record_does_not_linger").await else { return };
    let name = topic(&client, 1, &[]).await;
    let linger = Duration::from_secs(20);
    let producer = client.producer().linger(linger).build().await.unwrap();
    let sent = producer.send(ProducerRecord::new(&name, "now"));
    tokio::time::timeout(PATIENCE, sent).await.unwrap().unwrap();
}

#[tokio::test]
async fn many_records_arrive_in_order_with_every_codec() {
    let Some(client) = client("many_records_arrive_in_order_with_every_codec").await else {
        return;
    };
    for compression in Compression::ALL {
        let name = topic(&client, 3, &[]).await;
        let producer = client.producer().compression(compression).build().await.unwrap();
        let mut deliveries = Vec::new();
        for index in 0..5_000 {
            let record = ProducerRecord::new(&name, format!("value {index}")).partition(index % 3);
            deliveries.push(producer.enqueue(record).await.unwrap());
        }
        for (index, delivery) in deliveries.into_iter().enumerate() {
            let written = delivery.await.unwrap();
            assert_eq!(written.offset, index as i64 / 3, "{compression}");
        }
        producer.close().await.unwrap();
    }
}

#[tokio::test]
async fn keyless_records_spread_and_keys_stay_together() {
    let Some(client) = client("keyless_records_spread_and_keys_stay_together").await else {
        return;
    };
    let name = topic(&client, 4, &[]).await;
    let producer = client.producer().batch_size(1000).build().await.unwrap();
    let mut keyed = Vec::new();
    for _ in 0..5_000 {
        drop(producer.enqueue(ProducerRecord::new(&name, "some value")).await.unwrap());
        keyed.push(producer.enqueue(ProducerRecord::new(&name, "v").key("foobar")).await.unwrap());
    }
    producer.flush().await.unwrap();
    // murmur2("foobar") as Java computes it, without its sign, modulo 4.
    let expected = (-790_332_482_i32 & i32::MAX) % 4;
    for delivery in keyed {
        assert_eq!(delivery.await.unwrap().partition, expected);
    }
    for partition in 0..4 {
        assert!(end_offset(&client, &name, partition).await > 500, "partition {partition}");
    }
}

#[tokio::test]
async fn a_batch_too_large_for_the_broker_is_divided() {
    let Some(client) = client("a_batch_too_large_for_the_broker_is_divided").await else { return };
    let name = topic(&client, 1, &[("max.message.bytes", "2000")]).await;
    let linger = Duration::from_millis(200);
    let producer = client.producer().linger(linger).batch_size(100_000).build().await.unwrap();
    let mut deliveries = Vec::new();
    for index in 0..100 {
        let value = format!("{index:0100}");
        deliveries.push(producer.enqueue(ProducerRecord::new(&name, value)).await.unwrap());
    }
    for (index, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.await.unwrap().offset, index as i64);
    }
    assert!(producer.stats().batches_split > 0);
    let lone = producer.send(ProducerRecord::new(&name, vec![b'x'; 5000])).await.unwrap_err();
    assert_eq!(lone.code(), Some(ErrorCode::MessageTooLarge), "{lone}");
    assert!(!lone.possibly_written());
    let after = producer.send(ProducerRecord::new(&name, "small")).await.unwrap();
    assert_eq!(after.offset, 100, "a refused batch does not break the sequence");
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_before_it_is_taken() {
    let Some(client) = client("what_cannot_be_sent_is_refused_before_it_is_taken").await else {
        return;
    };
    let name = topic(&client, 2, &[]).await;
    let producer = client.producer().max_block(Duration::from_secs(2)).build().await.unwrap();
    let huge = producer.enqueue(ProducerRecord::new(&name, vec![0; 2 << 20])).await.unwrap_err();
    assert!(matches!(huge, ProduceError::RecordTooLarge { .. }), "{huge}");
    let nowhere = producer.enqueue(ProducerRecord::new(&name, "v").partition(9)).await.unwrap_err();
    assert!(matches!(nowhere, ProduceError::NoSuchPartition { count: 2, .. }), "{nowhere}");
    let bad = producer.enqueue(ProducerRecord::new("no/such", "v")).await.unwrap_err();
    assert_eq!(bad.code(), Some(ErrorCode::InvalidTopicException), "{bad}");
    let record = ProducerRecord::new(&name, "v");
    let mut tries = 0;
    let delivery = loop {
        match producer.try_enqueue(record.clone()) {
            Ok(delivery) => break delivery,
            Err(TryEnqueueError::TopicPending(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
        tries += 1;
    };
    assert!(tries > 0 || delivery.await.is_ok());
    let reservation = producer.reserve(100).await.unwrap();
    assert_eq!(reservation.bytes(), 100);
    reservation.enqueue(record).unwrap().await.unwrap();
}

#[tokio::test]
async fn a_full_buffer_waits_and_then_says_so() {
    let Some(client) = client("a_full_buffer_waits_and_then_says_so").await else { return };
    let name = topic(&client, 1, &[]).await;
    let producer = client
        .producer()
        .buffer_memory(20_000)
        .batch_size(20_000)
        .linger(Duration::from_secs(30))
        .build()
        .await
        .unwrap();
    // Far more than the buffer: whoever waits for room presses the sender, linger or not.
    let mut last = None;
    for _ in 0..1_000 {
        last = Some(producer.enqueue(ProducerRecord::new(&name, vec![0; 500])).await.unwrap());
    }
    producer.flush().await.unwrap();
    assert_eq!(last.unwrap().await.unwrap().offset, 999);
}

#[tokio::test]
async fn other_acks_work() {
    let Some(client) = client("other_acks_work").await else { return };
    let name = topic(&client, 1, &[]).await;
    let none = client.producer().acks(Acks::None).build().await.unwrap();
    assert_eq!(none.send(ProducerRecord::new(&name, "v")).await.unwrap().offset, -1);
    none.close().await.unwrap();
    let leader = client.producer().acks(Acks::Leader).build().await.unwrap();
    leader.send(ProducerRecord::new(&name, "v")).await.unwrap();
    let arrived = async {
        while end_offset(&client, &name, 0).await < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, arrived).await.unwrap();
}
