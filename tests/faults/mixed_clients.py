"""The clients of the power cuts (`tests/power/clients.py`) on a broker that is killed and comes back on the same address.

There a broker lives as long as its clients. Here each request may be lost with its broker, so that nobody knows whether it
was carried out: its operation stays open in the history, and the client does what an application would. It tries again what
may be tried again, aborts a transaction that has to be, and looks where it was.

The copier does not re-bootstrap. librdkafka re-bootstraps when its only broker is away: it drops the broker, but not the group
coordinator that it remembers as that broker. `send_offsets_to_transaction` then waits for the dropped one for ever, past its
timeout, although the broker is back (confluentinc/librdkafka#5511 and #5456; seen with 2.16.0 on Apache Kafka 4 as well).
`metadata.recovery.strategy=none` keeps the broker.
"""

import threading
import time
from collections.abc import Callable
from random import Random
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.create_topics import CreateTopicsRequest
from headwater.protocol.messages.delete_topics import DeleteTopicsRequest
from headwater.protocol.records import Record, build_batch
from headwater.testing.simulate.history import NO_OFFSET, DeleteTopic, EndTransaction, FetchOffset, Outcome, Send
from tests.broker.wire import Wire
from tests.power.clients import TIMEOUT_S, Clients, Fact, Result, padded

PATIENCE_S = 60.0  # longer than a broker is away
RECORDS_PER_S = 400  # of each producer: the checker keeps them all in memory
COPIED_MAX = 20  # records of one transaction
SUCCESSION_SHARE = 0.1


class TransactionLostError(Exception):
    """The transaction has to be aborted, or nobody knows whether it was committed."""


