"""librdkafka by confluent-kafka: python confluent_check.py ADDRESS TOPIC."""

import sys
import time
from collections.abc import Iterable

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

ROUNDS = 10
TIMEOUT_S = 20
address, topic = sys.argv[1:]
server = {"bootstrap.servers": address}
partition = TopicPartition(topic, 0)


def produce(producer: Producer, values: Iterable[str]) -> None:
    errors: list[KafkaError] = []
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, _: errors.append(error) if error else None)
    assert producer.flush(TIMEOUT_S) == 0
    assert errors == []


def consumer(isolation: str = "read_committed") -> Consumer:
    settings = {"group.id": topic, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    return Consumer(server | settings | {"isolation.level": isolation})


def end_offset() -> int:
    return int(probe.get_watermark_offsets(partition, timeout=TIMEOUT_S)[1])


def wait_for_end(offset: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while end_offset() < offset:
        assert time.monotonic() < deadline


def read_to_the_end(reader: Consumer) -> list[str]:
    end = end_offset()
    values: list[str] = []
    for _ in range(TIMEOUT_S * 10):
        for message in reader.consume(100, 0.1):
            assert isinstance(message, Message)
            assert message.error() is None, message.error()
            values.append(message.value().decode())
        (position,) = reader.position([partition])
        if position.offset >= end:
            return values
    raise AssertionError(f"only {values} of {end} offsets came")


admin = AdminClient(server)
admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(TIMEOUT_S)
expected = []
probe = consumer()
for acks in ("1", "all", "0"):
    writer = Producer(server | {"acks": acks, "linger.ms": 0})
    for n in range(ROUNDS):
        produce(writer, [f"{acks} {n}"])
        expected.append(f"{acks} {n}")
        if acks != "0":
            assert end_offset() == len(expected), acks
wait_for_end(len(expected))  # acks=0 promises nothing
produce(Producer(server | {"enable.idempotence": True}), ["idempotent"])
expected.append("idempotent")

writer = Producer(server | {"transactional.id": topic})
writer.init_transactions(TIMEOUT_S)
for n in range(4):
    writer.begin_transaction()
    produce(writer, [f"transaction {n}"])
    if n % 2:
        writer.abort_transaction(TIMEOUT_S)
    else:
        writer.commit_transaction(TIMEOUT_S)
        expected.append(f"transaction {n}")

reader = consumer()
reader.subscribe([topic])
found = read_to_the_end(reader)
assert found == expected, (found, expected)
reader.commit(asynchronous=False)
reader.close()
(committed,) = probe.committed([partition], timeout=TIMEOUT_S)
assert committed.offset == end_offset()

uncommitted = consumer("read_uncommitted")
uncommitted.assign([TopicPartition(topic, 0, 0)])
assert len(read_to_the_end(uncommitted)) == len(expected) + 2
uncommitted.close()
probe.close()
admin.delete_topics([topic])[topic].result(TIMEOUT_S)
print("ok", confluent_kafka.__version__)
