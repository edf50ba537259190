"""Transactions and their consumers' progress: exactly once, whatever happens to the consumer meanwhile.

Runs on Headwater here and on a real Kafka in the interop suite.
"""

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

import headwater as hw
from headwater.client.errors import AuthorizationError, ConfigurationError, ProducerFencedError, TransactionAbortedError
from headwater.client.transactions import ATTEMPTS_MAX, add_progress, attempt
from tests.client.test_clients import WAIT_MS, committed, consumer, send_numbers


@pytest.fixture
def copies(address: str, orders: str) -> str:
    """A topic for what is made of `orders`."""
    with hw.Admin(address) as admin:
        admin.create_topic(f"{orders}-out")
    return f"{orders}-out"


@pytest.fixture
def producer(address: str, copies: str) -> Iterator[hw.Producer[Any]]:
    with hw.Producer(address, transactional_id=copies) as producer:
        yield producer


def copied(address: str, copies: str, number: int) -> list[int]:
    """The values of the committed copies, in order; one more than `number` would be among them."""
    with consumer(address, copies, group=f"{copies}-check", value=int) as events:
        return [event.value for event in events.take(number, WAIT_MS) + events.take(1, 200)]


class RawWith:
    """A raw consumer, some of whose methods are the test's own."""

    def __init__(self, events: hw.Consumer[Any], **own: Any) -> None:
        self.raw, self.own = events._reader.raw, own
        events._reader.raw = self

    def __getattr__(self, name: str) -> Any:
        return self.own.get(name) or getattr(self.raw, name)


def test_a_transaction_takes_the_consumers_progress_with_it(address: str, orders: str) -> None:
    send_numbers(address, orders, 6)
    out = f"{orders}-out"
    with hw.Admin(address) as admin:
        admin.create_topic(out)
    failed = False
    with (
        hw.Producer(address, transactional_id=out) as producer,
        consumer(address, orders, commit="manual") as events,
    ):
        while True:
            try:
                for event in events:
                    with producer.transaction(events):
                        producer.send(out, event.value)
                        if event.offset == 3 and not failed:
                            failed = True
                            raise ValueError("once")
                    if event.offset == 5:
                        break
                break
            except ValueError:
                continue
    assert committed(address, f"{orders}-group") == 6
    with consumer(address, out, settings={"isolation.level": "read_committed"}) as events:
        assert [event.value for event in events.take(6, WAIT_MS)] == list(range(6))


async def test_an_async_transaction(address: str, orders: str) -> None:
    async with hw.Producer(address, transactional_id=orders) as producer:
        with pytest.raises(KeyError):  # noqa: PT012
            async with producer.transaction():
                producer.send(orders, "aborted", partition=0)
                raise KeyError
        async with producer.transaction():
            producer.send(orders, "committed", partition=0)
    with consumer(address, orders) as events:
        assert [event.value for event in events.take(1, WAIT_MS)] == ["committed"]


def test_the_older_of_two_producers_is_fenced(address: str, orders: str) -> None:
    with hw.Producer(address, transactional_id=orders) as old:
        with old.transaction():
            old.send(orders, 1)
        with hw.Producer(address, transactional_id=orders) as new, new.transaction():
            new.send(orders, 2)
        with pytest.raises(ProducerFencedError, match="own"), old.transaction():
            old.send(orders, 3)


def copy(producer: hw.Producer[Any], copies: str, events: hw.Consumer[Any], number: int) -> int:
    """Copies the next events, `number` at most, in one transaction."""
    with producer.transaction(events):
        batch = events.take(number, WAIT_MS)
        for event in batch:
            producer.send(copies, event.value)
    return len(batch)


def copy_all(producer: hw.Producer[Any], copies: str, events: hw.Consumer[Any], number: int) -> None:
    """Copies the next `number` events, in as many transactions as it takes."""
    while number:
        number -= copy(producer, copies, events, number)


def test_a_consumer_that_commits_by_itself_is_refused(producer: hw.Producer[Any], address: str, orders: str) -> None:
    with (
        consumer(address, orders) as events,
        pytest.raises(ConfigurationError, match="manual"),
        producer.transaction(events),
    ):
        pass


def test_partitions_that_go_during_a_transaction_abort_it(
    producer: hw.Producer[Any], address: str, orders: str, copies: str
) -> None:
    send_numbers(address, orders, 10)
    revoked = threading.Event()
    manual: dict[str, Any] = {"commit": "manual", "settings": {"heartbeat.interval.ms": 100}}
    with consumer(address, orders, on_revoked=lambda _: revoked.set(), **manual) as first_member:
        with pytest.raises(TransactionAbortedError, match="another member"), producer.transaction(first_member):  # noqa: PT012
            for event in first_member.take(4, WAIT_MS):
                producer.send(copies, event.value)
            with consumer(address, orders, **manual) as second_member:
                while not revoked.is_set():
                    second_member.take(1, 10)
                    first_member.take(1, 10)
        copy_all(producer, copies, first_member, 10)
    assert copied(address, copies, 10) == list(range(10))


def test_a_consumer_that_is_no_longer_a_member_cannot_commit_its_progress(
    producer: hw.Producer[Any], address: str, orders: str, copies: str
) -> None:
    """librdkafka forgets its member id when the session times out; a broker lets such progress pass."""
    send_numbers(address, orders, 4)
    with consumer(address, orders, commit="manual") as events:
        raw = RawWith(events, memberid=str)
        with pytest.raises(TransactionAbortedError, match="another member"):
            copy(producer, copies, events, 4)
        raw.own.clear()
        assert copy(producer, copies, events, 4) == 4
    assert copied(address, copies, 4) == list(range(4))


