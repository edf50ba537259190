"""How long to wait before the next attempt: a little at first, twice as long after each failure, and never longer than a limit.

The wait varies at random by a fifth, as that of Kafka's clients does. Otherwise all clients would call at once when a
broker comes back.
"""

from headwater.effects.entropy import Entropy

FIRST_MS = 50.0
LONGEST_MS = 1000.0
SCATTER = 0.2
DOUBLINGS_MAX = 16


class Backoff:
    """Counts failures in a row."""

    def __init__(self, entropy: Entropy, first_ms: float = FIRST_MS, longest_ms: float = LONGEST_MS) -> None:
        self.entropy, self.first_ms, self.longest_ms = entropy, first_ms, longest_ms
        self.failures = 0

    def record_failure(self) -> float:
        """Counts a failure; returns the milliseconds to wait."""
        doubled_ms: float = self.first_ms * 2 ** min(self.failures, DOUBLINGS_MAX)
        self.failures += 1
        return min(doubled_ms, self.longest_ms) * (1 + SCATTER * (self.entropy.bytes(1)[0] / 127.5 - 1))

    def succeeded(self) -> None:
        self.failures = 0
