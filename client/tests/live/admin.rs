//! Administrative calls, each answered by a real broker.

use super::{PATIENCE, client, unique};
use varve_client::{
    Admin, ConfigChange, ConfigResource, ErrorCode, IsolationLevel, NewPartitions, NewTopic,
    OffsetSpec, TopicDescription, TopicPartition,
};

/// The topic once the broker asked has heard of it with so many partitions: Kafka's brokers follow the controller.
async fn described(admin: &Admin, name: &str, partitions: usize) -> TopicDescription {
    let asking = async {
        loop {
            match admin.describe_topic(name).await {
                Ok(topic) if topic.partitions.len() == partitions => break topic,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap()
}

#[tokio::test]
async fn topics_live_and_die() {
    let Some(client) = client("topics_live_and_die").await else { return };
    let admin = client.admin();
    let name = unique("admin");
    let topic = NewTopic::new(&name).partitions(3).config("retention.ms", "3600000");
    let created = admin.create_topic(topic.clone()).await.unwrap();
    assert_eq!(created.partitions, Some(3));
    let again = admin.create_topic(topic).await.unwrap_err();
    assert_eq!(again.code(), Some(ErrorCode::TopicAlreadyExists), "{again}");

    let described = described(&admin, &name, 3).await;
    assert_eq!(described.topic_id, created.topic_id);
    assert_eq!(described.partitions.len(), 3);
    assert!(described.partitions.iter().all(|p| p.leader.is_some() && p.error.is_none()));
    assert!(admin.list_topics().await.unwrap().iter().any(|t| t.name == name && t.partitions == 3));

    admin
        .create_partitions(&[NewPartitions::up_to(&name, 5)], false)
        .await
        .unwrap()
        .pop()
        .unwrap()
        .1
        .unwrap();
    self::described(&admin, &name, 5).await;

    let resource = ConfigResource::Topic(name.clone());
    let entry = |configs: Vec<varve_client::ConfigEntry>, name: &str| {
        configs.into_iter().find(|c| c.name == name).unwrap()
    };
    let retention = entry(admin.describe_config(&resource).await.unwrap(), "retention.ms");
    assert_eq!((retention.value.as_deref(), retention.is_default()), (Some("3600000"), false));
    let changes =
        [ConfigChange::delete("retention.ms"), ConfigChange::set("max.message.bytes", "2000000")];
    admin.alter_config(&resource, &changes, false).await.unwrap();
    let configs = admin.describe_config(&resource).await.unwrap();
    assert!(entry(configs.clone(), "retention.ms").is_default());
    assert_eq!(entry(configs, "max.message.bytes").value.as_deref(), Some("2000000"));
    let wrong =
        admin.alter_config(&resource, &[ConfigChange::set("no.such.thing", "1")], false).await;
    assert_eq!(wrong.unwrap_err().code(), Some(ErrorCode::InvalidConfig));

    admin.delete_topic(&name).await.unwrap();
    let gone = async {
        loop {
            match admin.describe_topic(&name).await {
                Err(error) => break error,
                Ok(_) => tokio::task::yield_now().await,
            }
        }
    };
    let gone = tokio::time::timeout(PATIENCE, gone).await.unwrap();
    assert_eq!(gone.code(), Some(ErrorCode::UnknownTopicOrPartition), "{gone}");
}

#[tokio::test]
async fn the_cluster_and_its_disks_are_described() {
    let Some(client) = client("the_cluster_and_its_disks_are_described").await else { return };
    let admin = client.admin();
    let cluster = admin.describe_cluster().await.unwrap();
    assert!(!cluster.brokers.is_empty() && cluster.cluster_id.is_some());
    let broker = cluster.brokers[0].id;
    let directories = admin.describe_log_dirs(&[]).await.unwrap();
    assert!(
        directories.iter().any(|(id, dirs)| *id == broker && !dirs.as_ref().unwrap().is_empty())
    );
    let configs = admin.describe_config(&ConfigResource::Broker(broker)).await.unwrap();
    assert!(configs.iter().any(|config| config.name == "num.partitions"));
    admin.list_groups(&[], &[]).await.unwrap();
}

#[tokio::test]
async fn offsets_of_an_empty_topic_are_listed() {
    let Some(client) = client("offsets_of_an_empty_topic_are_listed").await else { return };
    let admin = client.admin();
    let name = unique("offsets");
    admin.create_topic(NewTopic::new(&name).partitions(2)).await.unwrap();
    let asked: Vec<_> = [
        OffsetSpec::Earliest,
        OffsetSpec::Latest,
        OffsetSpec::MaxTimestamp,
        OffsetSpec::Timestamp(0),
    ]
    .into_iter()
    .map(|spec| (TopicPartition::new(name.as_str(), 1), spec))
    .collect();
    for (asked, expected) in asked.into_iter().zip([0, 0, -1, -1]) {
        let listed = admin
            .list_offsets(std::slice::from_ref(&asked), IsolationLevel::ReadUncommitted)
            .await
            .unwrap();
        assert_eq!(listed[0].1.as_ref().unwrap().offset, expected, "{asked:?}");
    }
    let all = [(TopicPartition::new(name.as_str(), 0), -1)];
    let deleted = admin.delete_records(&all).await.unwrap();
    assert_eq!(deleted[0].1.as_ref().unwrap(), &0);
    admin.delete_topic(&name).await.unwrap();
}
