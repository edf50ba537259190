"""Clients of all kinds at once, and what they did and saw, as a history for the checker."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, TypeVar

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from crc32c import crc32c

from headwater.protocol.apis import ApiKey
from headwater.protocol.messages.delete_topics import DeleteTopicsRequest
from headwater.protocol.records import Record, build_batch
from headwater.testing.simulate.history import (
    NEVER,
    CommitOffset,
    DeleteRecords,
    DeleteTopic,
    EndTransaction,
    History,
    Outcome,
    Poll,
    Send,
)
from tests.broker.wire import Wire

TIMEOUT_S = 90
PARTITIONS = 3
IN_FLIGHT_MAX = 300
PADDING_BYTES_MAX = 3000
ORDERS = {"segment.bytes": str(1 << 20)}
NEWEST = {"cleanup.policy": "compact", "segment.ms": "200", "min.cleanable.dirty.ratio": "0.01"}
QUIET = {"log_level": 0, "socket.timeout.ms": 60_000}
TRANSACTIONAL_IDS = ("writer", "copier")
Result = TypeVar("Result")


def padded(label: bytes) -> bytes:
    """A record's value: its label, and as many bytes more as the label says."""
    size: int = crc32c(label) % PADDING_BYTES_MAX
    return label + b"|" + label[-1:] * size


def label_of(value: bytes) -> bytes:
    """Raises ValueError for a value that `padded` has not made."""
    label, _, padding = value.partition(b"|")
    if padding.count(label[-1:]) != len(padding):
        raise ValueError(f"a value is not what was sent: {value[:100]!r}")
    return label


@dataclass(slots=True)
class Fact:
    """A topic that was created or deleted."""

    name: str
    exists: bool
    began: int
    ended: int = NEVER


