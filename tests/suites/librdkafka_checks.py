"""The checks of the librdkafka suite. Prints one JSON object a check: test, outcome, detail."""

import json
import os
import threading
import time
import uuid

from confluent_kafka import (
    OFFSET_BEGINNING, Consumer, ConsumerGroupTopicPartitions, IsolationLevel, KafkaError,
    KafkaException, Producer, TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic,
    OffsetSpec, ResourceType,
)

ADDRESS = os.environ["BROKER"]
CHECKS = []


def check(function):
    CHECKS.append((function.__name__.replace("_", " "), function))
    return function


def each_codec(function):
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        CHECKS.append((f"{function.__name__.replace('_', ' ')} [{codec}]",
                       lambda codec=codec: function(codec)))
    return function


def fresh(word):
    return f"{word}-{uuid.uuid4().hex[:12]}"


def client(**settings):
    base = {"bootstrap.servers": ADDRESS, "socket.timeout.ms": 10000}
    base.update({name.replace("_", "."): value for name, value in settings.items()})
    return base


ADMIN = AdminClient(client())


def results(futures):
    return {key: future.result(20) for key, future in futures.items()}


def made(partitions=1, **config):
    topic = fresh("topic")
    config = {name.replace("_", "."): value for name, value in config.items()}
    results(ADMIN.create_topics([NewTopic(topic, partitions, 1, config=config)]))
    # Apache Kafka answers before every part of it knows the topic.
    eventually(lambda: topic in ADMIN.list_topics(topic, timeout=10).topics
               and ADMIN.list_topics(topic, timeout=10).topics[topic].error is None)
    return topic


def eventually(condition, seconds=10):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.05)


def produce(topic, messages, **settings):
    """Produces dictionaries; answers the offsets in order, or raises the first error."""
    producer = Producer(client(**settings))
    reports = [None] * len(messages)

    def delivered(index):
        def on_delivery(error, message):
            reports[index] = error or message.offset()
        return on_delivery

    for index, message in enumerate(messages):
        producer.produce(topic, on_delivery=delivered(index), **message)
    left = producer.flush(30)
    assert left == 0, f"{left} messages are still queued after 30 s"
    for report in reports:
        if isinstance(report, KafkaError):
            raise KafkaException(report)
    return reports


def consume(consumer, count, seconds=20):
    found, until = [], time.monotonic() + seconds
    while len(found) < count:
        assert time.monotonic() < until, f"{len(found)} of {count} messages came"
        message = consumer.poll(0.5)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        found.append(message)
    return found


def read(topic, count, partition=0, **settings):
    consumer = Consumer(client(group_id=fresh("group"), enable_auto_commit=False, **settings))
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
    try:
        return consume(consumer, count)
    finally:
        consumer.close()


@each_codec
def values_come_back(codec):
    topic = made()
    values = [f"value {index} ".encode() * 30 for index in range(500)]
    offsets = produce(topic, [{"value": value} for value in values], compression_type=codec)
    assert offsets == list(range(500)), offsets[:5]
    assert [message.value() for message in read(topic, 500)] == values


@check
def keys_headers_and_timestamps_come_back():
    topic = made()
    produce(topic, [
        {"key": b"k", "value": b"v", "timestamp": 1700000000123,
         "headers": [("h", b"1"), ("h", b"2"), ("none", None)]},
        {"value": None, "key": b"tombstone"}, {"value": b""},
    ])
    first, tombstone, empty = read(topic, 3)
    assert first.key() == b"k" and first.timestamp() == (1, 1700000000123)
    assert first.headers() == [("h", b"1"), ("h", b"2"), ("none", None)]
    assert tombstone.value() is None and empty.value() == b"" and empty.key() is None


@check
def idempotent_producer_keeps_order():
    topic = made()
    values = [str(index).encode() for index in range(5000)]
    produce(topic, [{"value": value} for value in values], enable_idempotence=True, linger_ms=0)
    assert [message.value() for message in read(topic, 5000)] == values


