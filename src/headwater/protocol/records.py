"""Record batches, magic 2: the one format of records on the wire and on disk.

    offset  size  field
         0     8  base offset            set by the broker, outside the CRC
         8     4  batch length           bytes after this field
        12     4  partition leader epoch set by the broker, outside the CRC
        16     1  magic                  2
        17     4  CRC-32C                of everything from the attributes on
        21     2  attributes             compression (bits 0-2), timestamp type (3), transactional (4), control (5)
        23     4  last offset delta
        27     8  base timestamp         ms
        35     8  max timestamp          ms
        43     8  producer id            -1 for none
        51     2  producer epoch
        53     4  base sequence
        57     4  record count
        61        records, compressed as one block

The broker reads this header and does not touch the rest: a batch stays bytes. Records are decoded only by what works with
single records (coordinators, compaction, tools). Sources: KIP-98 and the protocol guide.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from crc32c import crc32c

from headwater.effects.buffers import Buffer
from headwater.protocol.compression import DECOMPRESSED_BYTES_MAX, Compression, compress, decompress
from headwater.protocol.errors import ProtocolError
from headwater.protocol.varint import read_varint, varint

HEADER = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES = HEADER.size
new_tuple = tuple.__new__  # faster than `_make`, which would check the length for each batch
LOG_OVERHEAD = 12  # the bytes that the batch length does not count: base offset and batch length
MAGIC, MAGIC_AT = 2, 16
ATTRIBUTES_AT = 21
RUN_RECORDS_MIN = 16
RETRY_RECORDS = 64
RECORD_BYTES_MIN = 7  # length, attributes, two deltas, two null lengths, no headers
NO_TIMESTAMP = -1
NO_PRODUCER_ID = -1
NO_SEQUENCE = -1
ABORT_MARKER = 0
COMMIT_MARKER = 1

COMPRESSION_MASK = 0x07
LOG_APPEND_TIME = 0x08
TRANSACTIONAL = 0x10
CONTROL = 0x20

patch_base_offset = struct.Struct(">q").pack_into
patch_leader_epoch = struct.Struct(">i").pack_into
patch_place = struct.Struct(">qii").pack_into  # the base offset, the length and the leader epoch


class CorruptBatchError(ProtocolError):
    """A batch's bytes are not what its header says. Answered with CORRUPT_MESSAGE."""


class InvalidBatchError(ProtocolError):
    """A batch is whole but not allowed. Answered with INVALID_RECORD."""


class UnsupportedMagicError(ProtocolError):
    """A batch has format 0 or 1, which Kafka 4 does not accept. Answered with UNSUPPORTED_FOR_MESSAGE_FORMAT."""