class Clients:
    """`start` lets them work until `stop`; one that fails is an error of `stop`."""

    def __init__(self, address: str, seed: int) -> None:
        self.address = address
        self.settings = {"bootstrap.servers": address, **QUIET}
        self.history = History(clock=time.monotonic_ns)
        self.facts: list[Fact] = []
        self.random = Random(seed)
        self.over = threading.Event()
        self.errors: list[BaseException] = []
        self.threads: list[threading.Thread] = []
        self.admin = AdminClient(self.settings)

    def start(self) -> None:
        topics = [NewTopic("orders", PARTITIONS, 1, config=ORDERS), NewTopic("copies", 1, 1), NewTopic("noise", 1, 1)]
        topics.append(NewTopic("newest", 1, 1, config=NEWEST))
        for done in self.admin.create_topics(topics).values():
            done.result(TIMEOUT_S)
        for part in self.parts():
            thread = threading.Thread(target=self.run, args=(part, Random(self.random.getrandbits(32))))
            self.threads.append(thread)
            thread.start()

    def parts(self) -> list[Callable[[Random], None]]:
        """What is done at the same time."""
        return [
            partial(self.produce, "p1"),
            partial(self.produce, "p2"),
            self.make_noise,
            self.update,
            self.write_transactions,
            self.copy,
            self.read,
            self.pass_topics,
        ]

    def run(self, part: Callable[[Random], None], random: Random) -> None:
        try:
            part(random)
        except BaseException as error:  # noqa: BLE001 - raised by `stop`
            self.errors.append(error)
            self.over.set()

    def stop(self) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def patiently(self, call: Callable[[], Result]) -> Result:
        """The result of a call of librdkafka. Here the broker is always there; raises KafkaException where it fails."""
        return call()

    # -- producers

    def delivered(self, send: Send, error: Any, message: Message) -> None:
        if error is None:
            send.offset = message.offset()
            self.history.end(send, Outcome.OK)

    def send(self, producer: Producer, send: Send, **options: Any) -> None:
        """Sends the one value of `send`."""
        self.history.begin(send)
        value = padded(send.values[0])
        delivered = partial(self.delivered, send)
        producer.produce(send.topic, value, partition=send.partition, on_delivery=delivered, **options)

    def produce(self, name: str, random: Random) -> None:
        """Idempotent, acks=all, many in flight."""
        producer = Producer({**self.settings, "enable.idempotence": True, "linger.ms": 2, "batch.num.messages": 50})
        number = 0
        while not self.over.is_set():
            for partition in range(PARTITIONS):
                label = b"%s.%d.%d" % (name.encode(), partition, number)
                self.send(
                    producer, Send(process=name, topic="orders", partition=partition, values=(label,), producer=name)
                )
                number += 1
            producer.poll(0)
            while len(producer) > IN_FLIGHT_MAX:
                producer.poll(0.01)
            if random.random() < 0.3:
                self.over.wait(0.005)
        assert producer.flush(TIMEOUT_S) == 0

    def make_noise(self, random: Random) -> None:
        """acks=1: nothing is promised, but it is in the same journal."""
        producer = Producer({**self.settings, "acks": 1, "linger.ms": 0})
        number = 0
        while not self.over.is_set():
            send = Send(process="noise", topic="noise", partition=0, values=(b"noise.%d" % number,), is_durable=False)
            self.send(producer, send)
            producer.poll(0.005 * random.random())
            number += 1
        assert producer.flush(TIMEOUT_S) == 0

    def update(self, random: Random) -> None:
        """Ever newer values of few keys, in a compacted topic."""
        producer = Producer({**self.settings, "enable.idempotence": True, "linger.ms": 1})
        number = 0
        while not self.over.is_set():
            key = b"key-%d" % random.randrange(20)
            values = (b"u.%d" % number,)
            send = Send(process="u", topic="newest", partition=0, values=values, keys=(key,), producer="u")
            self.send(producer, send, key=key)
            number += 1
            producer.poll(0.002)
        assert producer.flush(TIMEOUT_S) == 0

    # -- transactions

    def write_transactions(self, random: Random) -> None:
        """Records in all partitions, then a commit or an abort."""
        producer = Producer({**self.settings, "transactional.id": "writer", "linger.ms": 1})
        producer.init_transactions(TIMEOUT_S)
        number = 0
        while not self.over.is_set():
            name = f"writer/{number}"
            producer.begin_transaction()
            for n in range(random.randrange(1, 12)):
                values = (b"w.%d.%d" % (number, n),)
                partition = random.randrange(PARTITIONS)
                send = Send(process="w", topic="orders", partition=partition, values=values)
                send.producer, send.transaction = "w", name
                self.send(producer, send)
            self.end_transaction(producer, "w", name, commit=random.random() < 0.7)
            number += 1

    def end_transaction(self, producer: Producer, process: str, name: str, *, commit: bool) -> None:
        end = EndTransaction(process=process, transaction=name, commit=commit)
        assert producer.flush(TIMEOUT_S) == 0
        self.history.begin(end)
        if commit:
            producer.commit_transaction(TIMEOUT_S)
        else:
            producer.abort_transaction(TIMEOUT_S)
        self.history.end(end, Outcome.OK)

    def copy(self, random: Random) -> None:
        """Consumes, produces and commits the offsets in one transaction."""
        consumer = Consumer(
            {**self.settings, "group.id": "copier", "isolation.level": "read_committed", "enable.auto.commit": False}
        )
        producer = Producer({**self.settings, "transactional.id": "copier", "linger.ms": 1})
        producer.init_transactions(TIMEOUT_S)
        position, number = 0, 0
        consumer.assign([TopicPartition("orders", 0, 0)])
        while not self.over.is_set():
            messages = consumer.consume(100, 0.2)
            if not messages:
                continue
            name = f"copier/{number}"
            number += 1
            following = self.copy_messages(producer, consumer, name, messages)
            is_committed = random.random() < 0.8
            self.end_transaction(producer, "c", name, commit=is_committed)
            if is_committed:
                position = following
            else:
                consumer.seek(TopicPartition("orders", 0, position))
        consumer.close()

    def copy_messages(self, producer: Producer, consumer: Consumer, name: str, messages: list[Message]) -> int:
        """A transaction up to its end, with the group's offset in it; returns that offset."""
        producer.begin_transaction()
        for message in messages:
            values = (b"copy:" + label_of(message.value()),)
            send = Send(process="c", topic="copies", partition=0, values=values, producer="c", transaction=name)
            self.send(producer, send)
        following: int = messages[-1].offset() + 1
        commit = CommitOffset(
            process="c", group="copier", topic="orders", partition=0, offset=following, transaction=name
        )
        self.history.begin(commit)
        offsets, group = [TopicPartition("orders", 0, following)], consumer.consumer_group_metadata()
        self.patiently(lambda: producer.send_offsets_to_transaction(offsets, group, TIMEOUT_S))
        self.history.end(commit, Outcome.OK)
        return following

    # -- readers

    def read(self, random: Random) -> None:
        """A member that commits what it has read."""
        settings = {"group.id": "readers", "isolation.level": "read_uncommitted", "enable.auto.commit": False}
        consumer = Consumer({**self.settings, **settings})
        positions = dict.fromkeys(range(PARTITIONS - 1), 0)  # of the last one, records are deleted
        consumer.assign([TopicPartition("orders", partition, 0) for partition in positions])
        while not self.over.is_set():
            polls = {
                partition: Poll(process="r", topic="orders", partition=partition, position=position, group="readers")
                for partition, position in positions.items()
            }
            for poll in polls.values():
                poll.began = self.history.clock()
            messages = consumer.consume(500, 0.1)
            for partition, poll in polls.items():
                records = [(m.offset(), label_of(m.value())) for m in messages if m.partition() == partition]
                if not records:
                    continue
                poll.records, poll.next_position = tuple(records), records[-1][0] + 1
                self.history.operations.append(poll)  # `until` sorts
                self.history.end(poll, Outcome.OK)
                positions[partition] = poll.next_position
                self.commit(consumer, partition, poll.next_position)
            self.over.wait(random.random() * 0.05)
        consumer.close()

    def commit(self, consumer: Consumer, partition: int, offset: int) -> None:
        operation = CommitOffset(process="r", group="readers", topic="orders", partition=partition, offset=offset)
        self.history.begin(operation)
        consumer.commit(offsets=[TopicPartition("orders", partition, offset)], asynchronous=False)
        self.history.end(operation, Outcome.OK)

    # -- topics that come and go

    def pass_topics(self, random: Random) -> None:
        """One name is used again and again; other topics stay; records are deleted."""
        life = 0
        with Wire(self.address, TIMEOUT_S) as wire:
            while not self.over.is_set():
                topic = f"passing#{life}"
                self.create(wire, "passing")
                for number in range(4):
                    values = (b"%s.%d" % (topic.encode(), number),)
                    send = self.history.begin(Send(process="t", topic=topic, partition=number % 2, values=values))
                    batch = build_batch([Record(None, padded(values[0]), (), int(time.time() * 1000))])
                    assert wire.produce("passing", send.partition, batch) == 0
                    self.history.end(send, Outcome.OK)
                self.delete(wire, topic)
                self.create(wire, f"kept-{life}")
                self.delete_records()
                life += 1
                self.over.wait(random.random() * 0.1)

    def create(self, wire: Wire, name: str) -> None:
        fact = Fact(name, True, self.history.clock())
        self.facts.append(fact)
        wire.create_topic(name, 2)
        fact.ended = self.history.clock()

    def delete(self, wire: Wire, life: str) -> None:
        name = life.partition("#")[0]
        fact = Fact(name, False, self.history.clock())
        self.facts.append(fact)
        operation = self.history.begin(DeleteTopic(process="t", topic=life))
        body = DeleteTopicsRequest([DeleteTopicsRequest.DeleteTopicState(name)], timeout_ms=TIMEOUT_S * 1000)
        answer = wire.call(ApiKey.DELETE_TOPICS, 6, body)
        assert answer.responses[0].error_code == 0, answer
        self.history.end(operation, Outcome.OK)
        fact.ended = self.history.clock()

    def delete_records(self) -> None:
        """The first half of what there is in the last partition."""
        place = TopicPartition("orders", PARTITIONS - 1)
        consumer = Consumer({**self.settings, "group.id": "unused"})
        low, high = consumer.get_watermark_offsets(place, timeout=TIMEOUT_S)
        consumer.close()
        before = low + (high - low) // 2
        operation = DeleteRecords(process="t", topic="orders", partition=place.partition, before=before)
        self.history.begin(operation)
        place.offset = before
        done = self.admin.delete_records([place])[place].result(TIMEOUT_S)
        operation.low_watermark = done.low_watermark
        self.history.end(operation, Outcome.OK)