@check
def acks_0_and_1():
    topic = made()
    produce(topic, [{"value": b"zero"}], acks=0)
    produce(topic, [{"value": b"one"}], acks=1)
    assert sorted(message.value() for message in read(topic, 2)) == [b"one", b"zero"]


@check
def append_time_is_the_brokers():
    topic = made(message_timestamp_type="LogAppendTime")
    before = time.time() * 1000 - 1000
    produce(topic, [{"value": b"x", "timestamp": 5}])
    (message,) = read(topic, 1)
    kind, timestamp = message.timestamp()
    assert kind == 2 and timestamp > before, (kind, timestamp)


@check
def too_large_a_message_is_refused():
    topic = made(max_message_bytes="1000")
    try:
        produce(topic, [{"value": os.urandom(5000)}])
    except KafkaException as error:
        assert error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE, error
    else:
        raise AssertionError("it was taken")


@check
def keyless_message_to_a_compacted_topic_is_refused():
    topic = made(cleanup_policy="compact")
    produce(topic, [{"key": b"k", "value": b"v"}])
    try:
        produce(topic, [{"value": b"v"}], retries=0)
    except KafkaException as error:
        assert error.args[0].code() in (KafkaError.INVALID_RECORD, KafkaError.INVALID_MSG), error
    else:
        raise AssertionError("it was taken")


@check
def unknown_topic_is_made_by_producing_to_it():
    topic = fresh("auto")
    produce(topic, [{"value": b"x"}])
    metadata = ADMIN.list_topics(topic, timeout=10)
    assert len(metadata.topics[topic].partitions) == 4


@check
def topics_are_made_listed_and_deleted():
    topic = made(3)
    assert len(ADMIN.list_topics(timeout=10).topics[topic].partitions) == 3
    results(ADMIN.delete_topics([topic]))
    eventually(lambda: topic not in ADMIN.list_topics(timeout=10).topics)


@check
def topic_that_exists_is_not_made_again():
    topic = made()
    try:
        results(ADMIN.create_topics([NewTopic(topic, 1, 1)]))
    except KafkaException as error:
        assert error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS
    else:
        raise AssertionError("it was made")


@check
def invalid_topics_are_refused():
    for topic, code in ((NewTopic("no spaces", 1, 1), KafkaError.TOPIC_EXCEPTION),
                        (NewTopic(fresh("t"), 0, 1), KafkaError.INVALID_PARTITIONS),
                        (NewTopic(fresh("t"), 1, 100), KafkaError.INVALID_REPLICATION_FACTOR),
                        (NewTopic(fresh("t"), 1, 1, config={"no.such": "1"}),
                         KafkaError.INVALID_CONFIG)):
        try:
            results(ADMIN.create_topics([topic]))
        except KafkaException as error:
            assert error.args[0].code() == code, (topic, error)
        else:
            raise AssertionError(f"{topic} was made")


@check
def partitions_are_added():
    topic = made(1)
    results(ADMIN.create_partitions([NewPartitions(topic, 5)]))
    assert len(ADMIN.list_topics(topic, timeout=10).topics[topic].partitions) == 5


@check
def configuration_is_described_and_altered():
    topic = made(retention_ms="111111")
    resource = ConfigResource(ResourceType.TOPIC, topic)

    def value(name):
        return results(ADMIN.describe_configs([resource]))[resource][name].value

    assert value("retention.ms") == "111111"
    change = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
        ConfigEntry("retention.ms", "222222", incremental_operation=AlterConfigOpType.SET),
        ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.APPEND)])
    results(ADMIN.incremental_alter_configs([change]))
    eventually(lambda: value("retention.ms") == "222222")
    assert set(value("cleanup.policy").split(",")) == {"delete", "compact"}


@check
def broker_configuration_is_described():
    node = next(iter(ADMIN.list_topics(timeout=10).brokers))
    resource = ConfigResource(ResourceType.BROKER, str(node))
    found = results(ADMIN.describe_configs([resource]))[resource]
    assert "log.retention.ms" in found and "num.partitions" in found, sorted(found)[:20]


