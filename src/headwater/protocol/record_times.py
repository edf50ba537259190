"""The timestamps of a batch's records. They are read in place, without decoding the records.

A compressed batch of two kilobytes may hold millions of records, so the search for one by its time is done in steps.
"""

from collections.abc import Iterator
from typing import TypeAlias

from headwater.effects.buffers import Buffer
from headwater.effects.work import Steps, alone
from headwater.protocol.opening import open_batch, open_small_batch
from headwater.protocol.records import LOG_APPEND_TIME, BatchHeader, CorruptBatchError
from headwater.protocol.varint import read_varint

RECORDS_PER_STEP = 1000
Found: TypeAlias = tuple[int, int] | None  # timestamp and offset of a record


def first_since(header: BatchHeader, batch: Buffer, timestamp: int, offset: int, size_max: int) -> Steps[Found]:
    """The first record at or after an offset with at least that timestamp (ms), as (timestamp, offset).

    Raises CompressionError for records that are damaged or larger than `size_max` bytes, and CorruptBatchError.
    """
    data = open_small_batch(header, batch)
    if data is not None:
        return (yield from first_in(header, data, timestamp, offset))

    def large() -> Steps[Found]:
        data = yield from open_batch(header, batch, size_max)
        return (yield from first_in(header, data, timestamp, offset))

    return (yield from alone(large()))


def first_in(header: BatchHeader, data: Buffer, timestamp: int, offset: int) -> Steps[Found]:
    for step in time_steps(header, data):
        for record in step:
            if record[0] >= timestamp and record[1] >= offset:
                return record
        yield
    return None


def latest_since(header: BatchHeader, batch: Buffer, offset: int, size_max: int) -> Steps[Found]:
    """The record with the greatest timestamp at or after an offset; among equals, the first. Raises as `first_since`."""
    data = open_small_batch(header, batch)
    if data is not None:
        return (yield from latest_in(header, data, offset))

    def large() -> Steps[Found]:
        data = yield from open_batch(header, batch, size_max)
        return (yield from latest_in(header, data, offset))

    return (yield from alone(large()))


def latest_in(header: BatchHeader, data: Buffer, offset: int) -> Steps[Found]:
    best: Found = None
    for step in time_steps(header, data):
        for record in step:
            if record[1] >= offset and record[0] >= 0 and (best is None or record[0] > best[0]):
                best = record
        yield
    return best


def time_steps(header: BatchHeader, data: Buffer) -> Iterator[list[tuple[int, int]]]:
    """The (timestamp, offset) of each record, in lists of a limited size. Raises CorruptBatchError."""
    append_time = header.max_timestamp if header.attributes & LOG_APPEND_TIME else None
    base_timestamp, base_offset = header.base_timestamp, header.base_offset
    position, size = 0, len(data)
    step: list[tuple[int, int]] = []
    try:
        for _ in range(header.records_count):
            length, at = read_varint(data, position)
            position = at + length
            if length < 0 or position > size:
                raise CorruptBatchError("a record is longer than its batch")
            timestamp_delta, at = read_varint(data, at + 1)
            offset_delta, _ = read_varint(data, at)
            timestamp = base_timestamp + timestamp_delta if append_time is None else append_time
            step.append((timestamp, base_offset + offset_delta))
            if len(step) == RECORDS_PER_STEP:
                yield step
                step = []
    except ValueError as error:
        raise CorruptBatchError(f"a record cannot be read: {error}") from error
    yield step
