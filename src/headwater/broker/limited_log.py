"""Limits warnings that strangers can provoke: a few of each kind are logged per ten seconds; of the rest only the number."""

import logging
from collections.abc import Callable

LINES = 5
INTERVAL_MS = 10_000


class LimitedLog:
    """`now_ms` is a steady clock. The code, and never a client, names the kinds, of which there are few."""

    def __init__(self, logger: logging.Logger, now_ms: Callable[[], float]) -> None:
        self.logger = logger
        self.now_ms = now_ms
        self.kinds: dict[str, tuple[float, int]] = {}  # when the interval began, and the number of warnings in it

    def warning(self, kind: str, message: str, *args: object) -> None:
        now_ms = self.now_ms()
        began_ms, count = self.kinds.get(kind, (now_ms, 0))
        if now_ms - began_ms >= INTERVAL_MS:
            if count > LINES:
                self.logger.warning("%s: %d more in the %d s before", kind, count - LINES, INTERVAL_MS // 1000)
            began_ms, count = now_ms, 0
        self.kinds[kind] = began_ms, count + 1
        if count < LINES:
            self.logger.warning(message, *args)
