"""Randomness, as the core sees it: bytes for ids. Seeded in tests, so that a run can be repeated."""

import os
import random
from typing import Protocol


class Entropy(Protocol):
    """Where ids come from."""

    def bytes(self, size: int) -> bytes:
        """`size` random bytes."""
        ...


class SystemEntropy:
    """The machine's randomness."""

    def bytes(self, size: int) -> bytes:
        return os.urandom(size)


class SeededEntropy:
    """The same bytes for the same seed."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)

    def bytes(self, size: int) -> bytes:
        return self.random.randbytes(size)


def random_uuid(entropy: Entropy) -> bytes:
    """16 bytes of a version 4 UUID."""
    raw = bytearray(entropy.bytes(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)
