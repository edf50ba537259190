"""Expectations: a test states what should happen.

event = expect(topic).to_receive(value={"id": 42}, within_ms=2000)
expect(paid).to_be_caused_by(ordered)
"""

from collections.abc import Callable
from typing import Any, overload

from headwater.events.event import Event
from headwater.testing.topics import Topic

WITHIN_MS = 5000.0


class Anything:
    """The default of an expectation's fields: any value will do."""

    def __repr__(self) -> str:
        return "anything"


ANYTHING: Any = Anything()


class TopicExpectation:
    """What should arrive in a topic. Each event can meet only one expectation."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic

    def to_receive(
        self,
        value: Any = ANYTHING,
        *,
        key: Any = ANYTHING,
        where: Callable[[Event[Any]], bool] | None = None,
        within_ms: float = WITHIN_MS,
    ) -> Event[Any]:
        """The first matching event, from the topic's beginning. Raises AssertionError, which lists all received events."""
        __tracebackhide__ = True  # a test's report ends at the test's own line
        topic = self.topic
        matched: list[Event[Any]] = []
        looked_at = 0

        def found() -> bool:
            nonlocal looked_at
            new = topic.received[looked_at:]
            looked_at = len(topic.received)
            matched.extend(event for event in new if is_like(event, value, key, where))
            return bool(matched)

        if not topic.receive_until(found, within_ms):
            wanted = "an event" if value is ANYTHING else repr(value)
            came = "".join(f"\n  {event!r}" for event in topic.received) or " nothing"
            raise AssertionError(f"{topic.name} did not receive {wanted} within {within_ms:g} ms; it received:{came}")
        topic.received.remove(matched[0])
        return matched[0]

    def to_receive_nothing(self, *, within_ms: float) -> None:
        """Raises AssertionError if an event arrives within this time that has not met an earlier expectation."""
        __tracebackhide__ = True
        topic = self.topic
        if topic.receive_until(lambda: bool(topic.received), within_ms):
            raise AssertionError(f"{topic.name} received {topic.received[0]!r}")


class EventExpectation:
    """What should be true of an event."""

    def __init__(self, event: Event[Any]) -> None:
        self.event = event

    def to_be_caused_by(self, cause: Event[Any]) -> None:
        """Raises AssertionError unless the event was published while `cause` was handled."""
        __tracebackhide__ = True
        if self.event.causation_id != cause.id:
            raise AssertionError(
                f"{self.event!r} was caused by {self.event.causation_id}, not by {cause.id}: {cause!r}"
            )

    def to_follow_from(self, first: Event[Any]) -> None:
        """Raises AssertionError unless the event belongs to the same chain of events as `first`."""
        __tracebackhide__ = True
        if self.event.correlation_id != first.correlation_id:
            raise AssertionError(
                f"{self.event!r} belongs to {self.event.correlation_id}, not to {first.correlation_id}: {first!r}"
            )


def is_like(event: Event[Any], value: Any, key: Any, where: Callable[[Event[Any]], bool] | None) -> bool:
    return (
        (value is ANYTHING or event.value == value)
        and (key is ANYTHING or event.key == key)
        and (where is None or where(event))
    )


@overload
def expect(subject: Topic) -> TopicExpectation: ...
@overload
def expect(subject: Event[Any]) -> EventExpectation: ...
def expect(subject: Topic | Event[Any]) -> TopicExpectation | EventExpectation:
    """An expectation of a topic, or of an event."""
    return TopicExpectation(subject) if isinstance(subject, Topic) else EventExpectation(subject)