@check
def cluster_is_described():
    cluster = ADMIN.describe_cluster().result(20)
    assert cluster.cluster_id and cluster.controller and len(cluster.nodes) >= 1


@check
def watermarks_and_offsets_by_timestamp():
    topic = made()
    base = 1700000000000
    produce(topic, [{"value": b"x", "timestamp": base + index * 1000} for index in range(10)])
    consumer = Consumer(client(group_id=fresh("group")))
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0), 10) == (0, 10)
    found = consumer.offsets_for_times([TopicPartition(topic, 0, base + 4500)], 10)
    assert found[0].offset == 5, found
    consumer.close()
    spec = {TopicPartition(topic, 0): OffsetSpec.max_timestamp()}
    assert [r.offset for r in results(ADMIN.list_offsets(spec)).values()] == [9]


@check
def records_are_deleted():
    topic = made()
    produce(topic, [{"value": b"x"}] * 10)
    results(ADMIN.delete_records([TopicPartition(topic, 0, 6)]))
    assert read(topic, 4)[0].offset() == 6


@check
def reading_stops_at_the_end_of_the_partition():
    topic = made()
    produce(topic, [{"value": b"x"}])
    consumer = Consumer(client(group_id=fresh("group"), enable_partition_eof=True))
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    consume(consumer, 1)
    message = None
    while message is None:
        message = consumer.poll(10)
    assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
    consumer.close()


@check
def offset_out_of_range_is_reset():
    topic = made()
    produce(topic, [{"value": b"x"}] * 3)
    consumer = Consumer(client(group_id=fresh("group"), auto_offset_reset="earliest"))
    consumer.assign([TopicPartition(topic, 0, 1000)])
    assert consume(consumer, 1)[0].offset() == 0
    consumer.close()


@check
def waiting_reader_gets_a_message_at_once():
    topic = made()
    consumer = Consumer(client(group_id=fresh("group"), fetch_wait_max_ms=10000,
                               auto_offset_reset="earliest"))
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    consumer.poll(1)
    producing = threading.Timer(1, lambda: produce(topic, [{"value": b"x"}]))
    producing.start()
    begun = time.monotonic()
    consume(consumer, 1)
    taken = time.monotonic() - begun
    assert taken < 5, f"{taken:.1f} s"
    producing.join()
    consumer.close()


@check
def group_resumes_after_its_commit():
    topic, group = made(), fresh("group")
    produce(topic, [{"value": str(index).encode()} for index in range(10)])
    settings = client(group_id=group, auto_offset_reset="earliest", enable_auto_commit=False)
    consumer = Consumer(settings)
    consumer.subscribe([topic])
    messages = consume(consumer, 10)
    consumer.commit(message=messages[3], asynchronous=False)
    consumer.close()
    consumer = Consumer(settings)
    consumer.subscribe([topic])
    assert consume(consumer, 1)[0].value() == b"4"
    consumer.close()


def balanced(strategy, **settings):
    topic, group = made(6), fresh("group")
    config = client(group_id=group, auto_offset_reset="earliest", session_timeout_ms=10000,
                    partition_assignment_strategy=strategy, heartbeat_interval_ms=500)
    first = Consumer({**config, **settings})
    second = Consumer(config)
    first.subscribe([topic])
    until = time.monotonic() + 30
    while len(first.assignment()) != 6:
        first.poll(0.1)
        assert time.monotonic() < until, "the first member does not get everything"
    second.subscribe([topic])
    while not (len(first.assignment()) == len(second.assignment()) == 3):
        first.poll(0.1)
        second.poll(0.1)
        assert time.monotonic() < until, (first.assignment(), second.assignment())
    mine = {part.partition for part in first.assignment()}
    theirs = {part.partition for part in second.assignment()}
    assert mine | theirs == set(range(6))
    second.close()
    while len(first.assignment()) != 6:
        first.poll(0.1)
        assert time.monotonic() < until, "the first member does not get the partitions back"
    first.close()


@check
def members_share_partitions_range():
    balanced("range")


@check
def members_share_partitions_roundrobin():
    balanced("roundrobin")


