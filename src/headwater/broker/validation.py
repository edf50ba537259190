"""Checks that a producer's batch may be appended to a log, and adapts it first.

A batch is checked as bytes, by its header and CRC. Its records are only examined if a check needs them: keys on a compacted
topic, timestamps near a limit, another compression. Sources: LogValidator.java, KIP-467 (errors of records).
"""

from typing import NamedTuple, TypeAlias

from crc32c import crc32c

from headwater.effects.buffers import Buffer
from headwater.effects.work import Steps, alone
from headwater.protocol.compression import (
    Compression,
    CompressionError,
    client_bytes_max,
    compress,
    compressed_at_once_bytes,
)
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError, ProtocolError
from headwater.protocol.opening import compress_records, open_batch, open_small_batch
from headwater.protocol.record_keys import consecutive_keys
from headwater.protocol.records import (
    ATTRIBUTES_AT,
    COMPRESSION_MASK,
    CONTROL,
    HEADER,
    HEADER_BYTES,
    LOG_OVERHEAD,
    MAGIC,
    RECORD_BYTES_MIN,
    TRANSACTIONAL,
    BatchHeader,
    CorruptBatchError,
    InvalidBatchError,
    Record,
    UnsupportedMagicError,
    check_batch,
    check_counts,
    counts_match,
    new_tuple,
    read_records,
    write_crc,
)
from headwater.protocol.varint import read_varint
from headwater.storage.config import NO_LIMIT_MS, LogConfig
from headwater.storage.log import Log

RECORD_ERRORS_SHOWN = 3
RECORD_ERRORS_MAX = 1000  # per batch that is examined in steps
RECORDS_AT_ONCE = 10_000  # examining them takes some ten milliseconds
RECORDS_PER_STEP = 500
LAST_CODEC = int(Compression.ZSTD)
RECORDS_COUNTED_PER_STEP = 5000
RecordError: TypeAlias = tuple[ErrorCode, int, str]  # the code, the record's number, the reason
CODECS = {
    "uncompressed": Compression.NONE,
    "gzip": Compression.GZIP,
    "snappy": Compression.SNAPPY,
    "lz4": Compression.LZ4,
    "zstd": Compression.ZSTD,
}


class LongInspectionError(Exception):
    """A batch with so much to look at that it is done in steps, by `prepare_in_steps`."""


def prepare(log: Log, batch: Buffer, now_ms: int) -> tuple[BatchHeader, Buffer]:
    """A batch that may be appended, adapted to the topic, and its header. Raises ApiError and LongInspectionError."""
    config = log.config
    plain = plain_header(config, batch, now_ms)
    if plain is not None:
        return plain, batch
    header = check_header(config, batch)
    wants_keys, wants_times = config.compact, wants_timestamps(config, header, now_ms)
    wants_other = config.compression_type != "producer" and wants_compression(config, header)
    if not (wants_keys or wants_times or wants_other):
        return header, batch
    small_body = open_small_batch(header, batch) if header.records_count <= RECORDS_AT_ONCE else None
    if small_body is None:
        raise LongInspectionError
    codec, level = CODECS.get(config.compression_type, Compression.NONE), config.compression_level
    if wants_other and len(small_body) > compressed_at_once_bytes(codec, level):
        raise LongInspectionError
    body = bytes(small_body)
    try:
        if not counts_match(body, len(body), header.records_count, 0):
            raise miscount_error(header)
        if wants_keys:
            check_keys(log, header, body)
        if wants_times:
            numbered = enumerate(read_records(header, body))
            refuse_any([e for n, record in numbered if (e := time_error(config, n, record, now_ms))])
        if not wants_other:
            return header, batch
        return rebuilt(config, header, compress(codec, body, level))
    except ProtocolError as error:
        raise unreadable(error) from error


