"""What happens to an event whose handler raises: retry, skip, dead letter or stop. No event is lost silently."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Stop:
    """The consumer stops with the error. The event counts as not handled: it is delivered again after a restart."""


@dataclass(frozen=True, slots=True)
class Skip:
    """The error is logged with the event's place. Then the next event is handled."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The event is published to another topic, with the error in its headers. By default its own topic's name plus `.dead`."""

    topic: str | None = None

    def topic_for(self, topic: str) -> str:
        return self.topic or f"{topic}.dead"


LastFate: TypeAlias = Stop | Skip | DeadLetter


@dataclass(frozen=True, slots=True)
class Retry:
    """The event is handled again, at most `attempts` times, after waits that grow by `factor`. If all fail, `then` applies."""

    attempts: int = 3
    delay_ms: float = 100.0
    factor: float = 2.0
    delay_ms_max: float = 60_000.0
    then: LastFate = Stop()

    def __post_init__(self) -> None:
        if self.attempts < 0 or self.delay_ms < 0 or self.factor < 0 or self.delay_ms_max < 0:
            raise ValueError(f"{self!r}: attempts, waits and factor are 0 or more")
        if not isinstance(self.then, LastFate):
            raise TypeError(f"then= of a Retry is {fate_text(self.then)}; give Stop(), Skip() or DeadLetter()")

    def delays_ms(self) -> Iterator[float]:
        """The wait before each attempt except the first."""
        delay_ms = self.delay_ms
        for _ in range(self.attempts):
            yield min(delay_ms, self.delay_ms_max)
            delay_ms *= self.factor


Fate: TypeAlias = Retry | LastFate


def checked_fate(fate: object) -> Fate:
    """The fate that `on_error` names. Raises TypeError for anything else, because a wrong fate would lose events."""
    if not isinstance(fate, Fate):
        raise TypeError(f"on_error= is {fate_text(fate)}; give hw.Stop(), hw.Skip(), hw.DeadLetter() or hw.Retry(…)")
    return fate


def fate_text(fate: object) -> str:
    return f"the class {fate.__name__}, without parentheses" if isinstance(fate, type) else repr(fate)


def delays_ms(fate: Fate) -> Iterator[float]:
    """The waits before further attempts. None of them if the fate is not a Retry."""
    return fate.delays_ms() if isinstance(fate, Retry) else iter(())


def last_fate(fate: Fate) -> LastFate:
    """The fate after the last attempt."""
    return fate.then if isinstance(fate, Retry) else fate


def error_headers(
    error: BaseException, topic: str, partition: int, offset: int
) -> list[tuple[str, str | bytes | None]]:
    """The headers of a dead letter: its error, and the place of the event that failed."""
    return [
        ("hw_error", f"{type(error).__name__}: {error}"[:1000]),
        ("hw_original_topic", topic),
        ("hw_original_partition", str(partition)),
        ("hw_original_offset", str(offset)),
    ]
