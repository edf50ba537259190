"""The keys of a batch's records, as compaction compares them: read where they lie, without decoding the records.

A long key is represented by 16 bytes of its hash, marked by a length that no short key has.
"""

import hashlib

from headwater.protocol.varint import read_varint

KEY_BYTES_MAX = 16


def short_key(key: bytes) -> bytes:
    """What stands for a key: itself, or 16 bytes of a hash."""
    return key if len(key) <= KEY_BYTES_MAX else hashlib.blake2b(key, digest_size=KEY_BYTES_MAX + 1).digest()


def consecutive_keys(data: bytes, count: int) -> list[bytes | None]:
    """What stands for the key of each record in a batch whose records have all offsets; None for a record without one.

    The hot loop of the first pass: no calls, and the offset's delta is known, so it is not read.
    """
    keys: list[bytes | None] = []
    append = keys.append
    position = 0
    for deltas_bytes, numbers in ((1, min(count, 64)), (2, min(count, 8192) - 64), (5, count - 8192)):
        for _ in range(numbers):
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


def split_record(data: bytes, position: int) -> tuple[int, bytes | None, int, int]:
    """A record's offset delta, what stands for its key, the position of its value's length, and where it ends.

    Varints of one byte, which nearly all are, are read without a call.
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
