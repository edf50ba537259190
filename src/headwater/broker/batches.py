"""What a producer's batch must be to be appended to a log, and what is done to it before.

A batch is checked as bytes, by its header and CRC; its records are looked at only where that is the work itself: keys on a
compacted topic, timestamps near a limit, another compression. Sources: LogValidator.java, KIP-467 (errors of records).
"""

from headwater.effects.buffers import Buffer
from headwater.protocol.compression import Compression, compress, decompress
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.record_keys import consecutive_keys
from headwater.protocol.records import (
    COMPRESSION_MASK,
    DECOMPRESSED_BYTES_MAX,
    HEADER,
    HEADER_BYTES,
    LOG_OVERHEAD,
    BatchHeader,
    CorruptBatchError,
    InvalidBatchError,
    UnsupportedMagicError,
    check_batch,
    check_counts,
    counts_match,
    records,
    write_crc,
)
from headwater.storage.config import LogConfig
from headwater.storage.log import Log

RECORD_ERRORS_SHOWN = 3
NO_LIMIT_MS = (1 << 63) - 1
CODECS = {
    "uncompressed": Compression.NONE,
    "gzip": Compression.GZIP,
    "snappy": Compression.SNAPPY,
    "lz4": Compression.LZ4,
    "zstd": Compression.ZSTD,
}


class RefusedError(Exception):
    """A batch that is not appended: the error code and why; `record_errors` are (index in the batch, why)."""

    def __init__(
        self,
        code: ErrorCode,
        message: str | None = None,
        record_errors: list[tuple[int, str]] | None = None,
        log_start_offset: int = -1,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.record_errors = record_errors or []
        self.log_start_offset = log_start_offset


def checked(log: Log, batch: Buffer, now_ms: int) -> BatchHeader:
    """The header of a batch that may be appended. Raises RefusedError."""
    config = log.config
    try:
        header = check_batch(batch)
        if header.size_bytes != len(batch):
            raise InvalidBatchError("a produce request must have one batch for each partition")
        if len(batch) > config.max_message_bytes:
            raise RefusedError(
                ErrorCode.MESSAGE_TOO_LARGE,
                f"The record batch size of {len(batch)} bytes exceeds max.message.bytes ({config.max_message_bytes}).",
            )
        check_counts(header, batch)
        if header.is_control:
            raise InvalidBatchError("clients may not write control records")
        if header.is_transactional and header.producer_id < 0:
            raise InvalidBatchError("a batch of a transaction must have a producer id")
        if header.producer_id >= 0 and (header.base_sequence < 0 or header.producer_epoch < 0):
            raise InvalidBatchError("a batch with a producer id must have an epoch and a sequence")
        if config.compact:
            check_keys(log, header, batch)
        if not config.log_append_time:
            check_timestamps(config, header, batch, now_ms)
    except UnsupportedMagicError as error:
        raise RefusedError(ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT, str(error)) from error
    except InvalidBatchError as error:
        raise RefusedError(ErrorCode.INVALID_RECORD, str(error)) from error
    except CorruptBatchError as error:
        raise RefusedError(ErrorCode.CORRUPT_MESSAGE, str(error)) from error
    return header


def body_of(header: BatchHeader, batch: Buffer) -> bytes:
    """The records, decompressed. Raises CompressionError, and CorruptBatchError where they are not as many as it says."""
    data = bytes(decompress(header.compression, memoryview(batch)[HEADER_BYTES:], DECOMPRESSED_BYTES_MAX))
    if not counts_match(bytes(HEADER_BYTES) + data, HEADER_BYTES + len(data), header.records_count):
        raise CorruptBatchError(f"the batch does not hold the {header.records_count} records that it claims")
    return data


def check_keys(log: Log, header: BatchHeader, batch: Buffer) -> None:
    """A compacted topic takes records with keys only. Raises RefusedError."""
    try:
        keys = consecutive_keys(body_of(header, batch), header.records_count)
    except (IndexError, ValueError) as error:
        raise CorruptBatchError(f"a record cannot be read: {error}") from error
    if None not in keys:
        return
    message = f"Compacted topic cannot accept message without key in topic partition {log.topic}-{log.partition}."
    raise rejected(ErrorCode.INVALID_RECORD, [(n, message) for n, key in enumerate(keys) if key is None])


def rejected(code: ErrorCode, record_errors: list[tuple[int, str]]) -> RefusedError:
    shown = "; ".join(f"record {n}: {message}" for n, message in record_errors[:RECORD_ERRORS_SHOWN])
    return RefusedError(
        code,
        f"One or more records have been rejected due to {len(record_errors)} record errors in total, and only showing "
        f"the first three errors at most: {shown}",
        record_errors,
    )


def check_timestamps(config: LogConfig, header: BatchHeader, batch: Buffer, now_ms: int) -> None:
    """Raises RefusedError for records from too far in the future or the past (KIP-937)."""
    is_early_possible = config.timestamp_before_max_ms != NO_LIMIT_MS
    if header.max_timestamp - now_ms <= config.timestamp_after_max_ms and not is_early_possible:
        return
    errors = []
    for number, record in enumerate(records(header, batch)):
        ahead_ms = record.timestamp - now_ms
        if record.timestamp >= 0 and not -config.timestamp_before_max_ms <= ahead_ms <= config.timestamp_after_max_ms:
            message = (
                f"Timestamp {record.timestamp} of message with offset {number} is out of range. The timestamp should be "
                f"within [{now_ms - config.timestamp_before_max_ms}, {now_ms + config.timestamp_after_max_ms}]"
            )
            errors.append((number, message))
    if errors:
        raise rejected(ErrorCode.INVALID_TIMESTAMP, errors)


def recompressed(config: LogConfig, header: BatchHeader, batch: Buffer) -> tuple[BatchHeader, Buffer]:
    """The batch as `compression.type` wants it; as it is where that is `producer` or what it has. Raises RefusedError."""
    codec = CODECS.get(config.compression_type)
    if codec is None or codec is header.compression:
        return header, batch
    try:
        body = compress(codec, body_of(header, batch))
    except CorruptBatchError as error:
        raise RefusedError(ErrorCode.CORRUPT_MESSAGE, str(error)) from error
    size = HEADER_BYTES + len(body)
    if size > config.max_message_bytes:
        raise RefusedError(ErrorCode.MESSAGE_TOO_LARGE, f"with {codec.name.lower()} the batch has {size} bytes")
    after = header._replace(attributes=header.attributes & ~COMPRESSION_MASK | codec, length=size - LOG_OVERHEAD)
    changed = bytearray(HEADER_BYTES) + body
    HEADER.pack_into(changed, 0, *after)
    write_crc(changed)
    return after, changed