@check
def members_share_partitions_cooperative():
    balanced("cooperative-sticky")


@check
def static_member_comes_back_without_rebalance():
    topic, group = made(2), fresh("group")
    config = client(group_id=group, auto_offset_reset="earliest", session_timeout_ms=20000)
    rebalances = []
    stays = Consumer({**config, "group.instance.id": "a"})
    stays.subscribe([topic], on_assign=lambda c, parts: rebalances.append(len(parts)))
    leaves = Consumer({**config, "group.instance.id": "b"})
    leaves.subscribe([topic])
    until = time.monotonic() + 30
    while not (len(stays.assignment()) == len(leaves.assignment()) == 1):
        stays.poll(0.1)
        leaves.poll(0.1)
        assert time.monotonic() < until, (stays.assignment(), leaves.assignment())
    before = len(rebalances)
    kept = leaves.assignment()
    leaves.close()
    back = Consumer({**config, "group.instance.id": "b"})
    back.subscribe([topic])
    while not back.assignment():
        stays.poll(0.1)
        back.poll(0.1)
        assert time.monotonic() < until
    assert [p.partition for p in back.assignment()] == [p.partition for p in kept]
    assert len(rebalances) == before, "there was a rebalance"
    stays.close()
    back.close()


@check
def groups_are_listed_described_altered_and_deleted():
    topic, group = made(), fresh("group")
    produce(topic, [{"value": b"x"}] * 5)
    consumer = Consumer(client(group_id=group, auto_offset_reset="earliest"))
    consumer.subscribe([topic])
    consume(consumer, 5)
    consumer.commit(asynchronous=False)
    listed = ADMIN.list_consumer_groups().result(20)
    assert group in [found.group_id for found in listed.valid]
    described = results(ADMIN.describe_consumer_groups([group]))[group]
    assert described.state.name == "STABLE" and len(described.members) == 1, described.state
    consumer.close()
    request = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 2)])
    results(ADMIN.alter_consumer_group_offsets([request]))
    found = results(ADMIN.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))
    assert [p.offset for p in found[group].topic_partitions] == [2]
    results(ADMIN.delete_consumer_groups([group]))
    listed = ADMIN.list_consumer_groups().result(20)
    assert group not in [found.group_id for found in listed.valid]


@check
def read_committed_reads_what_is_not_transactional():
    topic = made()
    produce(topic, [{"value": b"x"}])
    assert len(read(topic, 1, isolation_level="read_committed")) == 1


@check
def recreated_topic_is_read_from_its_start():
    topic = made()
    produce(topic, [{"value": b"old"}] * 3)
    results(ADMIN.delete_topics([topic]))
    until = time.monotonic() + 20
    while True:
        try:
            results(ADMIN.create_topics([NewTopic(topic, 1, 1)]))
            break
        except KafkaException as error:
            assert error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS, error
            assert time.monotonic() < until
            time.sleep(0.1)
    produce(topic, [{"value": b"new"}])
    assert [message.value() for message in read(topic, 1)] == [b"new"]


@check
def many_partitions_at_once():
    topic = made(50)
    producer = Producer(client(linger_ms=20))
    for index in range(5000):
        producer.produce(topic, str(index).encode(), partition=index % 50)
    assert producer.flush(30) == 0
    consumer = Consumer(client(group_id=fresh("group"), auto_offset_reset="earliest"))
    consumer.subscribe([topic])
    found = consume(consumer, 5000, 40)
    assert sorted(int(message.value()) for message in found) == list(range(5000))
    for partition in range(50):
        mine = [int(m.value()) for m in found if m.partition() == partition]
        assert mine == sorted(mine), f"partition {partition} is out of order"
    consumer.close()


for name, function in CHECKS:
    if os.environ["ONLY"] not in name:
        continue
    outcome = {"test": name, "outcome": "pass"}
    try:
        function()
    except Exception as error:
        words = f"{type(error).__name__}: {error}".splitlines()
        outcome = {"test": name, "outcome": "fail", "detail": words[0][:300]}
    print(json.dumps(outcome), flush=True)
