"""Batches that are small on the wire and large once decompressed: what they cost is bounded, and done in slices."""

import struct
from collections.abc import Callable
from typing import Any

import pytest

from headwater.broker.connection import Connection
from headwater.protocol.apis import ApiKey
from headwater.protocol.compression import Compression, client_bytes_max, compress
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.list_offsets import ListOffsetsRequest
from headwater.protocol.opening import OPENED_AT_ONCE_BYTES_MAX
from headwater.protocol.records import (
    HEADER,
    HEADER_BYTES,
    LOG_OVERHEAD,
    Record,
    build_batch,
    read_header,
    record_bytes,
    write_crc,
)
from tests.broker.harness import Harness, Pending
from tests.broker.test_slices import STEPS_PER_SLICE, TickingClock, turns_until_done
from tests.broker.topic_configs import TopicConfigs

NOW_MS = 1_700_000_000_000
MANY = 30_000
TOO_LARGE = client_bytes_max(1_048_588)  # for the default of max.message.bytes
CODECS = [Compression.GZIP, Compression.SNAPPY, Compression.LZ4, Compression.ZSTD]


def bomb(
    count: int, *, last: Record | None = None, key: bytes | None = b"k", compression: Any = Compression.ZSTD
) -> bytes:
    """A batch of equal records at their deltas, the last of which may be another."""
    records = [Record(key, None, (), NOW_MS)] * (count - 1)
    return bytes(build_batch([*records, last or Record(key, None, (), NOW_MS + 1)], compression=compression))


def with_body(body: bytes, count: int, compression: Compression, latest_ms: int = NOW_MS) -> bytes:
    """A batch with whatever body, as its header says it."""
    batch = bytearray(HEADER_BYTES) + body
    length = len(batch) - LOG_OVERHEAD
    HEADER.pack_into(batch, 0, 0, length, -1, 2, 0, compression, count - 1, NOW_MS, latest_ms, -1, -1, -1, count)
    write_crc(batch)
    return bytes(batch)


def error_of(pending: Pending) -> Any:
    return pending.message.responses[0].partition_responses[0]


def list_offset(broker: Harness, timestamp: int) -> Pending:
    wanted = ListOffsetsRequest.ListOffsetsPartition(0, -1, timestamp)
    body = ListOffsetsRequest(-1, 0, [ListOffsetsRequest.ListOffsetsTopic("t", [wanted])])
    return broker.send(ApiKey.LIST_OFFSETS, 7, body)


def found(pending: Pending) -> tuple[int, int, int]:
    answer = pending.message.topics[0].partitions[0]
    return answer.error_code, answer.timestamp, answer.offset


@pytest.mark.parametrize("timestamp", [NOW_MS + 1, -3])
def test_a_record_is_looked_for_in_slices(timestamp: int) -> None:
    broker = Harness(clock=TickingClock())
    broker.create_topic("t")
    broker.produce_batch("t", bomb(MANY))
    pending = list_offset(broker, timestamp)
    assert broker.connection.work is not None
    assert turns_until_done(broker, pending) >= 2
    assert found(pending) == (0, NOW_MS + 1, MANY - 1)


def test_a_segment_may_go_while_it_is_looked_through() -> None:
    broker = Harness(clock=TickingClock())
    broker.create_topic("t")
    broker.produce_batch("t", bomb(MANY))
    log = broker.core.partitions.log(broker.core.metadata.topics["t"], 0)
    log.roll()
    broker.produce_batch("t", bomb(1))
    broker.core.store.checkpoint()
    pending = list_offset(broker, NOW_MS + 1)
    broker.core.store.advance_start({log: MANY})
    assert len(log.segments) == 1
    turns_until_done(broker, pending)
    assert found(pending) == (0, NOW_MS + 1, MANY)


def test_a_batch_that_is_too_large_to_look_into_is_found_by_its_first_record() -> None:
    broker = Harness()
    broker.create_topic("t")
    body = record_bytes(Record(b"k", bytes(TOO_LARGE)), 0, 0) + record_bytes(Record(b"k", b"v"), 1, 1)
    batch = with_body(bytes(compress(Compression.ZSTD, body)), 2, Compression.ZSTD, NOW_MS + 1)
    assert error_of(broker.produce_batch("t", batch)).error_code == 0
    assert found(list_offset(broker, NOW_MS + 1)) == (0, NOW_MS + 1, 0)


def test_large_batches_are_opened_in_another_thread_one_at_a_time() -> None:
    broker = Harness()
    broker.create_topic("keys", cleanup_policy="compact")
    broker.create_topic("packed", compression_type="gzip")
    broker.create_topic("t")
    calls: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []
    body = record_bytes(Record(b"k", bytes(OPENED_AT_ONCE_BYTES_MAX)), 0, 0)
    batch = with_body(bytes(compress(Compression.ZSTD, body)), 1, Compression.ZSTD, NOW_MS + 1)
    assert error_of(broker.produce_batch("t", batch)).error_code == 0
    broker.core.work.run_elsewhere = lambda function, done: calls.append((function, done))
    pending = []
    begins: tuple[Callable[[], Pending], ...] = (
        lambda: broker.produce_batch("keys", bytearray(batch)),
        lambda: broker.produce_batch("packed", bytearray(batch)),
        lambda: list_offset(broker, NOW_MS),
    )
    for begin in begins:
        broker.connection = Connection("/test")
        pending.append(begin())
    while not all(each.is_done for each in pending):
        assert len(calls) <= 1
        while calls:
            function, done = calls.pop()
            done(function())
        broker.core.timers.run_due()
        broker.sync()
    assert [error_of(each).error_code for each in pending[:2]] == [0, 0]
    assert found(pending[2]) == (0, NOW_MS, 0)