def plain_header(config: LogConfig, batch: Buffer, now_ms: int) -> BatchHeader | None:
    """The header of a plain batch: one that is sound, and that nothing but its header and its CRC has to be looked at for.

    Nearly every batch is plain, so this is one expression. None: `prepare` finds out what the batch needs, or what is wrong.
    """
    size = len(batch)
    if size < HEADER_BYTES or not config.takes_batches_whole:
        return None
    header = new_tuple(BatchHeader, HEADER.unpack_from(batch))
    _, length, _, magic, crc, attributes, last_delta, _, max_timestamp, producer_id, epoch, sequence, count = header
    is_plain = (
        length + LOG_OVERHEAD == size <= config.max_message_bytes
        and magic == MAGIC
        and 0 <= attributes <= LAST_CODEC
        and last_delta + 1 == count
        and 0 < count <= RECORDS_AT_ONCE
        and max_timestamp - now_ms <= config.timestamp_after_max_ms
        and (producer_id < 0 or (sequence >= 0 and epoch >= 0))
        and crc32c(memoryview(batch)[ATTRIBUTES_AT:]) == crc
        and (attributes or counts_match(batch, size, count))
    )
    return header if is_plain else None


def prepare_in_steps(log: Log, batch: Buffer, now_ms: int) -> Steps[tuple[BatchHeader, Buffer]]:
    """As `prepare`, for a batch with a great many records, or large ones, which is examined alone.

    Only the first errors of its records are reported.
    """
    return alone(inspect_in_steps(log, batch, now_ms))


def inspect_in_steps(log: Log, batch: Buffer, now_ms: int) -> Steps[tuple[BatchHeader, Buffer]]:
    """The steps of `prepare_in_steps`."""
    config = log.config
    header = check_header(config, batch)
    wants_times = wants_timestamps(config, header, now_ms)
    try:
        body = yield from open_batch(header, batch, client_bytes_max(config.max_message_bytes))
    except ProtocolError as error:
        raise unreadable(error) from error
    if config.compact or wants_times:
        errors: list[RecordError] = []
        try:
            for number, record in enumerate(read_records(header, body)):
                if number % RECORDS_PER_STEP == 0:
                    yield
                problem = key_error(log, number) if config.compact and record.key is None else None
                if problem is None and wants_times:
                    problem = time_error(config, number, record, now_ms)
                if problem is not None:
                    errors.append(problem)
                    if len(errors) == RECORD_ERRORS_MAX:
                        break
        except ProtocolError as error:
            raise unreadable(error) from error
        refuse_any(errors)
    if not wants_compression(config, header):
        return header, batch
    try:
        yield from check_count(body, header)
    except ProtocolError as error:
        raise unreadable(error) from error
    after = yield from compress_records(CODECS[config.compression_type], body, config.compression_level)
    return rebuilt(config, header, after)


def miscount_error(header: BatchHeader) -> CorruptBatchError:
    return CorruptBatchError(f"the batch does not hold the {header.records_count} records that it claims")


def check_count(body: Buffer, header: BatchHeader) -> Steps[None]:
    """Raises CorruptBatchError if the number of records differs from the header's."""
    count = header.records_count
    position, number = 0, 0
    try:
        while position < len(body) and number <= count:
            if number % RECORDS_COUNTED_PER_STEP == 0:
                yield
            length, position = read_varint(body, position)
            position, number = position + max(length, 0), number + 1
    except ValueError as error:
        raise CorruptBatchError(f"a record cannot be read: {error}") from error
    if number != count or position != len(body):
        raise miscount_error(header)


def check_header(config: LogConfig, batch: Buffer) -> BatchHeader:
    """The header of a batch that may be appended, judging by its header. Raises ApiError."""
    try:
        header = check_batch(batch)
        if header.size_bytes != len(batch):
            raise InvalidBatchError("a produce request must have one batch for each partition")
        if len(batch) > config.max_message_bytes:
            raise ApiError(
                ErrorCode.MESSAGE_TOO_LARGE,
                f"The record batch size of {len(batch)} bytes exceeds max.message.bytes ({config.max_message_bytes}).",
            )
        check_counts(header, batch)
        count = header.records_count
        if count > RECORDS_AT_ONCE and count * RECORD_BYTES_MIN > client_bytes_max(config.max_message_bytes):
            raise InvalidBatchError(f"{header.records_count} records in {len(batch)} bytes are more than is allowed")
        if header.attributes & CONTROL:
            raise InvalidBatchError("clients may not write control records")
        if header.producer_id >= 0:
            if header.base_sequence < 0 or header.producer_epoch < 0:
                raise InvalidBatchError("a batch with a producer id must have an epoch and a sequence")
        elif header.attributes & TRANSACTIONAL:
            raise InvalidBatchError("a batch of a transaction must have a producer id")
    except UnsupportedMagicError as error:
        raise ApiError(ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT, str(error)) from error
    except InvalidBatchError as error:
        raise ApiError(ErrorCode.INVALID_RECORD, str(error)) from error
    except CorruptBatchError as error:
        raise ApiError(ErrorCode.CORRUPT_MESSAGE, str(error)) from error
    return header


