"""How long to wait before a process that ended unexpectedly is restarted: longer each time, until it has run for a while."""

FIRST_MS = 500.0
LONGEST_MS = 60_000.0
SOUND_MS = 60_000.0


class Restarts:
    """The delays of one process: half a second, doubled each time up to a minute. After a run of a minute they begin again."""

    def __init__(self) -> None:
        self.following_ms = FIRST_MS

    def delay_ms(self, ran_ms: float) -> float:
        """The delay after a run of that length."""
        if ran_ms >= SOUND_MS:
            self.following_ms = FIRST_MS
        found = self.following_ms
        self.following_ms = min(LONGEST_MS, 2 * found)
        return found