@pytest.mark.parametrize("last", [Record(b"k", b"v", (), NOW_MS), Record(None, b"v", (), NOW_MS)])
def test_a_compacted_topic_looks_at_many_keys_in_slices(last: Record) -> None:
    broker = Harness(clock=TickingClock())
    broker.create_topic("t", cleanup_policy="compact")
    pending = broker.produce_batch("t", bomb(MANY, last=last))
    assert not pending.is_done
    assert turns_until_done(broker, pending) >= MANY / 500 / STEPS_PER_SLICE - 3
    answer = error_of(pending)
    if last.key is not None:
        assert (answer.error_code, answer.base_offset) == (0, 0)
    else:
        assert answer.error_code == ErrorCode.INVALID_RECORD
        assert [error.batch_index for error in answer.record_errors] == [MANY - 1]


def test_many_records_are_compressed_otherwise_in_slices() -> None:
    broker = Harness(clock=TickingClock())
    broker.create_topic("t", compression_type="gzip")
    pending = broker.produce_batch("t", bomb(20 * MANY))
    assert not pending.is_done
    assert turns_until_done(broker, pending) >= 10
    assert error_of(pending).error_code == 0
    data = broker.fetch("t")
    header = read_header(data.records or b"")
    assert (header.compression, header.records_count) == (Compression.GZIP, 20 * MANY)
    lying = with_body(bytes(compress(Compression.ZSTD, b"\x00" * MANY)), MANY + 1, Compression.ZSTD)
    pending = broker.produce_batch("t", lying)
    turns_until_done(broker, pending)
    assert error_of(pending).error_code == ErrorCode.CORRUPT_MESSAGE


def test_of_a_great_many_errors_the_first_are_listed() -> None:
    broker = Harness()
    broker.create_topic("t")
    late = Record(b"k", None, (), NOW_MS + 10 * 24 * 3_600_000)
    answer = error_of(broker.produce_batch("t", bytes(build_batch([late] * MANY, compression=Compression.ZSTD))))
    assert answer.error_code == ErrorCode.INVALID_TIMESTAMP
    assert len(answer.record_errors) == 1000


@pytest.mark.parametrize("codec", CODECS)
def test_a_compacted_topic_takes_no_more_than_may_be_decompressed(codec: Compression) -> None:
    broker = Harness()
    broker.create_topic("t", cleanup_policy="compact")
    body = record_bytes(Record(b"k", bytes(TOO_LARGE)), 0, 0)
    answer = error_of(broker.produce_batch("t", with_body(bytes(compress(codec, body)), 1, codec)))
    # Snappy does not make it small enough to be a batch at all.
    expected = ErrorCode.MESSAGE_TOO_LARGE if codec is Compression.SNAPPY else ErrorCode.INVALID_RECORD
    assert answer.error_code == expected
    assert broker.read_all("t") == []


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("config", [{"cleanup_policy": "compact"}, {"compression_type": "uncompressed"}])
def test_damaged_compression_is_refused_by_name(codec: Compression, config: TopicConfigs) -> None:
    """It closed the connection, and so failed the other partitions of the request."""
    broker = Harness()
    broker.create_topic("t", **config)
    answer = error_of(broker.produce_batch("t", with_body(b"no such stream", 1, codec)))
    assert answer.error_code == ErrorCode.INVALID_RECORD


@pytest.mark.parametrize("count", [5_000_000, (1 << 31) - 1])
def test_a_count_that_cannot_be_true_is_refused(count: int) -> None:
    broker = Harness()
    broker.create_topic("t")
    answer = error_of(
        broker.produce_batch("t", with_body(bytes(compress(Compression.ZSTD, b"x")), count, Compression.ZSTD))
    )
    assert answer.error_code == ErrorCode.INVALID_RECORD
    assert broker.core.partitions.log(broker.core.metadata.topics["t"], 0).end_offset == 0


def test_a_count_that_lies_is_found_where_the_records_are_looked_at() -> None:
    broker = Harness()
    broker.create_topic("t", cleanup_policy="compact")
    body = compress(Compression.ZSTD, record_bytes(Record(b"k", b"v"), 0, 0))
    for count in (2, MANY):
        answer = error_of(broker.produce_batch("t", with_body(bytes(body), count, Compression.ZSTD)))
        assert answer.error_code == ErrorCode.CORRUPT_MESSAGE


def test_snappy_blocks_that_claim_more_than_they_hold_allocate_nothing() -> None:
    """CVE-2023-34455: a chunk's length was taken at its word."""
    broker = Harness()
    broker.create_topic("t", cleanup_policy="compact")
    block = b"\xff\xff\xff\xff\x0f" + b"\x00"
    body = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1) + struct.pack(">i", len(block)) + block
    answer = error_of(broker.produce_batch("t", with_body(body, 1, Compression.SNAPPY)))
    assert answer.error_code == ErrorCode.INVALID_RECORD
