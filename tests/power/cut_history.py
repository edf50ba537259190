"""What clients knew when the power was cut, and what of it a broker has afterwards."""

import time
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from headwater.testing.simulate.checker import Copy, Rules, check
from headwater.testing.simulate.history import NEVER, CommitOffset, FetchOffset, History, Operation, Outcome, Poll, Send
from tests.power.clients import QUIET, TIMEOUT_S, TRANSACTIONAL_IDS, Fact, label_of

RULES = Rules(
    compacted=frozenset({"newest"}),
    exclusive_groups=frozenset({"readers"}),
    copies=(Copy("copier", "orders", "copies"),),
)
Place = tuple[str, int]


def until(operations: Iterable[Operation], moment: int) -> History:
    """The history as of a cut: what had not ended is open; what began later never happened."""
    history = History(clock=time.monotonic_ns)
    for operation in operations:
        if operation.began > moment:
            continue
        if operation.ended > moment:
            operation = replace(operation, outcome=Outcome.UNKNOWN, ended=NEVER)
            if isinstance(operation, Send):
                operation.offset = None
        history.operations.append(operation)
    history.operations.sort(key=lambda operation: operation.began)
    return history


def facts_until(facts: Iterable[Fact], moment: int) -> list[Fact]:
    """As `until`, for what happened to topics."""
    return [
        replace(fact, ended=fact.ended if fact.ended <= moment else NEVER) for fact in facts if fact.began <= moment
    ]


def wrong_topics(facts: list[Fact], topics: set[str]) -> list[str]:
    """Topics that are missing, and those that are back, by the newest creations and deletions of each name."""
    problems = []
    for name, of_name in groupby(sorted(facts, key=lambda fact: (fact.name, fact.began)), key=lambda fact: fact.name):
        newest = list(of_name)[-1]
        if newest.ended == NEVER:
            continue  # it may have happened, or not
        if newest.exists and name not in topics:
            problems.append(f"the topic {name} is gone")
        elif not newest.exists and name in topics:
            problems.append(f"the topic {name} is back")
    return problems


class Readers:
    """Reads everything that a broker has, as clients do, into a history."""

    def __init__(self, address: str, history: History) -> None:
        self.settings = {"bootstrap.servers": address, **QUIET}
        self.history = history
        self.topics = set(AdminClient(self.settings).list_topics(timeout=TIMEOUT_S).topics)

    def problems(self, facts: list[Fact]) -> list[str]:
        """All that must not be, after the power was cut."""
        self.end_transactions()
        self.read_all()
        self.fetch_offsets()
        return [*wrong_topics(facts, self.topics), *map(str, check(self.history, RULES))]

    def end_transactions(self) -> None:
        """Aborts those that are open: a reader of committed records does not get past them."""
        for name in TRANSACTIONAL_IDS:
            Producer({**self.settings, "transactional.id": name}).init_transactions(TIMEOUT_S)

    def read_all(self) -> None:
        lives: dict[Place, str] = {}  # the newest one of each name
        for send in self.history.of(Send):
            lives[send.topic.partition("#")[0], send.partition] = send.topic
        there = {place: life for place, life in lives.items() if place[0] in self.topics}
        for place, life in lives.items():
            if place not in there:  # it was not created before the cut
                self.note(life, place[1], (0, 0), [], is_committed=False)
        if there:
            for is_committed in (False, True):
                self.read(there, is_committed=is_committed)

    def read(self, lives: dict[Place, str], *, is_committed: bool) -> None:
        isolation = "read_committed" if is_committed else "read_uncommitted"
        consumer = Consumer(
            {
                **self.settings,
                "group.id": "check",
                "isolation.level": isolation,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 10,
            }
        )
        marks = {place: consumer.get_watermark_offsets(TopicPartition(*place), timeout=TIMEOUT_S) for place in lives}
        consumer.assign([TopicPartition(*place, low) for place, (low, _) in marks.items()])
        records: dict[Place, list[tuple[int, bytes]]] = {place: [] for place in lives}
        waiting = set(lives)
        deadline = time.monotonic() + TIMEOUT_S
        while waiting:
            assert time.monotonic() < deadline, f"{waiting} cannot be read to their ends"
            for message in consumer.consume(5000, 0.1):
                place = message.topic(), message.partition()
                error = message.error()
                if error is None:
                    records[place].append((message.offset(), label_of(message.value())))
                elif error.code() == KafkaError._PARTITION_EOF:
                    waiting.discard(place)
                else:
                    raise AssertionError(f"{place}: {error}")
        consumer.close()
        for place, life in lives.items():
            self.note(life, place[1], marks[place], records[place], is_committed=is_committed)

    def note(
        self,
        topic: str,
        partition: int,
        marks: tuple[int, int],
        records: list[tuple[int, bytes]],
        *,
        is_committed: bool,
    ) -> None:
        low, high = marks
        poll = Poll(process="end", topic=topic, partition=partition, position=low, is_final=True)
        poll.is_committed = is_committed
        self.history.begin(poll)
        poll.records, poll.next_position, poll.log_start = tuple(records), high, low
        self.history.end(poll, Outcome.OK)

    def fetch_offsets(self) -> None:
        places = {(c.group, c.topic, c.partition) for c in self.history.of(CommitOffset)}
        for group, topic, partition in sorted(places):
            fetch = self.history.begin(FetchOffset(process="end", group=group, topic=topic, partition=partition))
            consumer = Consumer({**self.settings, "group.id": group})
            (found,) = consumer.committed([TopicPartition(topic, partition)], timeout=TIMEOUT_S)
            fetch.offset = max(found.offset, -1)
            self.history.end(fetch, Outcome.OK)
            consumer.close()


def write_everywhere(address: str, topics: Iterable[str], number: int) -> list[str]:
    """Whether records can be written after the cut: one for each topic."""
    errors: list[str] = []
    producer = Producer({"bootstrap.servers": address, **QUIET, "enable.idempotence": True})
    for topic in topics:
        producer.produce(
            topic,
            b"after.%d" % number,
            b"key",
            on_delivery=lambda error, message: errors.append(f"{message.topic()}: {error}") if error else None,
        )
    if producer.flush(TIMEOUT_S):
        errors.append("not all records were answered")
    return errors
