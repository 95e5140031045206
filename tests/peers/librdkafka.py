"""librdkafka at its defaults, through the confluent-kafka wheel: a producer at a steady rate, or a
consumer of a group, which tell each acknowledgement and each record in the words of Kafka's
VerifiableProducer and VerifiableConsumer. SIGTERM ends them in order.

    produce BOOTSTRAP TOPIC PREFIX RATE
    consume BOOTSTRAP TOPIC GROUP

LIBRDKAFKA_DEBUG names contexts of its log (broker,metadata,msg,eos); it goes to standard error.
"""

import json
import os
import signal
import sys
import time

from confluent_kafka import Consumer, Producer

is_over = False


def on_signal(*_):
    global is_over
    is_over = True


def tell(**event):
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def configuration(bootstrap, **settings):
    debug = os.environ.get("LIBRDKAFKA_DEBUG")
    return {"bootstrap.servers": bootstrap, **settings, **({"debug": debug} if debug else {})}


def produce(bootstrap, topic, prefix, rate):
    def on_delivery(error, message):
        value = message.value().decode()
        if error is None:
            tell(name="producer_send_success", value=value, offset=message.offset())
        else:
            tell(name="producer_send_error", value=value, message=str(error))

    # Idempotence means acks=all; everything else is as it comes.
    settings = configuration(bootstrap, **{"enable.idempotence": True})
    producer = Producer(settings)
    began = time.monotonic()
    number = 0
    while not is_over:
        due = began + number / int(rate)
        while (left := due - time.monotonic()) > 0:
            producer.poll(max(left, 0.001))
        producer.produce(topic, f"{prefix}.{number}", on_delivery=on_delivery)
        number += 1
        producer.poll(0)
    sys.exit(1 if producer.flush(60) else 0)


def consume(bootstrap, topic, group):
    settings = {"group.id": group, "auto.offset.reset": "earliest"}
    consumer = Consumer(configuration(bootstrap, **settings))
    consumer.subscribe([topic])
    while not is_over:
        for message in consumer.consume(500, 0.1):
            if message.error():
                print(message.error(), file=sys.stderr)
            else:
                tell(name="record_data", value=message.value().decode(), offset=message.offset())
    consumer.close()


signal.signal(signal.SIGTERM, on_signal)
{"produce": produce, "consume": consume}[sys.argv[1]](*sys.argv[2:])
