"""Which event is being handled, and what the events that it causes inherit: so every event knows its cause.

While a handler runs, a context variable holds the event that it handles. An event that is published meanwhile, in the same
task or in tasks that it starts, gets an id of its own, the id of its cause, the correlation id of the first event in the
chain, and the trace that it belongs to.

For example, "order placed" (id 1) causes "paid" (id 2, cause 1), which causes "shipped" (id 3, cause 2). All three have the
correlation id 1.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from headwater.events.event import Event

current: ContextVar[Event[Any] | None] = ContextVar("headwater_event", default=None)


class Cause(NamedTuple):
    """What an event inherits from the one that is being handled."""

    correlation_id: str
    causation_id: str | None
    traceparent: str | None


def current_event() -> Event[Any] | None:
    """The event that is being handled; None outside of a handler."""
    return current.get()


def cause_for(event_id: str) -> Cause:
    """What a new event inherits. One without a cause starts a chain of its own."""
    parent = current.get()
    if parent is None:
        return Cause(event_id, None, None)
    return Cause(parent.correlation_id, parent.id, parent.traceparent)


@contextmanager
def handling(event: Event[Any]) -> Iterator[None]:
    """Makes this event the cause of what is published within the block."""
    token = current.set(event)
    try:
        yield
    finally:
        current.reset(token)
