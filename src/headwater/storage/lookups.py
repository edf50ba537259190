"""Finds records by their time, in steps, because a batch may have millions of them.

Retention, compaction or deletion may remove a segment between two steps. The look-up then continues after it.
"""

from typing import NamedTuple

from headwater.effects.buffers import Buffer
from headwater.effects.work import Steps
from headwater.protocol.compression import CompressionError, client_bytes_max
from headwater.protocol.errors import ProtocolError
from headwater.protocol.record_times import Found, first_since, latest_since
from headwater.protocol.records import BatchHeader, check_batch
from headwater.storage.errors import DamagedLogError
from headwater.storage.log import Log
from headwater.storage.segment import Segment


class TimestampOffset(NamedTuple):
    """A record found by its time; -1, -1 if there is none."""

    timestamp: int
    offset: int


NOTHING = TimestampOffset(-1, -1)
UNREADABLE = (-1, -1)


def find_timestamp(log: Log, timestamp: int) -> Steps[TimestampOffset]:
    """The first visible record at or after `timestamp` (ms).

    Raises OSError. It raises DamagedLogError even if only the record before the found one is damaged, because that may be
    the right one.
    """
    found = yield from find_readable(log, timestamp)
    offset = log.high_watermark if found is NOTHING else found.offset
    if offset in log.ends_of_damage():
        raise DamagedLogError(
            f"{log.directory}: the record at time {timestamp} may be among the damaged ones before offset {offset}"
        )
    return found


def find_readable(log: Log, timestamp: int) -> Steps[TimestampOffset]:
    """As `find_timestamp`, but among readable records only."""
    for segment in list(log.segments):
        if segment not in log.segments:
            continue
        limit = log.durable.position if segment is log.durable.segment else segment.size
        log.ensure_index(segment)
        if segment.max_timestamp >= timestamp:
            found = yield from while_open(log, segment, first_in(segment, timestamp, limit, log))
            if found is not None:
                return TimestampOffset(*found) if found[1] < log.high_watermark else NOTHING
        if segment is log.durable.segment:
            break
        yield
    return NOTHING


def first_in(segment: Segment, timestamp: int, limit: int, log: Log) -> Steps[Found]:
    """A segment's first record with at least that timestamp, at or after the log's start."""
    start_offset = log.start_offset
    from_offset = max(start_offset, segment.base_offset + segment.time_index.floor(timestamp))
    start = segment.locate(from_offset, limit)
    if start is None:
        return None
    for header, position, batch in segment.checked_scan(start[1], limit):
        yield
        if header.max_timestamp < timestamp or header.last_offset < start_offset:
            continue
        steps = first_since(header, batch, timestamp, start_offset, size_max(log, header))
        found = yield from readable(segment, position, batch, steps)
        if found is UNREADABLE:
            return header.max_timestamp, max(header.base_offset, start_offset)
        if found is not None:
            return found
    return None


def find_max_timestamp(log: Log) -> Steps[TimestampOffset]:
    """The record with the greatest timestamp, the first of equal ones. Raises as `find_timestamp`."""
    best = NOTHING
    for segment in list(log.segments):
        if segment not in log.segments:
            continue
        log.ensure_index(segment)
        if segment.is_damaged:
            raise DamagedLogError(f"{segment.path}.log is damaged, so its latest record is not known")
        if segment.max_timestamp > best.timestamp:
            found = yield from while_open(log, segment, latest_in(segment, log))
            if found is not None and found[0] > best.timestamp:
                best = TimestampOffset(*found)
        yield
    return best


def latest_in(segment: Segment, log: Log) -> Steps[Found]:
    """A segment's record with the greatest timestamp, at or after the log's start.

    If the segment's own latest record lies below the start, the search continues from the start.
    """
    start_offset = log.start_offset
    is_known = segment.max_timestamp_offset >= start_offset
    start = segment.locate(max(start_offset, segment.max_timestamp_offset), segment.size)
    if is_known and start is not None and start[0].base_offset >= start_offset:
        return (yield from latest_in_batch(segment, *start, log))
    best: Found = None
    start = segment.locate(start_offset, segment.size)
    for header, position, _ in segment.checked_scan(start[1], segment.size) if start is not None else ():
        if best is None or header.max_timestamp > best[0]:
            latest = yield from latest_in_batch(segment, header, position, log)
            if latest is not None and (best is None or latest[0] > best[0]):
                best = latest
        yield
    return best


def latest_in_batch(segment: Segment, header: BatchHeader, position: int, log: Log) -> Steps[Found]:
    batch = next(segment.checked_scan(position, position + header.size_bytes))[2]
    steps = latest_since(header, batch, log.start_offset, size_max(log, header))
    found = yield from readable(segment, position, batch, steps)
    return (header.max_timestamp, max(header.base_offset, log.start_offset)) if found is UNREADABLE else found


def size_max(log: Log, header: BatchHeader) -> int:
    return client_bytes_max(max(log.config.max_message_bytes, header.size_bytes))


def readable(segment: Segment, position: int, batch: Buffer, steps: Steps[Found]) -> Steps[Found]:
    """Runs the steps that look into a batch.

    The result is UNREADABLE, with the batch's first record, if its client compressed it wrongly, or if it is larger than
    allowed when decompressed. So no record is missed. Raises DamagedLogError if the batch is not what was written.
    """
    try:
        return (yield from steps)
    except CompressionError as error:
        if is_damaged(batch):
            raise segment.damaged_at(position) from error
        return UNREADABLE
    except ProtocolError as error:
        raise segment.damaged_at(position) from error


def is_damaged(batch: Buffer) -> bool:
    try:
        check_batch(batch)
    except ProtocolError:
        return True
    return False


def while_open(log: Log, segment: Segment, steps: Steps[Found]) -> Steps[Found]:
    """Runs steps that read a segment, as long as the log has that segment."""
    outcome = None
    while segment in log.segments:
        try:
            step = steps.send(outcome)
        except StopIteration as stop:
            found: Found = stop.value
            return found
        outcome = yield step
    steps.close()
    return None
