"""Pauses between attempts: they grow, to a limit, and begin small again after a success."""

from headwater.client.backoff import Backoff
from headwater.effects.entropy import SeededEntropy


class Fixed:
    """Always the same byte."""

    def __init__(self, byte: int) -> None:
        self.byte = byte

    def bytes(self, size: int) -> bytes:
        return bytes([self.byte]) * size


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(Fixed(0), first_ms=50, longest_ms=300)
    assert [backoff.record_failure() for _ in range(5)] == [40, 80, 160, 240, 240]
    backoff.succeeded()
    assert backoff.record_failure() == 40


def test_pauses_are_scattered_by_a_fifth() -> None:
    assert Backoff(Fixed(0), first_ms=100).record_failure() == 80
    assert Backoff(Fixed(255), first_ms=100).record_failure() == 120


def test_a_million_failures_do_not_overflow() -> None:
    backoff = Backoff(SeededEntropy())
    backoff.failures = 1_000_000
    assert 800 <= backoff.record_failure() <= 1200
