"""The keys of a batch's records, as compaction compares them. They are read in place, without decoding the records.

A long key is represented by 16 bytes of its hash, marked by a length that no short key has.
"""

import hashlib
import struct

from headwater.protocol.varint import read_varint

KEY_BYTES_MAX = 16
RUN_RECORDS_MIN = 16
RETRY_RECORDS = 64
HIGH_BITS = bytes(byte >> 7 for byte in range(256))


def short_key(key: bytes) -> bytes:
    """The short form of a key: the key itself, or 16 bytes of its hash."""
    return key if len(key) <= KEY_BYTES_MAX else hashlib.blake2b(key, digest_size=KEY_BYTES_MAX + 1).digest()


def consecutive_keys(data: bytes, count: int) -> list[bytes | None]:
    """The short form of each record's key, in a batch whose offsets have no gaps. None for a record without a key.

    This is the hot loop of the first pass, so it makes no calls. The offset's delta is known, so it is not read. Consecutive
    records of the same layout are read together.
    """
    keys: list[bytes | None] = []
    append = keys.append
    position = 0
    for deltas_bytes, begin, end in ((1, 0, 64), (2, 64, 8192), (5, 8192, count)):
        number, next_try = begin, begin
        while number < min(count, end):
            if number >= next_try:
                run, position = alike_keys(data, position, deltas_bytes, min(count, end) - number)
                keys += run
                number += len(run)
                next_try = number + (0 if len(run) >= RUN_RECORDS_MIN else RETRY_RECORDS)
                continue
            number += 1
            first = data[position]
            if first < 0x80:
                at, position = position + 2, position + 1 + (first >> 1)
            elif data[position + 1] < 0x80:
                at = position + 3
                position += 2 + ((first & 0x7F | data[position + 1] << 7) >> 1)
            else:
                length, at = read_varint(data, position)
                position, at = at + length, at + 1
            while data[at] >= 0x80:  # the timestamp's delta
                at += 1
            if deltas_bytes < 5:
                at += 1 + deltas_bytes
            else:
                _, at = read_varint(data, at + 1)
            size = data[at]
            if size >= 0x80:
                size, at = read_varint(data, at)
                append(short_key(data[at : at + size]))
            elif size & 1:
                append(None)
            elif size <= 2 * KEY_BYTES_MAX:
                append(data[at + 1 : at + 1 + (size >> 1)])
            else:
                append(short_key(data[at + 1 : at + 1 + (size >> 1)]))
    return keys


def alike_keys(data: bytes, position: int, deltas_bytes: int, count: int) -> tuple[list[bytes], int]:
    """The keys of up to `count` records from `position` that have the first one's layout, and where the next record begins.

    Records have the same layout if their sizes, the lengths of their timestamp deltas and the lengths of their keys are equal,
    and the keys are short. What must be equal is compared in columns, with one slice for all records, and one call cuts the
    keys out.
    """
    first = data[position]
    prefix = 1 if first < 0x80 else 2
    if count < RUN_RECORDS_MIN or (prefix == 2 and data[position + 1] >= 0x80) or deltas_bytes > 2:
        return [], position
    size = prefix + ((first & 0x7F | (data[position + 1] << 7 if prefix == 2 else 0)) >> 1)
    count = min(count, (len(data) - position) // size)
    timestamp_at = at = position + prefix + 1
    while data[at] >= 0x80:
        at += 1
    key_size_at = at + 1 + deltas_bytes
    key_size = data[key_size_at]
    key_at = key_size_at + 1 - position
    if key_size & 1 or key_size > 2 * KEY_BYTES_MAX or key_at + (key_size >> 1) > size:
        return [], position
    for column_at in (*range(position, position + prefix), key_size_at, *range(timestamp_at, at + 1)):
        column = data[column_at : column_at + size * count : size][:count]
        if timestamp_at <= column_at <= at:
            column = column.translate(HIGH_BITS)
        count = len(column) - len(column.lstrip(column[:1]))
    cut = struct.Struct(f"{key_at}x{key_size >> 1}s{size - key_at - (key_size >> 1)}x")
    end = position + size * count
    return [key for (key,) in cut.iter_unpack(memoryview(data)[position:end])], end


def split_record(data: bytes, position: int) -> tuple[int, bytes | None, int, int]:
    """A record's offset delta, the short form of its key, the position of its value's length, and its end.

    Nearly all varints have one byte; those are read without a call.
    """
    first = data[position]
    if first < 0x80:
        at, end = position + 2, position + 1 + (first >> 1)
    else:
        length, at = read_varint(data, position)
        at, end = at + 1, at + length
    while data[at] >= 0x80:  # the timestamp's delta
        at += 1
    at += 1
    delta = data[at]
    if delta < 0x80:
        at, delta = at + 1, delta >> 1
    else:
        delta, at = read_varint(data, at)
    size = data[at]
    if size < 0x80:
        at += 1
        if size & 1:
            return delta, None, at, end
        size >>= 1
    else:
        size, at = read_varint(data, at)
    value_at = at + size
    key = data[at:value_at]
    return delta, key if size <= KEY_BYTES_MAX else short_key(key), value_at, end
