"""`hw.Reader`: a topic from one place to another, without a group, blocking and async."""

import asyncio
import contextlib
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Producer as RawProducer

import headwater as hw
from headwater.client.errors import ConfigurationError, ConsumerClosedError, LostRecordsError, UnknownTopicError


def fill(address: str, topic: str, numbers: range, partitions: int = 2) -> None:
    """Number n goes to partition n modulo `partitions`, with n as its timestamp in seconds."""
    producer: Any = RawProducer({"bootstrap.servers": address})
    for number in numbers:
        producer.produce(
            topic, b"%d" % number, partition=number % partitions, timestamp=1_700_000_000_000 + 1000 * number
        )
    producer.flush()


def at(number: int) -> datetime:
    return datetime.fromtimestamp(1_700_000_000 + number, UTC)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("earliest", "latest", range(20)),
        (4, "latest", range(8, 20)),
        (-3, "latest", range(14, 20)),
        (-100, "latest", range(20)),
        ("earliest", 3, range(6)),
        ("earliest", -8, range(4)),
        (2, 4, range(4, 8)),
        (5, 5, range(0)),
        ("latest", "latest", range(0)),
        (at(5), at(11), range(5, 11)),
        (at(100), "latest", range(0)),
        ({0: 9, 1: 8}, "latest", [17, 18, 19]),
        ({1: 8}, "latest", [17, 19]),
        ("earliest", {0: 1, 1: 2}, [0, 1, 3]),
    ],
)
def test_every_kind_of_start_and_end(address: str, orders: str, start: Any, end: Any, expected: Any) -> None:
    fill(address, orders, range(20))
    with hw.Reader(address, orders, start=start, end=end, value=int) as reader:
        assert reader.is_complete == (not expected)
        assert sorted(event.value for event in reader) == list(expected)
        assert reader.is_complete
        assert list(reader) == []
    with hw.Reader(address, orders, start=start, end=end) as reader:
        found = [value for batch in reader.batches(3) for value in batch.raw_values]
        assert sorted(found, key=lambda value: int(value or b"")) == [b"%d" % number for number in expected]


def test_partitions_that_are_chosen(address: str, orders: str) -> None:
    fill(address, orders, range(10))
    with hw.Reader(address, orders, end="latest", partitions=[1], value=int) as reader:
        assert [(event.partition, event.value) for event in reader] == [(1, number) for number in (1, 3, 5, 7, 9)]
        assert reader.positions() == {1: 5}
    with pytest.raises(ConfigurationError, match="has partitions 0 to 1, not 2, 5"):
        hw.Reader(address, orders, partitions=[0, 2, 5])
    with pytest.raises(ConfigurationError, match="no offset for partition 0"):
        hw.Reader(address, orders, start={1: 0}, partitions=[0, 1])


def test_what_comes_after_the_end_was_found_is_not_read(address: str, orders: str) -> None:
    fill(address, orders, range(10))
    with hw.Reader(address, orders, end="latest", value=int) as reader:
        fill(address, orders, range(10, 30))
        assert sorted(event.value for event in reader) == list(range(10))


def test_a_reader_continues_where_another_was(address: str, orders: str) -> None:
    fill(address, orders, range(10))
    with hw.Reader(address, orders, end="latest", value=int) as reader:
        for event in reader:
            if event.partition == 1 and event.value == 5:
                break  # in the middle of what was fetched
        first = 3 + reader.positions()[0]
        rest = reader.take(100)
        assert len(rest) == 10 - first
        positions = reader.positions()
    assert positions == {0: 5, 1: 5}
    fill(address, orders, range(10, 14))
    with hw.Reader(address, orders, start=positions, end="latest", value=int) as reader:
        assert sorted(event.value for event in reader) == [10, 11, 12, 13]