class BatchHeader(NamedTuple):
    """The 61 bytes in front of a batch's records."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    records_count: int

    @property
    def size_bytes(self) -> int:
        return self.length + LOG_OVERHEAD

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def compression(self) -> Compression:
        return Compression(self.attributes & COMPRESSION_MASK)

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & CONTROL)

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL)

    @property
    def last_sequence(self) -> int:
        """Sequences wrap from 2^31 - 1 to 0."""
        return (self.base_sequence + self.last_offset_delta) & 0x7FFFFFFF


@dataclass(slots=True)
class Record:
    """One record; `offset` and `timestamp` (ms) are absolute."""

    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = field(default_factory=tuple)
    timestamp: int = NO_TIMESTAMP
    offset: int = -1


def read_header(buffer: Buffer, position: int = 0) -> BatchHeader:
    """The header at `position`; raises CorruptBatchError when the buffer ends before it does."""
    try:
        return new_tuple(BatchHeader, HEADER.unpack_from(buffer, position))
    except struct.error:
        raise CorruptBatchError("a record batch is shorter than its header") from None


def check_batch(buffer: Buffer, position: int = 0) -> BatchHeader:
    """Checks that the batch at `position` is whole and undamaged; returns its header.

    Raises CorruptBatchError for a wrong length or CRC and UnsupportedMagicError for another format.
    """
    view = memoryview(buffer)[position:]
    if len(view) > 16 and view[16] in (0, 1):
        raise UnsupportedMagicError(f"message format {view[16]} is not supported, only 2")
    header = read_header(view)
    if header.magic != 2:
        raise CorruptBatchError(f"a record batch has magic {header.magic}")
    size = header.length + LOG_OVERHEAD
    if size < HEADER_BYTES or size > len(view):
        raise CorruptBatchError(f"a record batch claims {header.length} bytes and {len(view) - LOG_OVERHEAD} are there")
    if crc32c(view[ATTRIBUTES_AT:size]) != header.crc:
        raise CorruptBatchError("a record batch has a wrong CRC")
    return header


def check_counts(header: BatchHeader, batch: Buffer) -> None:
    """Raises InvalidBatchError if the header's counts cannot be right for its records.

    Uncompressed records are counted by their lengths, without being decoded. Compressed records are not opened.
    """
    if header.records_count <= 0 or header.last_offset_delta != header.records_count - 1:
        raise InvalidBatchError(
            f"{header.records_count} records with a last offset delta of {header.last_offset_delta}"
        )
    codec = header.attributes & COMPRESSION_MASK
    if codec:
        if codec > Compression.ZSTD:
            raise InvalidBatchError(f"unknown compression {codec}")
    elif not counts_match(batch, header.size_bytes, header.records_count):
        raise InvalidBatchError(f"the batch does not hold the {header.records_count} records that it claims")


def counts_match(batch: Buffer, end: int, count: int, start: int = HEADER_BYTES) -> bool:
    """Whether exactly `count` length-prefixed records fill `batch` from its header, or from `start`, to `end`.

    The records of a batch often have the same size. So now and then the lengths that would follow at the same stride are
    compared in one slice: a run of records of equal size then costs as much as one record. Otherwise it goes record by record.
    """
    position = start
    if count * RECORD_BYTES_MIN > end - position:
        return False
    left, next_try = count, count
    try:
        while left > 0:
            first = batch[position]
            if first < 0x80:
                size = 1 + (first >> 1)
            elif batch[position + 1] < 0x80:
                size = 2 + ((first & 0x7F | batch[position + 1] << 7) >> 1)
            else:
                length, body_at = read_varint(batch, position)
                size = body_at - position + length
                if length < 0:
                    return False
            if left <= next_try and left > RUN_RECORDS_MIN:
                run = equal_run(batch, position, size, min(left, (end - position) // size))
                # If sizes vary, trying costs more than it saves. So the next try is some records later.
                next_try = left - run - (0 if run >= RUN_RECORDS_MIN else RETRY_RECORDS)
                position += size * max(1, run)
                left -= max(1, run)
                continue
            position += size
            left -= 1
    except (IndexError, ValueError):
        return False
    return position == end


def equal_run(batch: Buffer, position: int, stride: int, count: int) -> int:
    """How many records, `stride` bytes apart, have the same length prefix (at most three bytes) as the first. Up to `count`."""
    run = count
    for at in range(position, position + 3):
        column = bytes(batch[at : at + stride * run : stride])[:run]
        run = len(column) - len(column.lstrip(column[:1]))
        if not batch[at] & 0x80 or run <= 1:
            break
    return run


def batches(buffer: Buffer) -> Iterator[tuple[BatchHeader, memoryview]]:
    """Each whole batch in `buffer`, with its bytes, unchecked. As in Kafka's clients, a partial batch at the end is skipped."""
    view = memoryview(buffer)
    position = 0
    while position + HEADER_BYTES <= len(view):
        header = read_header(view, position)
        if header.length < HEADER_BYTES - LOG_OVERHEAD:
            raise CorruptBatchError(f"a record batch claims {header.length} bytes")
        if position + header.size_bytes > len(view):
            return
        yield header, view[position : position + header.size_bytes]
        position += header.size_bytes


def records(header: BatchHeader, batch: Buffer, size_max: int = DECOMPRESSED_BYTES_MAX) -> Iterator[Record]:
    """The records of a batch. Raises CorruptBatchError if they are not what the header says."""
    body: Buffer = memoryview(batch)[HEADER_BYTES : header.size_bytes]
    return read_records(header, decompress(header.compression, body, size_max))


def read_records(header: BatchHeader, data: Buffer) -> Iterator[Record]:
    """The records of a batch that has been decompressed. Raises as `records`."""
    position = 0
    append_time = header.max_timestamp if header.attributes & LOG_APPEND_TIME else None
    try:
        for _ in range(header.records_count):
            length, position = read_varint(data, position)
            end = position + length
            if length < 0 or end > len(data):
                raise CorruptBatchError("a record is longer than its batch")
            record = read_record(data, position + 1, end, header)
            if append_time is not None:
                record.timestamp = append_time
            yield record
            position = end
    except ValueError as error:
        raise CorruptBatchError(f"a record cannot be read: {error}") from error
    if position != len(data):
        raise CorruptBatchError("bytes are left after a batch's last record")


