"""A replayed topic: its state is what was written, by whomever; on a Headwater broker and, in the interop suite, on Kafka."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Producer as RawProducer

import headwater as hw
from headwater.client.admin import Admin
from headwater.client.errors import (
    ClientError,
    ClientTimeoutError,
    ConfigurationError,
    DamagedTopicError,
    LostTopicError,
    NotLeaderError,
    TopicBusyError,
)
from headwater.client.replayed_topic import ReplayedTopic
from headwater.client.topic_record import TopicRecord
from headwater.protocol.errors import ProtocolError
from headwater.replay.decision import Decision

WAIT_MS = 20_000.0


class Names:
    """Counts per name; a value that is not a number cannot be replayed."""

    def __init__(self) -> None:
        self.counts: dict[bytes | None, int] = {}
        self.offsets: list[int] = []

    def replay(self, record: TopicRecord) -> None:
        if record.value is None:
            self.counts.pop(record.key, None)
        elif record.value.isdigit():
            self.counts[record.key] = int(record.value)
        else:
            raise ProtocolError(f"{record.value!r} is not a number")
        self.offsets.append(record.offset)

    def snapshot(self) -> Iterator[TopicRecord]:
        yield from (TopicRecord(key, b"%d" % count) for key, count in self.counts.items())

    def add(self, key: bytes, number: int) -> Decision[TopicRecord, int]:
        total = self.counts.get(key, 0) + number
        return Decision([TopicRecord(key, b"%d" % total)], total)


class Throne:
    """Who leads, by the test's word."""

    def __init__(self, term: int | None = 1) -> None:
        self.number = term

    def term(self) -> int:
        if self.number is None:
            raise NotLeaderError("the test says so")
        return self.number


def topic_of(address: str, name: str, machine: Names | None = None, **options: Any) -> ReplayedTopic:
    return ReplayedTopic(address, name, machine or Names(), timeout_ms=WAIT_MS, **options)


@contextmanager
def opened(address: str, name: str, **options: Any) -> Iterator[tuple[ReplayedTopic, Names]]:
    names = Names()
    with topic_of(address, name, names, **options) as topic:
        yield topic, names


def send(address: str, name: str, key: bytes, value: bytes | None, **settings: Any) -> None:
    producer = RawProducer({"bootstrap.servers": address, **settings})
    producer.produce(name, value, key, 0)
    assert producer.flush(WAIT_MS / 1000) == 0


def test_creates_the_topic_writes_and_has_read_it_when_the_write_returns(address: str, name: str) -> None:
    with opened(address, name) as (topic, names):
        assert topic.carry_out(lambda: names.add(b"a", 3)) == 3
        assert names.counts == {b"a": 3}
        topic.write([TopicRecord(b"a", None), TopicRecord(b"b", b"5")])
        assert names.counts == {b"b": 5}
        assert topic.carry_out(lambda: Decision((), "nothing to write")) == "nothing to write"
    with hw.Admin(address) as admin:
        assert admin.configs(name)["cleanup.policy"] == "compact"
        assert len(admin.describe_topic(name).partitions) == 1
    with opened(address, name) as (topic, names):
        assert names.counts == {b"b": 5}
        assert names.offsets == sorted(names.offsets)


def test_what_one_writes_another_has_after_reading_to_the_end(address: str, name: str) -> None:
    with opened(address, name) as (one, ones), opened(address, name) as (other, others):
        for number in range(20):
            one.carry_out(lambda: ones.add(b"a", 1))
            other.read_to_end()
            assert others.counts == {b"a": number + 1}


