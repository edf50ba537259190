"""What `bus.watch` returns."""

from typing import Any

from headwater.events.event import Event

SEEN_MAX = 100_000


class Seen:
    """The events that a watched pattern has matched so far: the last SEEN_MAX of them."""

    def __init__(self) -> None:
        self.events: list[Event[Any]] = []

    def note(self, event: Event[Any]) -> bool:
        if len(self.events) >= SEEN_MAX:
            del self.events[0]
        self.events.append(event)
        return False

    @property
    def values(self) -> list[Any]:
        return [event.value for event in self.events]

    def __repr__(self) -> str:
        last = f": the last is {self.events[-1]!r}" if self.events else ""
        return f"<Seen {len(self.events)} so far{last}>"
