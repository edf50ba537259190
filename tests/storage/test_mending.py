"""Bringing a damaged batch back, and giving up what cannot be."""

import pytest

from headwater.protocol.compression import Compression
from headwater.protocol.records import ATTRIBUTES_AT, Record, build_batch, check_batch
from headwater.storage.mending import BIT_BYTES_MAX, flip_back


def batch_of(size: int, compression: Compression = Compression.NONE) -> bytearray:
    content = [Record(b"key", bytes(range(256)) * (size // 256 + 1), (("h", b"v"),), 1_700_000_000_000)]
    return build_batch(content, base_offset=7, leader_epoch=3, compression=compression)


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.ZSTD])
def test_the_crc_says_which_bit_was_flipped(compression: Compression) -> None:
    whole = batch_of(300, compression)
    for at in range(17, len(whole)):
        for bit in (0, 3, 7):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            stored = check_batch(whole).crc if at >= ATTRIBUTES_AT else int.from_bytes(damaged[17:21], "big")
            assert flip_back(damaged, stored)
            assert damaged == whole, (at, bit)


def test_two_bits_are_not_taken_for_one() -> None:
    whole = batch_of(300)
    for first in range(ATTRIBUTES_AT, len(whole), 9):
        damaged = bytearray(whole)
        damaged[first] ^= 1
        damaged[-1] ^= 0x10
        assert not flip_back(damaged, check_batch(whole).crc)


def test_large_batches_are_not_guessed_at() -> None:
    whole = batch_of(BIT_BYTES_MAX)
    damaged = bytearray(whole)
    damaged[100] ^= 1
    assert not flip_back(damaged, check_batch(whole).crc)