def read_record(data: Buffer, position: int, end: int, header: BatchHeader) -> Record:
    """The record whose timestamp delta is at `position` (after its length and attributes)."""
    timestamp_delta, position = read_varint(data, position)
    offset_delta, position = read_varint(data, position)
    key, position = read_bytes(data, position, end)
    value, position = read_bytes(data, position, end)
    count, position = read_varint(data, position)
    headers: list[tuple[str, bytes | None]] = []
    if not 0 <= count <= end - position:
        raise CorruptBatchError("a record claims more headers than it has bytes")
    for _ in range(count):
        name, position = read_bytes(data, position, end)
        content, position = read_bytes(data, position, end)
        headers.append(((name or b"").decode(), content))
    if position != end:
        raise CorruptBatchError("a record is longer or shorter than it says")
    return Record(key, value, headers, header.base_timestamp + timestamp_delta, header.base_offset + offset_delta)


def read_bytes(data: Buffer, position: int, end: int) -> tuple[bytes | None, int]:
    length, position = read_varint(data, position)
    if length < 0:
        return None, position
    if position + length > end:
        raise CorruptBatchError("a key, value or header is longer than its record")
    return bytes(data[position : position + length]), position + length


def record_bytes(record: Record, offset_delta: int, timestamp_delta: int) -> bytes:
    """One record as bytes of a batch."""
    parts = [b"\x00", varint(timestamp_delta), varint(offset_delta)]
    for content in (record.key, record.value):
        parts += [b"\x01"] if content is None else [varint(len(content)), content]
    parts.append(varint(len(record.headers)))
    for name, content in record.headers:
        encoded = name.encode()
        parts += [varint(len(encoded)), encoded]
        parts += [b"\x01"] if content is None else [varint(len(content)), content]
    body = b"".join(parts)
    return varint(len(body)) + body


def build_batch(
    content: Iterable[Record],
    *,
    base_offset: int = 0,
    leader_epoch: int = -1,
    compression: Compression = Compression.NONE,
    attributes: int = 0,
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = -1,
    base_sequence: int = NO_SEQUENCE,
) -> bytearray:
    """A batch of the given records, at least one, with consecutive offsets from `base_offset`."""
    items = list(content)
    base_timestamp = items[0].timestamp
    data = b"".join(record_bytes(r, i, r.timestamp - base_timestamp) for i, r in enumerate(items))
    body = compress(compression, data)
    batch = bytearray(HEADER_BYTES) + body
    HEADER.pack_into(
        batch,
        0,
        base_offset,
        len(batch) - LOG_OVERHEAD,
        leader_epoch,
        2,
        0,
        attributes | compression,
        len(items) - 1,
        base_timestamp,
        max(r.timestamp for r in items),
        producer_id,
        producer_epoch,
        base_sequence,
        len(items),
    )
    write_crc(batch)
    return batch


def write_crc(batch: bytearray | memoryview) -> None:
    """Computes and writes the CRC of a batch whose bytes after the CRC field were changed."""
    struct.pack_into(">I", batch, 17, crc32c(memoryview(batch)[ATTRIBUTES_AT:]))


def control_record(marker: int, coordinator_epoch: int, timestamp: int) -> Record:
    """The record of a control batch that ends a transaction: `marker` is 0 for abort and 1 for commit (KIP-98)."""
    return Record(struct.pack(">hh", 0, marker), struct.pack(">hi", 0, coordinator_epoch), timestamp=timestamp)


def marker_of(header: BatchHeader, batch: Buffer) -> tuple[bool, int]:
    """The content of a transaction's marker: whether it commits, and the coordinator's epoch.

    Raises CorruptBatchError for a control batch of another kind.
    """
    for record in records(header, batch):
        return read_marker(record)
    raise CorruptBatchError("a control batch is empty")


def read_marker(record: Record) -> tuple[bool, int]:
    """As `marker_of`, for the one record of the control batch."""
    key, value = record.key or b"", record.value or b""
    marker = int.from_bytes(key[2:4], "big")
    if len(key) < 4 or len(value) < 6 or marker not in (ABORT_MARKER, COMMIT_MARKER):
        raise CorruptBatchError("a control batch is not the marker of a transaction")
    return marker == COMMIT_MARKER, int.from_bytes(value[2:6], "big", signed=True)


def set_append_time(batch: bytearray | memoryview, timestamp: int) -> None:
    """Stamps a batch with the broker's time (message.timestamp.type=LogAppendTime)."""
    (attributes,) = struct.unpack_from(">h", batch, ATTRIBUTES_AT)
    struct.pack_into(">h", batch, ATTRIBUTES_AT, attributes | LOG_APPEND_TIME)
    struct.pack_into(">q", batch, 35, timestamp)
    write_crc(batch)
