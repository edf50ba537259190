"""Which event is being handled, and what its descendants carry: so every event knows what caused it.

While a handler runs, the event that it handles is in a context variable. What is published meanwhile, in the same task or
in tasks that it starts, gets its own id, the id of its cause, the correlation id of the first event of the chain, and the
trace that it belongs to.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from headwater.events.event import Event

current: ContextVar[Event[Any] | None] = ContextVar("headwater_event", default=None)


class Cause(NamedTuple):
    """What an event takes over from the one that is being handled."""

    correlation_id: str
    causation_id: str | None
    traceparent: str | None


def current_event() -> Event[Any] | None:
    """The event that is being handled here; None outside of a handler."""
    return current.get()


def cause_for(event_id: str) -> Cause:
    """What a new event gets; one that nothing caused begins a chain of its own."""
    parent = current.get()
    if parent is None:
        return Cause(event_id, None, None)
    return Cause(parent.correlation_id, parent.id, parent.traceparent)


@contextmanager
def handling(event: Event[Any]) -> Iterator[None]:
    """What is published within is caused by this event."""
    token = current.set(event)
    try:
        yield
    finally:
        current.reset(token)
