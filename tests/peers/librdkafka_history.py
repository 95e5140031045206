"""librdkafka through the confluent-kafka wheel, as a client of a fault bed: it tells everything that it does and sees as lines of
a history, each with the time of the machine's monotonic clock.

    produce BOOTSTRAP TOPIC PARTITIONS PROCESS RATE
    member BOOTSTRAP TOPIC PARTITIONS GROUP
    read BOOTSTRAP TOPIC PARTITIONS

On standard input `hold` stops sending (`{"held": true}` is told when everything has its answer), `go` goes on, and the end of
the input ends it.
"""

import json
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

tell_lock = threading.Lock()
state = {"is_open": True, "is_over": False, "holds": 0}


def tell(event, ns=None):
    with tell_lock:
        sys.stdout.write(json.dumps({"ns": ns or time.monotonic_ns(), "event": event}) + "\n")
        sys.stdout.flush()


def listen():
    for line in sys.stdin:
        # Each is answered, also one that follows a `go` at once.
        state["holds"] += line.strip() == "hold"
        state["is_open"] = line.strip() != "hold"
    state["is_over"] = True


def fnv1a(data):
    total = 0xCBF29CE484222325
    for byte in data:
        total = ((total ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return total


def write(value, at, padding):
    pad = "".join(chr(97 + (value + index) % 26) for index in range(padding))
    text = f"{value:016x} {at} {pad} ".encode()
    return text + f"{fnv1a(text):016x}".encode()


def read(payload, at):
    try:
        body, total = payload[:-16], payload[-16:]
        if int(total, 16) != fnv1a(body):
            return None
        value, where = body.decode().split(" ")[:2]
        return int(value, 16) if where == at else None
    except ValueError:
        return None


def configuration(bootstrap, **settings):
    # Its wait before it connects again doubles up to ten seconds; a round of the bed is shorter.
    return {"bootstrap.servers": bootstrap, "reconnect.backoff.max.ms": 1000, "topic.metadata.refresh.interval.ms": 5000, **settings}


def produce(bootstrap, topic, partitions, process, rate):
    partitions, process, rate = int(partitions), int(process), int(rate)
    waiting = set()

    def answered(error, message, value):
        waiting.discard(value)
        if error is None:
            tell({"acked": {"value": value, "offset": message.offset()}})
        else:
            # It does not say whether the record may have been written.
            tell({"unknown": {"value": value, "error": str(error)}})

    settings = {"enable.idempotence": True, "linger.ms": 0, "message.timeout.ms": 45000}
    producer = Producer(configuration(bootstrap, **settings))
    count, told = 0, 0
    while not state["is_over"]:
        if not state["is_open"]:
            producer.poll(0.02)
            holds = state["holds"]
            if not waiting and told < holds:
                told = holds
                with tell_lock:
                    sys.stdout.write('{"held": true}\n')
                    sys.stdout.flush()
            continue
        until = time.monotonic() + 1 / rate
        partition, value = count % partitions, (process << 40) + count
        at = f"{topic}-{partition}"
        count += 1
        waiting.add(value)
        tell({"send": {"at": at, "value": value}})
        try:
            producer.produce(topic, write(value, at, 20 + count % 200), partition=partition,
                             on_delivery=lambda error, message, value=value: answered(error, message, value))
        except (BufferError, KafkaException) as error:
            waiting.discard(value)
            tell({"failed": {"value": value, "error": str(error)}})
        while (left := until - time.monotonic()) > 0:
            producer.poll(left)
    producer.flush(10)


def consume(bootstrap, topic, partitions, group):
    places = [f"{topic}-{partition}" for partition in range(int(partitions))]
    settings = {"group.id": group or "unused", "auto.offset.reset": "earliest", "enable.auto.commit": False,
                "session.timeout.ms": 10000, "check.crcs": True}
    consumer = Consumer(configuration(bootstrap, **settings))

    def name(partitions):
        return [f"{found.topic}-{found.partition}" for found in partitions]

    if group:
        tell({"subscribe": {"group": group}})
        consumer.subscribe([topic], on_assign=lambda _, found: tell({"assigned": {"partitions": name(found)}}),
                           on_revoke=lambda _, found: tell({"revoked": {"partitions": name(found)}}),
                           on_lost=lambda _, found: tell({"revoked": {"partitions": name(found)}}))
    else:
        tell({"assign_from_start": {"partitions": places}})
        consumer.assign([TopicPartition(topic, index, 0) for index in range(len(places))])
    while not state["is_over"]:
        since = time.monotonic_ns()
        found, order = {}, []
        for message in consumer.consume(500, 0.1):
            at = f"{message.topic()}-{message.partition()}"
            if message.error():
                if message.error().code() in (KafkaError._BAD_MSG, KafkaError.INVALID_MSG):
                    tell({"corrupt": {"at": at, "error": str(message.error())}})
                else:
                    print(message.error(), file=sys.stderr)
                continue
            if at not in found:
                order.append(at)
            found.setdefault(at, []).append((message.offset(), read(message.value() or b"", at)))
        if not found:
            continue
        tell({"poll": {"since_ns": since, "found": [{"at": at, "records": found[at]} for at in order]}})
        if group:
            commit(consumer, topic, group, {at: found[at][-1][0] + 1 for at in order})
    consumer.close()


def commit(consumer, topic, group, ends):
    offsets = [TopicPartition(topic, int(at.rsplit("-", 1)[1]), end) for at, end in ends.items()]
    for at, end in ends.items():
        tell({"commit_sent": {"group": group, "at": at, "offset": end}})
    try:
        for found in consumer.commit(offsets=offsets, asynchronous=False):
            if found.error is None:
                tell({"commit_acked": {"group": group, "at": f"{topic}-{found.partition}", "offset": found.offset}})
    except KafkaException as error:
        print(f"commit: {error}", file=sys.stderr)


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "payload":
        print(write(int(rest[0], 16), rest[1], int(rest[2])).decode())
        sys.exit()
    threading.Thread(target=listen, daemon=True).start()
    {"produce": produce, "member": consume, "read": lambda *rest: consume(*rest, None)}[what](*rest)
