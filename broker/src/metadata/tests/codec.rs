//! The bytes of records: golden, round trips, truncations, unknown kinds.

use proptest::prelude::*;
use varve_protocol::vocabulary::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};

use crate::metadata::record::{
    BrokerChangeRecord, ConfigRecord, ConfigTarget, MetadataRecord, PartitionChangeRecord,
    PartitionRecord, ProducerIdBlockRecord, RegisterBrokerRecord, TopicRecord,
};
use crate::metadata::{DecodeError, Endpoint, decode_batch, encode_batch};

#[test]
fn the_bytes_of_a_batch_stay_what_they_are() {
    let bytes = encode_batch(&[MetadataRecord::RemoveTopic(TopicId(0x0102))]);
    let version = env!("CARGO_PKG_VERSION").as_bytes();
    let mut expected = vec![1, u8::try_from(version.len()).unwrap()];
    expected.extend_from_slice(version);
    expected.extend_from_slice(&[0, 0, 0, 1]);
    expected.extend_from_slice(&[0, 0, 0, 19, 0, 6, 0]);
    expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
    assert_eq!(bytes, expected);
}

#[test]
fn a_record_of_a_later_version_is_refused_by_name() {
    let mut bytes = vec![1, 5];
    bytes.extend_from_slice(b"9.1.0");
    bytes.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 3, 0, 200, 0]);
    let error = decode_batch(&bytes).unwrap_err();
    let writer = "9.1.0".to_owned();
    assert_eq!(error, DecodeError::UnknownRecord { kind: 200, version: 0, writer });
    assert!(error.to_string().contains("written by varve 9.1.0"), "{error}");
}

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9._-]{0,12}"
}

fn broker_ids() -> impl Strategy<Value = Vec<BrokerId>> {
    prop::collection::vec(any::<i32>().prop_map(BrokerId), 0..4)
}

pub(super) fn records() -> impl Strategy<Value = MetadataRecord> {
    let leader = || prop::option::of((0..i32::MAX).prop_map(BrokerId));
    prop_oneof![
        text().prop_map(MetadataRecord::ClusterId),
        any::<u64>().prop_map(MetadataRecord::TopicsCreated),
        any::<u128>().prop_map(|id| MetadataRecord::RemoveTopic(TopicId(id))),
        (any::<u128>(), text(), any::<bool>()).prop_map(|(id, name, is_internal)| {
            MetadataRecord::Topic(TopicRecord { id: TopicId(id), name, is_internal })
        }),
        (any::<i32>(), any::<i64>(), any::<i64>()).prop_map(|(broker, broker_epoch, next)| {
            let broker = BrokerId(broker);
            MetadataRecord::ProducerIdBlock(ProducerIdBlockRecord { broker, broker_epoch, next })
        }),
        (
            any::<i32>(),
            any::<u128>(),
            any::<i64>(),
            prop::option::of(text()),
            prop::collection::vec((text(), text(), any::<u16>()), 0..3),
            any::<u128>(),
            any::<[bool; 3]>(),
        )
            .prop_map(|(id, incarnation, epoch, rack, endpoints, directory, state)| {
                let endpoint = |(listener, host, port)| Endpoint { listener, host, port };
                MetadataRecord::RegisterBroker(RegisterBrokerRecord {
                    id: BrokerId(id),
                    incarnation,
                    epoch,
                    rack,
                    endpoints: endpoints.into_iter().map(endpoint).collect(),
                    directory,
                    is_fenced: state[0],
                    in_controlled_shutdown: state[1],
                    is_draining: state[2],
                })
            }),
        any::<i32>().prop_map(|id| MetadataRecord::RemoveBroker(BrokerId(id))),
        (any::<i32>(), any::<i64>(), any::<[Option<bool>; 3]>()).prop_map(|(id, epoch, state)| {
            MetadataRecord::BrokerChange(BrokerChangeRecord {
                id: BrokerId(id),
                epoch,
                is_fenced: state[0],
                in_controlled_shutdown: state[1],
                is_draining: state[2],
            })
        }),
        (
            any::<u128>(),
            any::<i32>(),
            broker_ids(),
            prop::collection::vec(any::<u128>(), 0..4),
            broker_ids(),
            leader(),
            any::<i32>(),
            any::<i32>(),
            [broker_ids(), broker_ids(), broker_ids()]
        )
            .prop_map(
                |(topic, partition, replicas, directories, isr, leader, epoch, change, more)| {
                    let [elr, adding, removing] = more;
                    MetadataRecord::Partition(PartitionRecord {
                        topic_id: TopicId(topic),
                        partition: PartitionIndex(partition),
                        replicas,
                        directories,
                        isr,
                        leader,
                        leader_epoch: LeaderEpoch(epoch),
                        partition_epoch: change,
                        elr,
                        adding,
                        removing,
                    })
                }
            ),
        (
            any::<u128>(),
            any::<i32>(),
            prop::option::of(leader()),
            prop::option::of(broker_ids()),
            prop::option::of(prop::collection::vec(
                (any::<i32>().prop_map(BrokerId), any::<u128>()),
                0..3
            )),
            [
                prop::option::of(broker_ids()),
                prop::option::of(broker_ids()),
                prop::option::of(broker_ids())
            ]
        )
            .prop_map(
                |(topic, partition, leader, isr, replicas, [elr, adding, removing])| {
                    MetadataRecord::PartitionChange(PartitionChangeRecord {
                        topic_id: TopicId(topic),
                        partition: PartitionIndex(partition),
                        leader,
                        isr,
                        replicas,
                        elr,
                        adding,
                        removing,
                    })
                }
            ),
        (
            prop_oneof![
                any::<u128>().prop_map(|id| ConfigTarget::Topic(TopicId(id))),
                any::<i32>().prop_map(|id| ConfigTarget::Broker(BrokerId(id))),
                Just(ConfigTarget::Cluster),
            ],
            text(),
            prop::option::of(text())
        )
            .prop_map(|(target, name, value)| {
                MetadataRecord::Config(ConfigRecord { target, name, value })
            }),
    ]
}

proptest! {
    #[test]
    fn batches_come_back_as_they_were(records in prop::collection::vec(records(), 0..8)) {
        prop_assert_eq!(decode_batch(&encode_batch(&records)).unwrap(), records);
    }

    /// Neither a cut nor foreign bytes panic or decode to something.
    #[test]
    fn a_cut_batch_is_refused(records in prop::collection::vec(records(), 1..4), cut in any::<prop::sample::Index>()) {
        let bytes = encode_batch(&records);
        let cut = cut.index(bytes.len());
        prop_assert!(decode_batch(&bytes[..cut]).is_err());
    }

    #[test]
    fn changed_bytes_do_not_panic(
        records in prop::collection::vec(records(), 1..4),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encode_batch(&records);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode_batch(&bytes);
    }

    #[test]
    fn foreign_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_batch(&bytes);
    }
}