class MixedClients(Clients):
    """See the module's docstring."""

    def __init__(self, address: str, seed: int) -> None:
        super().__init__(address, seed)
        self.settings |= {
            "reconnect.backoff.ms": 10,
            "reconnect.backoff.max.ms": 100,
            "retry.backoff.ms": 20,
            "retry.backoff.max.ms": 200,
            "delivery.timeout.ms": 60_000,
            "topic.metadata.refresh.fast.interval.ms": 50,
        }
        self.refused: list[str] = []
        self.has_ended = {"w": threading.Event(), "c": threading.Event()}  # a transaction, by its process

    def run(self, part: Callable[[Random], None], random: Random) -> None:
        try:
            super().run(part, random)
        finally:  # nobody waits for one that has failed
            for event in self.has_ended.values():
                event.set()

    def wait_for_transactions(self) -> None:
        """Waits until each of the transactional clients has ended one more, or a client has failed."""
        for event in self.has_ended.values():
            event.clear()
        for process, event in self.has_ended.items():
            is_set = event.wait(PATIENCE_S)
            assert is_set or self.over.is_set(), f"{process} has ended no transaction in {PATIENCE_S} s"

    def patiently(self, call: Callable[[], Result]) -> Result:
        """The result of a call of librdkafka, which is tried again while the broker is away."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                return call()
            except KafkaException as error:
                problem = error.args[0]
                if problem.txn_requires_abort():
                    raise TransactionLostError(str(problem)) from error
                may_try_again = problem.retriable() or problem.code() < 0  # of librdkafka's own: no broker, no answer
                if problem.fatal() or not may_try_again or time.monotonic() > deadline_s:
                    raise

    # -- producers

    def delivered(self, send: Send, error: Any, message: Message) -> None:
        super().delivered(send, error, message)
        # A transaction that is aborted takes what is still in the queue along, and acks=1 promises nothing.
        if error is not None and send.is_durable and not send.transaction:
            self.refused.append(f"{send.topic}-{send.partition} {send.values[0]!r}: {error}")

    def send(self, producer: Producer, send: Send, **options: Any) -> None:
        try:
            super().send(producer, send, **options)
        except KafkaException as error:
            if send.transaction:  # it has failed meanwhile
                raise TransactionLostError(str(error)) from error
            raise
        self.over.wait(1 / RECORDS_PER_S)

    # -- transactions

    def write_transactions(self, random: Random) -> None:
        producer = Producer({**self.settings, "transactional.id": "writer", "linger.ms": 1})
        self.patiently(lambda: producer.init_transactions(TIMEOUT_S))
        number = 0
        while not self.over.is_set():
            name = f"writer/{number}"
            producer.begin_transaction()
            try:
                for n in range(random.randrange(1, 12)):
                    send = Send(
                        process="w", topic="orders", partition=random.randrange(3), values=(b"w.%d.%d" % (number, n),)
                    )
                    send.producer, send.transaction = "w", name
                    self.send(producer, send)
                self.end_transaction(producer, "w", name, commit=random.random() < 0.7)
            except TransactionLostError:
                self.abort(producer)
            number += 1

    def abort(self, producer: Producer) -> None:
        self.patiently(lambda: producer.abort_transaction(TIMEOUT_S))

    def end_transaction(self, producer: Producer, process: str, name: str, *, commit: bool) -> None:
        self.patiently(lambda: producer.flush(TIMEOUT_S))
        end = EndTransaction(process=process, transaction=name, commit=commit)
        self.history.begin(end)
        call = producer.commit_transaction if commit else producer.abort_transaction
        self.patiently(lambda: call(TIMEOUT_S))
        self.history.end(end, Outcome.OK)
        self.has_ended[process].set()

    def copy(self, random: Random) -> None:
        """After each transaction that is not known to be committed, it continues at its group's position.

        Now and then a successor with the same transactional id begins in the middle of a transaction.
        """
        consumer = Consumer(
            {**self.settings, "group.id": "copier", "isolation.level": "read_committed", "enable.auto.commit": False}
        )
        producer = self.start_copier()
        self.go_to_committed(consumer)
        number = 0
        while not self.over.is_set():
            found = consumer.consume(random.randrange(1, COPIED_MAX), 0.2)
            messages = [message for message in found if message.error() is None]
            if not messages:
                continue
            name = f"copier/{number}"
            number += 1
            try:
                self.copy_messages(producer, consumer, name, messages)
                if random.random() < SUCCESSION_SHARE:
                    predecessor, producer = producer, self.start_copier()
                    self.commit_too_late(predecessor, name)
                else:
                    is_committed = random.random() < 0.8
                    self.end_transaction(producer, "c", name, commit=is_committed)
                    if is_committed:
                        continue
            except TransactionLostError:
                self.abort(producer)
            self.go_to_committed(consumer)
        consumer.close()

    def start_copier(self) -> Producer:
        """A producer that has aborted what its predecessor had open."""
        producer = Producer(
            {**self.settings, "transactional.id": "copier", "linger.ms": 1, "metadata.recovery.strategy": "none"}
        )
        self.patiently(lambda: producer.init_transactions(TIMEOUT_S))
        return producer

    def commit_too_late(self, producer: Producer, name: str) -> None:
        """A commit by a producer whose successor has begun: whatever its error is, it has not happened and will not."""
        end = self.history.begin(EndTransaction(process="c", transaction=name, commit=True))
        try:
            producer.commit_transaction(TIMEOUT_S)
        except KafkaException as error:
            self.history.end(end, Outcome.FAILED, str(error))
        else:
            self.history.end(end, Outcome.OK)  # the checker knows better

    def go_to_committed(self, consumer: Consumer) -> None:
        """The position that the group has committed."""
        fetch = FetchOffset(process="c", group="copier", topic="orders", partition=0)
        self.history.begin(fetch)
        place = TopicPartition("orders", 0)
        (found,) = self.patiently(lambda: consumer.committed([place], timeout=TIMEOUT_S))
        fetch.offset = max(found.offset, NO_OFFSET)
        self.history.end(fetch, Outcome.OK)
        place.offset = max(found.offset, 0)
        consumer.assign([place])

    # -- readers

    def commit(self, consumer: Consumer, partition: int, offset: int) -> None:
        try:
            super().commit(consumer, partition, offset)
        except KafkaException as error:  # a later one says more
            if error.args[0].fatal():
                raise

    def delete_records(self) -> None:
        try:
            super().delete_records()
        except KafkaException as error:
            if error.args[0].fatal():
                raise

    # -- topics that come and go

    def pass_topics(self, random: Random) -> None:
        life, is_unsure = 0, False
        while not self.over.is_set():
            try:
                with Wire(self.address, TIMEOUT_S) as wire:
                    while not self.over.is_set():
                        if is_unsure:  # the next life of the name begins where this one has certainly ended
                            self.delete(wire, f"passing#{life}")
                            life, is_unsure = life + 1, False
                        is_unsure = True
                        self.pass_topic(wire, life)
                        life, is_unsure = life + 1, False
                        self.over.wait(random.random() * 0.1)
            except OSError:  # its broker was killed: what was under way stays open
                self.over.wait(0.05)

    def pass_topic(self, wire: Wire, life: int) -> None:
        """One life of a topic whose name is used again. Raises OSError."""
        topic = f"passing#{life}"
        self.create(wire, "passing")
        for number in range(4):
            label = b"%s.%d" % (topic.encode(), number)
            send = self.history.begin(Send(process="t", topic=topic, partition=number % 2, values=(label,)))
            batch = build_batch([Record(None, padded(label), (), int(time.time() * 1000))])
            assert wire.produce("passing", send.partition, batch) == 0
            self.history.end(send, Outcome.OK)
        self.delete(wire, topic)
        self.create(wire, f"kept-{life}")
        self.delete_records()

    def create(self, wire: Wire, name: str) -> None:
        """Creates a topic, unless an attempt of which nobody heard has created it."""
        fact = Fact(name, True, self.history.clock())
        self.facts.append(fact)
        wanted = CreateTopicsRequest.CreatableTopic(name, 2, 1)
        code = wire.call(ApiKey.CREATE_TOPICS, 7, CreateTopicsRequest([wanted], 10_000)).topics[0].error_code
        assert code in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS), code
        fact.ended = self.history.clock()

    def delete(self, wire: Wire, life: str) -> None:
        name = life.partition("#")[0]
        fact = Fact(name, False, self.history.clock())
        self.facts.append(fact)
        operation = self.history.begin(DeleteTopic(process="t", topic=life))
        body = DeleteTopicsRequest([DeleteTopicsRequest.DeleteTopicState(name)], timeout_ms=TIMEOUT_S * 1000)
        code = wire.call(ApiKey.DELETE_TOPICS, 6, body).responses[0].error_code
        assert code in (ErrorCode.NONE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION), code
        self.history.end(operation, Outcome.OK)
        fact.ended = self.history.clock()
