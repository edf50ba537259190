"""Record batches that are small on the wire and enormous, or liars, once they are opened.

A codec repeats its frames or members, so a bomb is one compressed piece as often as a request has room for it. Some are
sound to the last bit, some claim another number of records or another last offset, some end early.
"""

from random import Random

from headwater.protocol.compression import Compression, compress
from headwater.protocol.records import (
    HEADER,
    HEADER_BYTES,
    LOG_OVERHEAD,
    NO_PRODUCER_ID,
    NO_SEQUENCE,
    Record,
    record_bytes,
    write_crc,
)

BATCH_BYTES_MAX = 1_000_000  # below the default of message.max.bytes
PIECE_BYTES = 4 << 20
NOW_MS = 1_700_000_000_000
CODECS = (Compression.GZIP, Compression.SNAPPY, Compression.LZ4, Compression.ZSTD)


def bomb(random: Random, codec: Compression) -> bytes:
    """One batch."""
    content, count = random.choice((zeros, tiny_records, one_large_record))()
    piece = bytes(compress(codec, content))
    room = max(1, BATCH_BYTES_MAX // len(piece))
    times = 1 if codec is Compression.SNAPPY else random.choice((1, min(2, room), min(10, room), room))
    body = piece * times
    if random.random() < 0.2:
        body = body[: random.randrange(len(body))]
    claimed = random.choice((count * times, count, 1, 0, -1, 2**31 - 1))
    last_offset_delta = random.choice((claimed - 1, 0, 2**31 - 1))
    batch = bytearray(HEADER_BYTES) + body
    numbers = (last_offset_delta, NOW_MS, NOW_MS, NO_PRODUCER_ID, -1, NO_SEQUENCE, claimed)
    HEADER.pack_into(batch, 0, 0, len(batch) - LOG_OVERHEAD, -1, 2, 0, codec, *numbers)
    write_crc(batch)
    return bytes(batch)


def zeros() -> tuple[bytes, int]:
    return bytes(PIECE_BYTES), 1


def tiny_records() -> tuple[bytes, int]:
    """Records without key, value and headers, all at one offset and time: seven bytes each."""
    one = record_bytes(Record(None, None), 0, 0)
    count = PIECE_BYTES // len(one)
    return one * count, count


def one_large_record() -> tuple[bytes, int]:
    return record_bytes(Record(b"k", bytes(PIECE_BYTES)), 0, 0), 1