@pytest.mark.parametrize("leads", [False, True])
def test_many_threads_that_decide_at_once_lose_nothing(address: str, name: str, leads: bool) -> None:
    with opened(address, name, leader=Throne() if leads else None) as (topic, names):
        threads = [
            threading.Thread(target=lambda: [topic.carry_out(lambda: names.add(b"a", 1)) for _ in range(5)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert names.counts == {b"a": 40}


def test_a_deposed_leader_that_does_not_know_it_is_fenced(address: str, name: str) -> None:
    with (
        opened(address, name, leader=Throne()) as (old, olds),
        opened(address, name, leader=Throne()) as (new, news),
    ):
        assert old.carry_out(lambda: olds.add(b"a", 1)) == 1
        assert new.carry_out(lambda: news.add(b"a", 1)) == 2
        # The old one still believes that it leads: it is refused, reads what the other wrote, and decides on that.
        assert old.carry_out(lambda: olds.add(b"a", 1)) == 3
        assert new.carry_out(lambda: news.add(b"a", 1)) == 4


def test_a_deposed_leader_that_knows_it_writes_nothing(address: str, name: str) -> None:
    throne = Throne()
    with opened(address, name, leader=throne) as (topic, names):
        topic.carry_out(lambda: names.add(b"a", 1))
        throne.number = None
        with pytest.raises(NotLeaderError, match="the test says so"):
            topic.carry_out(lambda: names.add(b"a", 1))
        throne.number = 2
        assert topic.carry_out(lambda: names.add(b"a", 1)) == 2


def test_two_who_believe_that_they_lead_never_decide_on_an_old_state(address: str, name: str) -> None:
    def add(topic: ReplayedTopic, names: Names) -> None:
        for _ in range(6):
            try:
                answers.append(topic.carry_out(lambda: names.add(b"a", 1)))
            except NotLeaderError:
                refusals.append(1)

    answers: list[int] = []
    refusals: list[int] = []
    with (
        opened(address, name, leader=Throne()) as one,
        opened(address, name, leader=Throne()) as other,
    ):
        threads = [threading.Thread(target=add, args=each) for each in (one, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        one[0].read_to_end()
        assert len(answers) + len(refusals) == 12
        assert sorted(answers) == list(range(1, len(answers) + 1))
        assert one[1].counts == {b"a": len(answers)}


def test_an_open_transaction_of_a_leader_that_died_is_ended_by_the_next(address: str, name: str) -> None:
    with opened(address, name) as (topic, names):
        topic.write([TopicRecord(b"a", b"1")])
    dead = RawProducer({"bootstrap.servers": address, "transactional.id": f"{name}-leader"})
    dead.init_transactions(WAIT_MS / 1000)
    dead.begin_transaction()
    dead.produce(name, b"99", b"a", 0)
    dead.flush(WAIT_MS / 1000)
    with opened(address, name, leader=Throne()) as (topic, names):
        assert topic.carry_out(lambda: names.add(b"a", 1)) == 2
        topic.read_to_end()
        assert names.counts == {b"a": 2}
    dead.purge()


def test_what_was_aborted_is_not_replayed_and_does_not_hold_up_the_end(address: str, name: str) -> None:
    with opened(address, name) as (topic, names):
        producer = RawProducer({"bootstrap.servers": address, "transactional.id": f"{name}-other"})
        producer.init_transactions(WAIT_MS / 1000)
        for _ in range(3):
            producer.begin_transaction()
            producer.produce(name, b"7", b"a", 0)
            producer.flush(WAIT_MS / 1000)
            producer.abort_transaction()
        topic.read_to_end()
        assert names.counts == {}
    with opened(address, name) as (topic, names):
        assert names.counts == {}


def test_a_record_that_cannot_be_replayed_is_named_and_nothing_is_written_after_it(address: str, name: str) -> None:
    with opened(address, name) as (topic, names):
        topic.write([TopicRecord(b"a", b"1")])
        end = topic.read_to_end()
        send(address, name, b"a", b"rubbish")
        with pytest.raises(
            DamagedTopicError, match=f"topic {name}: the record at offset {end} cannot be replayed.*rubbish"
        ):
            topic.read_to_end()
        with pytest.raises(DamagedTopicError):
            topic.write([TopicRecord(b"b", b"1")])
        assert names.counts == {b"a": 1}
    with pytest.raises(DamagedTopicError), topic_of(address, name):
        pass


def test_a_topic_that_is_deleted_is_lost_and_not_created_again(address: str, name: str) -> None:
    with opened(address, name) as (topic, names), hw.Admin(address) as admin:
        topic.write([TopicRecord(b"a", b"1")])
        admin.delete_topic(name)
        for _ in range(2):
            with pytest.raises(LostTopicError, match=f"topic {name} was deleted"):
                topic.write([TopicRecord(b"b", b"1")])
        assert name not in admin.topics()
        assert names.counts == {b"a": 1}


@pytest.mark.parametrize("leads", [False, True])
def test_a_topic_that_is_deleted_and_created_again_is_lost(address: str, name: str, leads: bool) -> None:
    with opened(address, name, leader=Throne() if leads else None) as (topic, names), hw.Admin(address) as admin:
        topic.write([TopicRecord(b"a", b"1")])
        admin.delete_topic(name)
        admin.create_topic(name, configs={"cleanup.policy": "compact"})
        for number in range(5):
            send(address, name, b"b", b"%d" % number)
        with pytest.raises(LostTopicError, match=f"topic {name} was deleted"):
            topic.write([TopicRecord(b"c", b"1")])
        assert b"c" not in names.counts


@pytest.mark.parametrize(
    ("partitions", "policy", "says"),
    [
        (2, "compact", "has 2 partitions; it needs 1"),
        (1, "delete", "cleanup.policy=delete"),
        (1, "compact,delete", "expire"),
    ],
    ids=("partitions", "delete", "both"),
)
def test_a_topic_in_which_state_would_be_lost_is_refused(
    address: str, name: str, partitions: int, policy: str, says: str
) -> None:
    with hw.Admin(address) as admin:
        admin.create_topic(name, partitions, configs={"cleanup.policy": policy})
    with pytest.raises(ConfigurationError, match=says), topic_of(address, name):
        pass


def test_what_decide_raises_is_raised_and_writes_nothing(address: str, name: str) -> None:
    def refuse() -> Decision[TopicRecord, None]:
        raise ValueError("no such name")

    with opened(address, name, leader=Throne()) as (topic, names):
        with pytest.raises(ValueError, match="no such name"):
            topic.carry_out(refuse)
        assert topic.carry_out(lambda: names.add(b"a", 1)) == 1


def test_records_that_cannot_be_written_are_refused_as_a_whole(address: str, name: str) -> None:
    with opened(address, name, leader=Throne()) as (topic, names):
        with pytest.raises(ClientError, match=f"writing to {name}"):
            topic.write([TopicRecord(b"a", b"1"), TopicRecord(b"b", b"1" * (2 << 20))])
        with pytest.raises(ConfigurationError, match="10001 records at once"):
            topic.write([TopicRecord(b"a", b"1")] * 10_001)
        topic.write([TopicRecord(b"c", b"1")])
        assert names.counts == {b"c": 1}


def test_calls_that_wait_are_bounded_in_number_and_time(address: str, name: str) -> None:
    is_deciding, released = threading.Event(), threading.Event()

    def slow() -> Decision[TopicRecord, None]:
        is_deciding.set()
        assert released.wait(WAIT_MS / 1000)
        return Decision((), None)

    with opened(address, name, waiting_max=2) as (topic, _):
        first = threading.Thread(target=topic.carry_out, args=(slow,))
        first.start()
        assert is_deciding.wait(WAIT_MS / 1000)
        with pytest.raises(ClientTimeoutError, match="others were deciding"):
            topic.write([TopicRecord(b"a", b"1")], timeout_ms=10)
        topic.waiting.acquire()
        with pytest.raises(TopicBusyError, match="too many calls wait"):
            topic.write([TopicRecord(b"a", b"1")])
        released.set()
        first.join()


def test_closing_ends_calls_that_wait(address: str, name: str) -> None:
    with opened(address, name) as (topic, _):
        topic.close()
        with pytest.raises(ClientError, match=f"topic {name} is closed"):
            topic.write([TopicRecord(b"a", b"1")])
        with pytest.raises(ClientError, match="is closed"):
            topic.wait_replayed(1 << 40, float("inf"))


def test_a_topic_that_has_no_leader_yet_is_asked_again(
    address: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Admin.call
    asked: list[str] = []

    def call_before_there_is_a_leader(admin: Admin, ask: Any, what: str) -> Any:
        if what.startswith("asking for offsets") and len(asked) < 2:
            asked.append(what)
            cause = KafkaException(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION))
            raise ClientError(what) from cause
        return call(admin, ask, what)

    monkeypatch.setattr(Admin, "call", call_before_there_is_a_leader)
    with opened(address, name) as (topic, names):
        assert topic.carry_out(lambda: names.add(b"a", 1)) == 1
    assert len(asked) == 2