def test_an_end_after_markers_and_aborted_records_is_reached(address: str, name: str) -> None:
    """The last offsets are no events', and an event of an open transaction is not before the end."""
    with hw.Producer(address, transactional_id=name) as producer:
        with producer.transaction():
            producer.send(name, 1)
        with contextlib.suppress(ZeroDivisionError), producer.transaction():
            producer.send(name, 2)
            producer.flush()
            raise ZeroDivisionError  # aborts
        with producer.transaction():
            producer.send(name, 3)
            producer.flush()
            with hw.Reader(address, name, end="latest", value=int) as reader:
                assert [event.value for event in reader] == [1]
    settings = {"isolation.level": "read_uncommitted"}
    with hw.Reader(address, name, end="latest", value=int, settings=settings) as reader:
        assert [event.value for event in reader] == [1, 2, 3]


def test_without_an_end_it_waits_for_more_until_it_is_stopped(address: str, orders: str) -> None:
    with hw.Reader(address, orders, start="latest", value=int) as reader:
        assert reader.take(1, timeout_ms=1) == []
        fill(address, orders, range(4))
        found = []
        for event in reader:
            found.append(event.value)
            if len(found) == 4:
                threading.Thread(target=reader.stop).start()
        assert sorted(found) == [0, 1, 2, 3]


def test_nothing_is_committed_and_the_group_is_not_joined(address: str, orders: str) -> None:
    fill(address, orders, range(4))
    with hw.Admin(address) as admin:
        before = admin.groups()
        with hw.Reader(address, orders, end="latest") as first, hw.Reader(address, orders, end="latest") as second:
            assert len(first.take(4)) == len(second.take(4)) == 4
            assert admin.groups() == before


def test_records_that_are_gone_are_named(address: str, orders: str) -> None:
    fill(address, orders, range(10))
    with hw.Admin(address) as admin:
        admin.delete_records(orders, 0, 3)
    with hw.Reader(address, orders, end="latest", value=int) as reader:
        assert sorted(event.value for event in reader) == [1, 3, 5, 6, 7, 8, 9]
    with (
        hw.Reader(address, orders, start=1, partitions=[0]) as reader,
        pytest.raises(LostRecordsError, match="offset 1"),
    ):
        next(iter(reader))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": "beginning"}, "start is 'earliest' or 'latest', an offset"),
        ({"start": True}, "not True"),
        ({"end": "earliest"}, "end is 'latest', an offset"),
        ({"end": 1.5}, "not 1.5"),
        ({"start": datetime(2026, 1, 1)}, "no time zone"),
        ({"batch_max": 0}, "1 to 1000000 events"),
    ],
    ids=range(6),
)
def test_invalid_arguments(address: str, orders: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        hw.Reader(address, orders, **arguments)


def test_a_topic_that_is_not_there(address: str, name: str) -> None:
    with pytest.raises(UnknownTopicError):
        hw.Reader(address, name)


def test_a_closed_reader(address: str, orders: str) -> None:
    with hw.Reader(address, orders) as reader:
        states = [reader.is_closed]
    reader.close()
    assert [*states, reader.is_closed] == [False, True]
    assert repr(reader) == f"<Reader of {orders}, closed>"
    with pytest.raises(ConsumerClosedError, match="the reader is closed"):
        next(iter(reader))


async def test_async(address: str, orders: str) -> None:
    await asyncio.to_thread(fill, address, orders, range(10))
    async with hw.Reader(address, orders, end="latest", value=int) as reader:
        assert len(await reader.take(2)) == 2
        found = [event.value async for event in reader]
        assert len(found) == 8
        assert reader.positions() == {0: 5, 1: 5}
    async with hw.Reader(address, orders, end="latest", value=int) as reader:
        batches = [batch async for batch in reader.batches(4)]
        assert sum(map(len, batches)) == 10
        assert max(map(len, batches)) <= 4


async def test_an_async_reader_that_is_cancelled_ends(address: str, orders: str) -> None:
    async def follow() -> None:
        async with hw.Reader(address, orders) as reader:
            started.set()
            async for _ in reader:
                pass

    started = asyncio.Event()
    task = asyncio.create_task(follow())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_async_reader_is_stopped(address: str, orders: str) -> None:
    await asyncio.to_thread(fill, address, orders, range(4))
    async with hw.Reader(address, orders, value=int) as reader:
        found = []
        async for event in reader:
            found.append(event.value)
            if len(found) == 4:
                reader.stop()
    assert sorted(found) == [0, 1, 2, 3]
