"""Fetches where there is little room for answers, because clients do not read them."""

import pytest

from headwater.effects.buffers import Buffer
from headwater.protocol.apis import ApiKey
from headwater.protocol.messages.fetch import FetchRequest
from headwater.protocol.records import batches
from tests.broker.harness import Harness

RECORD = bytes(1000)


@pytest.fixture
def broker() -> Harness:
    harness = Harness()
    harness.create_topic("t")
    for _ in range(20):
        assert harness.produce("t", RECORD).error_code == 0
    return harness


def count(records: Buffer | None) -> int:
    return len(list(batches(records or b"")))


def test_an_answer_is_as_large_as_there_is_room(broker: Harness) -> None:
    broker.connection.answer_room = lambda: 5500
    assert count(broker.fetch("t").records) == 5
    # A batch is whole however little room there is.
    broker.connection.answer_room = lambda: 1
    assert count(broker.fetch("t").records) == 1


def test_a_fetch_for_which_there_is_no_room_waits(broker: Harness) -> None:
    room = [0]
    broker.connection.answer_room = lambda: room[0]
    pending = broker.send(ApiKey.FETCH, 12, broker.fetch_request("t", 0, max_wait_ms=500))
    broker.advance(499)
    assert not pending.is_done
    room[0] = 5500
    broker.advance(1)
    assert count(pending.message.responses[0].partitions[0].records) == 5
    room[0] = 0
    assert broker.fetch("t", max_wait_ms=0).records == b""


def test_a_fetch_that_wants_more_than_there_is_room_for_does_not_wait_for_it(broker: Harness) -> None:
    broker.connection.answer_room = lambda: 5500
    pending = broker.send(ApiKey.FETCH, 12, broker.fetch_request("t", 0, min_bytes=15_000, max_wait_ms=60_000))
    assert count(pending.message.responses[0].partitions[0].records) == 5


def test_what_is_read_in_steps_counts_while_it_is_read(broker: Harness) -> None:
    held: list[int] = []
    broker.connection.hold_answer = held.append
    broker.create_topic("many", partitions=600)
    for partition in range(3):
        broker.produce("many", RECORD, partition=partition)
    partitions = [FetchRequest.FetchPartition(n, partition_max_bytes=10_000) for n in range(600)]
    topics = [FetchRequest.FetchTopic(topic="many", partitions=partitions)]
    request = FetchRequest(max_wait_ms=0, min_bytes=1, max_bytes=1 << 20, topics=topics)
    pending = broker.send(ApiKey.FETCH, 12, request)
    broker.advance(1000)
    sizes = [len(data.records or b"") for data in pending.message.responses[0].partitions]
    assert sum(held) == sum(sizes) > 3 * len(RECORD)
