"""librdkafka's log, reduced to lines that a person can read.

librdkafka writes a line for each attempt to reach each broker: hundreds in ten seconds while a broker is away. Here each
kind of line is logged once, and then at most every half minute, with the number that was left out; everything about
connections is one kind. When the broker answers again, a line says so. All of it goes to the logger "headwater.client".
"""

import logging
import re
from typing import NamedTuple

from headwater.effects.clock import Clock, SystemClock

logger = logging.getLogger("headwater.client")
REPEAT_MS = 30_000.0
LOOK_MS = 2000.0  # each look makes librdkafka try to connect, at once and a few times
KINDS_MAX = 100
KIND_LENGTH_MAX = 200
FACILITIES = frozenset({"FAIL", "ERROR"})  # librdkafka's words for a failed connection and what follows
REFUSED = re.compile(r"SASL|SSL|authenti", re.IGNORECASE)
DIGITS = re.compile(r"\d+")
THREAD = re.compile(r"^\[thrd:[^\]]*\]: ")


class Shown(NamedTuple):
    """When a kind of line was last logged, and how many have been left out since."""

    at_ms: float
    left_out: int


class ClientLog:
    """The log of one client of librdkafka's, which calls `log`. Safe from any thread."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.shown: dict[str, Shown] = {}
        self.name = "a client"
        self.away_ms: float | None = None  # since when no broker answers
        self.looked_ms = 0.0
        self.is_shown = False  # whether the log says that it is away
        self.is_closed = False

    def log(self, level: int, form: str, facility: str, name: str, text: str) -> None:
        """A line of librdkafka's. It must not raise: the client would end."""
        if self.is_closed:  # the client is being closed, so its connections end
            return
        self.name = name
        text = THREAD.sub("", text)
        if level < logging.INFO:  # asked for by `debug` among the settings
            logger.log(level, "%s: %s", name, text)
        elif facility not in FACILITIES or REFUSED.search(text):
            self.show(f"{facility} {DIGITS.sub('', text)}"[:KIND_LENGTH_MAX], level, text)
        elif level < logging.WARNING:
            self.show("disconnected", level, text)
        else:
            self.is_shown |= self.show("away", logging.WARNING, f"{text}; trying again")

    def show(self, kind: str, level: int, text: str) -> bool:
        """Logs a line of this kind, unless one was logged a short time ago."""
        now_ms = self.clock.steady_ms()
        last = self.shown.get(kind)
        if last is not None and now_ms - last.at_ms < REPEAT_MS:
            self.shown[kind] = last._replace(left_out=last.left_out + 1)
            return False
        if len(self.shown) >= KINDS_MAX:
            self.shown.clear()
        self.shown[kind] = Shown(now_ms, 0)
        more = f" ({last.left_out} more lines like this were left out)" if last is not None and last.left_out else ""
        logger.log(level, "%s: %s%s", self.name, text, more)
        return True

    def broker_is_away(self) -> None:
        if self.away_ms is None:
            self.away_ms = self.looked_ms = self.clock.steady_ms()

    def is_to_look(self) -> bool:
        """Whether it is time to ask again whether the broker is back."""
        now_ms = self.clock.steady_ms()
        if self.away_ms is None or self.is_closed or now_ms - self.looked_ms < LOOK_MS:
            return False
        self.looked_ms = now_ms
        return True

    def broker_is_back(self) -> None:
        if self.away_ms is not None and self.is_shown:
            away_s = (self.clock.steady_ms() - self.away_ms) / 1000
            logger.warning("%s: the broker answers again, after %.1f s", self.name, away_s)
        self.away_ms, self.is_shown = None, False