def unreadable(error: ProtocolError) -> ApiError:
    """The error for a batch whose CRC is right but whose records are not. Sending it again cannot help, so it is INVALID_RECORD.

    A count that differs from the header's stays CORRUPT_MESSAGE.
    """
    code = ErrorCode.INVALID_RECORD if isinstance(error, CompressionError) else ErrorCode.CORRUPT_MESSAGE
    return ApiError(code, str(error))


def check_keys(log: Log, header: BatchHeader, body: bytes) -> None:
    """A compacted topic accepts only records with keys. Raises ApiError and ProtocolError."""
    try:
        keys = consecutive_keys(body, header.records_count)
    except (IndexError, ValueError) as error:
        raise CorruptBatchError(f"a record cannot be read: {error}") from error
    if None in keys:
        refuse_any([key_error(log, n) for n, key in enumerate(keys) if key is None])


def key_error(log: Log, number: int) -> RecordError:
    message = f"Compacted topic cannot accept message without key in topic partition {log.topic}-{log.partition}."
    return ErrorCode.INVALID_RECORD, number, message


def refuse_any(errors: list[RecordError]) -> None:
    """Raises ApiError with the code of the first error, if there is one."""
    if errors:
        raise rejection(errors[0][0], [(number, message) for _, number, message in errors])


class BatchDetails(NamedTuple):
    """Details of the error for a refused batch; `record_errors` are (index in the batch, reason)."""

    record_errors: list[tuple[int, str]] = []
    log_start_offset: int = -1


NO_DETAILS = BatchDetails()


def rejection(code: ErrorCode, record_errors: list[tuple[int, str]]) -> ApiError:
    shown = "; ".join(f"record {n}: {message}" for n, message in record_errors[:RECORD_ERRORS_SHOWN])
    return ApiError(
        code,
        f"One or more records have been rejected due to {len(record_errors)} record errors in total, and only showing "
        f"the first three errors at most: {shown}",
        BatchDetails(record_errors),
    )


def wants_timestamps(config: LogConfig, header: BatchHeader, now_ms: int) -> bool:
    """Whether the records' own timestamps must be checked, because one may be too far in the future or the past (KIP-937)."""
    if config.log_append_time:
        return False
    return (
        header.max_timestamp - now_ms > config.timestamp_after_max_ms or config.timestamp_before_max_ms != NO_LIMIT_MS
    )


def time_error(config: LogConfig, number: int, record: Record, now_ms: int) -> RecordError | None:
    """What is wrong with a record's timestamp."""
    ahead_ms = record.timestamp - now_ms
    if record.timestamp < 0 or -config.timestamp_before_max_ms <= ahead_ms <= config.timestamp_after_max_ms:
        return None
    message = (
        f"Timestamp {record.timestamp} of message with offset {number} is out of range. The timestamp should be "
        f"within [{now_ms - config.timestamp_before_max_ms}, {now_ms + config.timestamp_after_max_ms}]"
    )
    return ErrorCode.INVALID_TIMESTAMP, number, message


def wants_compression(config: LogConfig, header: BatchHeader) -> bool:
    """Whether `compression.type` requires another compression."""
    codec = CODECS.get(config.compression_type)
    return codec is not None and codec is not header.compression


def rebuilt(config: LogConfig, header: BatchHeader, body: Buffer) -> tuple[BatchHeader, Buffer]:
    """The batch with its records compressed as `compression.type` requires. Raises ApiError."""
    codec = CODECS[config.compression_type]
    size = HEADER_BYTES + len(body)
    if size > config.max_message_bytes:
        raise ApiError(ErrorCode.MESSAGE_TOO_LARGE, f"with {codec.name.lower()} the batch has {size} bytes")
    after = header._replace(attributes=header.attributes & ~COMPRESSION_MASK | codec, length=size - LOG_OVERHEAD)
    changed = bytearray(HEADER_BYTES) + body
    HEADER.pack_into(changed, 0, *after)
    write_crc(changed)
    return after, changed
