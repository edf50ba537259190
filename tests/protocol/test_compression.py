"""The compressions of batches: levels."""

import json
from random import Random

import pytest

from headwater.protocol.compression import Compression, compress, compressed_at_once_bytes, decompress


def rows(count: int) -> bytes:
    """Data that a higher level makes smaller."""
    random = Random(7)
    return b"".join(
        json.dumps({"user": random.randrange(10**6), "name": f"abc{random.randrange(1000)}"}).encode()
        for _ in range(count)
    )


LEVELS = [
    (Compression.GZIP, (-1, 1, 9)),
    (Compression.LZ4, (1, 9, 17)),
    (Compression.ZSTD, (-131072, -1, 0, 3, 22)),
]


@pytest.mark.parametrize(("codec", "level"), [(codec, level) for codec, levels in LEVELS for level in levels])
def test_every_level_can_be_read_again(codec: Compression, level: int) -> None:
    data = rows(500)
    assert bytes(decompress(codec, compress(codec, data, level), 1 << 20)) == data


@pytest.mark.parametrize(
    ("codec", "low", "high"), [(Compression.GZIP, 1, 9), (Compression.LZ4, 9, 17), (Compression.ZSTD, -50, 19)]
)
def test_a_higher_level_makes_less_of_it(codec: Compression, low: int, high: int) -> None:
    data = rows(3000)
    assert len(compress(codec, data, high)) < 0.97 * len(compress(codec, data, low))


def test_levels_that_are_left_open_are_the_codecs_own() -> None:
    data = rows(3000)
    assert (
        compress(Compression.GZIP, data, -1) == compress(Compression.GZIP, data) == compress(Compression.GZIP, data, 6)
    )
    assert compress(Compression.ZSTD, data) == compress(Compression.ZSTD, data, 3)


@pytest.mark.parametrize(
    ("codec", "level", "size"),
    [
        (Compression.GZIP, -1, 256 << 10),
        (Compression.GZIP, 3, 1 << 20),
        (Compression.GZIP, 9, 128 << 10),
        (Compression.LZ4, 9, 1 << 20),
        (Compression.LZ4, 10, 64 << 10),
        (Compression.ZSTD, 3, 1 << 20),
        (Compression.ZSTD, 22, 16 << 10),
        (Compression.SNAPPY, -1, 1 << 20),
        (Compression.NONE, -1, 1 << 20),
    ],
)
def test_slow_levels_compress_less_at_once(codec: Compression, level: int, size: int) -> None:
    assert compressed_at_once_bytes(codec, level) == size