def test_messages_from_before_a_rebalance_in_the_same_call_come_again(
    producer: hw.Producer[Any], address: str, orders: str, copies: str
) -> None:
    send_numbers(address, orders, 10)
    with consumer(address, orders, commit="manual") as events:

        def consume(number: int, timeout_s: float) -> Any:
            messages = raw.raw.consume(number, timeout_s)
            if messages:
                places = [TopicPartition(orders, messages[0].partition())]
                events._reader.revoked(raw.raw, places)
                events._reader.assigned(raw.raw, places)
                raw.own.clear()
                rebalanced.append(len(messages))
            return messages

        rebalanced: list[int] = []
        assert copy(producer, copies, events, 1) == 1
        raw = RawWith(events, consume=consume)
        copy_all(producer, copies, events, 9)
        assert rebalanced
    assert copied(address, copies, 10) == list(range(10))


def test_messages_of_a_partition_that_is_taken_away_in_the_same_call_are_not_handed_over(
    address: str, orders: str
) -> None:
    send_numbers(address, orders, 5)
    with consumer(address, orders, commit="manual") as events:

        def consume(number: int, timeout_s: float) -> Any:
            messages = raw.raw.consume(number, timeout_s)
            if messages:
                events._reader.revoked(raw.raw, [TopicPartition(orders, 0)])
            return messages

        raw = RawWith(events, consume=consume, poll=lambda _: None)
        assert events.take(5, 500) == []


def test_a_group_that_began_at_the_end_goes_back_no_further(
    producer: hw.Producer[Any], address: str, orders: str, copies: str
) -> None:
    send_numbers(address, orders, 3)
    with consumer(address, orders, commit="manual", start="latest") as events, hw.Producer(address) as sender:
        numbers = itertools.count(3)
        with pytest.raises(KeyError), producer.transaction(events):  # noqa: PT012
            while not (first := events.take(1, 20)):
                sender.send(orders, next(numbers), partition=0).result(WAIT_MS)
            raise KeyError
        assert copy(producer, copies, events, 1) == 1
    assert copied(address, copies, 1) == [first[0].value]
    assert first[0].value >= 3


def test_a_pending_commit_is_waited_for(producer: hw.Producer[Any], address: str, orders: str, copies: str) -> None:
    """librdkafka would wait for a second, and then begin at the start."""
    send_numbers(address, orders, 4)
    with consumer(address, orders, commit="manual") as first, producer.transaction():
        assert len(first.take(2, WAIT_MS)) == 2
        add_progress(producer._raw, first._reader, WAIT_MS)
        first.close()
        with consumer(address, orders, commit="manual") as second:
            assert second.take(1, 3000) == []
            producer._commit_transaction(None)
            assert [event.value for event in second.take(2, WAIT_MS)] == [2, 3]
        producer._begin_transaction(None)


@pytest.mark.parametrize("code", [KafkaError._TIMED_OUT, KafkaError.UNSTABLE_OFFSET_COMMIT])
def test_going_back_is_tried_again_where_it_was_not_known_where_to(
    producer: hw.Producer[Any], address: str, orders: str, copies: str, code: int
) -> None:
    send_numbers(address, orders, 3)

    def no_committed(*_: object) -> None:
        asked.append(code)
        raise KafkaException(KafkaError(code))

    asked: list[int] = []
    with consumer(address, orders, commit="manual") as events:
        raw = RawWith(events, committed=no_committed)
        with pytest.raises(ValueError, match="once"), producer.transaction(events):  # noqa: PT012
            assert len(events.take(3, WAIT_MS)) == 3
            raise ValueError("once")
        while len(asked) < 3:
            assert events.take(3, 100) == []
        raw.own.clear()
        assert copy(producer, copies, events, 3) == 3
    assert copied(address, copies, 3) == [0, 1, 2]


def test_the_reason_why_a_consumer_cannot_go_back_is_reported(
    producer: hw.Producer[Any], address: str, orders: str
) -> None:
    def no_committed(*_: object) -> None:
        raise KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))

    send_numbers(address, orders, 3)
    with consumer(address, orders, commit="manual") as events:
        with pytest.raises(ValueError, match="once"), producer.transaction(events):  # noqa: PT012
            assert len(events.take(3, WAIT_MS)) == 3
            raise ValueError("once")
        RawWith(events, committed=no_committed)
        with pytest.raises(AuthorizationError):
            events.take(3, WAIT_MS)


class Loading:
    """A coordinator that loads its state for so many attempts."""

    def __init__(self, failures: int) -> None:
        self.failures, self.attempts = failures, 0
        self.pauses_s: list[float] = []

    def step(self, timeout_s: float) -> None:
        self.attempts += 1
        if self.attempts <= self.failures:
            raise KafkaException(KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS, "loads", False, True, False))


def test_a_step_is_tried_again_after_pauses_that_grow() -> None:
    loading = Loading(ATTEMPTS_MAX - 1)
    attempt(loading.step, "registering", WAIT_MS, pause=loading.pauses_s.append)
    assert loading.attempts == ATTEMPTS_MAX
    assert loading.pauses_s[0] < 0.1
    assert loading.pauses_s[-1] >= 0.8
    assert sum(loading.pauses_s) > 3


@pytest.mark.parametrize(("timeout_ms", "attempts"), [(WAIT_MS, ATTEMPTS_MAX), (0.0, 1)])
def test_a_step_is_not_tried_for_ever(timeout_ms: float, attempts: int) -> None:
    loading = Loading(1000)
    with pytest.raises(KafkaException, match="loads"):
        attempt(loading.step, "registering", timeout_ms, pause=loading.pauses_s.append)
    assert loading.attempts == attempts
