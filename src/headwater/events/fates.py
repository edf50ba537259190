"""What becomes of an event whose handler raises: it is tried again, put aside, or everything stops. It is never lost silently."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Stop:
    """The consumer stops with the error. The event counts as not handled, and comes again after a restart."""


@dataclass(frozen=True, slots=True)
class Skip:
    """The error is logged with the event's place, and the next event is handled."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The event goes to another topic, with its error in headers; `topic` None: its own name and `.dead`."""

    topic: str | None = None

    def topic_for(self, topic: str) -> str:
        return self.topic or f"{topic}.dead"


LastFate: TypeAlias = Stop | Skip | DeadLetter


@dataclass(frozen=True, slots=True)
class Retry:
    """It is handled again, `attempts` times at most, after waits that grow by `factor`; if all fail, `then`."""

    attempts: int = 3
    delay_ms: float = 100.0
    factor: float = 2.0
    delay_ms_max: float = 60_000.0
    then: LastFate = Stop()

    def __post_init__(self) -> None:
        if self.attempts < 0 or self.delay_ms < 0 or self.factor < 0 or self.delay_ms_max < 0:
            raise ValueError(f"{self!r}: attempts, waits and factor are 0 or more")
        if not isinstance(self.then, LastFate):
            raise TypeError(f"then= of a Retry is {shown(self.then)}; give Stop(), Skip() or DeadLetter()")

    def delays_ms(self) -> Iterator[float]:
        """The wait before each attempt but the first."""
        delay_ms = self.delay_ms
        for _ in range(self.attempts):
            yield min(delay_ms, self.delay_ms_max)
            delay_ms *= self.factor


Fate: TypeAlias = Retry | LastFate


def checked_fate(fate: object) -> Fate:
    """What `on_error` names. Raises TypeError: another fate than the one that was meant would lose events."""
    if not isinstance(fate, Fate):
        raise TypeError(f"on_error= is {shown(fate)}; give hw.Stop(), hw.Skip(), hw.DeadLetter() or hw.Retry(…)")
    return fate


def shown(fate: object) -> str:
    return f"the class {fate.__name__}, without parentheses" if isinstance(fate, type) else repr(fate)


def delays_ms(fate: Fate) -> Iterator[float]:
    """The waits before further attempts; none where the fate is not a Retry."""
    return fate.delays_ms() if isinstance(fate, Retry) else iter(())


def last_fate(fate: Fate) -> LastFate:
    """What happens when there are no further attempts."""
    return fate.then if isinstance(fate, Retry) else fate


def error_headers(
    error: BaseException, topic: str, partition: int, offset: int
) -> list[tuple[str, str | bytes | None]]:
    """What a dead letter says of its error and of where it comes from."""
    return [
        ("hw_error", f"{type(error).__name__}: {error}"[:1000]),
        ("hw_original_topic", topic),
        ("hw_original_partition", str(partition)),
        ("hw_original_offset", str(offset)),
    ]
