"""Publish and subscribe within one process, on one event loop.

    bus = Bus()

    @bus.subscribe("orders.*.paid")
    async def ship(event: Event[Order]) -> None: ...

    await bus.publish("orders.eu.paid", order, key=order.id, delay=timedelta(minutes=5))

`publish` puts the event into the queue of every subscription whose pattern matches the topic, and returns. A worker of each
subscription hands the event to the handler. So a slow or failing subscriber does not delay the others. What happens when a
queue is full is the subscriber's choice.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, overload

from headwater.bus.errors import BusClosedError, NoSubscriberError, QueueFullError, ReplyTimeoutError
from headwater.bus.patterns import check_topic, compile_pattern
from headwater.bus.schedule import Schedule, Scheduler, delay_to_ms, following_of
from headwater.bus.seen import Seen
from headwater.bus.subscription import Handler, Item, Lane, Overflow, OverflowName, Question, Subscription
from headwater.effects.clock import Clock, SystemClock
from headwater.events.context import current
from headwater.events.event import Event
from headwater.events.fates import Fate, Skip
from headwater.events.headers import HeadersLike
from headwater.events.ids import ids

AnyHandler = TypeVar("AnyHandler", bound=Callable[..., object])

QUEUE_SIZE_MAX = 1000
TOPICS_CACHED_MAX = 10_000
SKIP = Skip()
UNKNOWN: Any = object()


class EventStore(Protocol):
    """A place where a bus keeps its events. For example, `hw.TopicStore` keeps them in a Headwater topic."""

    async def append(self, event: Event[Any]) -> None:
        """Returns when the event is kept."""
        ...

    def read(self) -> AsyncIterator[Event[Any]]:
        """All events that are kept, oldest first."""
        ...


class Bus:
    """Topics, and the subscriptions to them.

    `history` is how many of the last events are kept for subscribers that ask for a replay. With `store`, an event is
    stored before any subscriber gets it. Use a bus from one event loop. Other threads publish with
    `asyncio.run_coroutine_threadsafe(bus.publish(...), loop)`.
    """

    def __init__(self, *, history: int = 0, store: EventStore | None = None, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.subscriptions: list[Subscription] = []
        self.by_topic: dict[str, tuple[Subscription, ...]] = {}
        self.lanes: dict[str, tuple[Lane, ...] | None] = {}  # of a topic, if each subscription has one lane only
        self.history: deque[Event[Any]] = deque(maxlen=history)
        self.store = store
        self.scheduler = Scheduler(self.clock)
        self.questions: dict[int, int] = {}  # how many subscribers have not yet seen a request, by its future
        self.idle_waiters: list[asyncio.Future[None]] = []
        self.published = 0
        self.is_closed = False

    # -- subscribing

    @overload
    def subscribe(
        self,
        pattern: str,
        handler: None = None,
        *,
        queue_size_max: int = ...,
        overflow: Overflow | OverflowName = ...,
        when: Callable[[Event[Any]], bool] | None = ...,
        transform: Callable[[Event[Any]], Event[Any]] | None = ...,
        workers: int = ...,
        replay: int = ...,
        on_error: Fate = ...,
    ) -> Callable[[AnyHandler], AnyHandler]: ...
    @overload
    def subscribe(
        self,
        pattern: str,
        handler: Handler,
        *,
        queue_size_max: int = ...,
        overflow: Overflow | OverflowName = ...,
        when: Callable[[Event[Any]], bool] | None = ...,
        transform: Callable[[Event[Any]], Event[Any]] | None = ...,
        workers: int = ...,
        replay: int = ...,
        on_error: Fate = ...,
    ) -> Subscription: ...
    def subscribe(
        self,
        pattern: str,
        handler: Handler | None = None,
        *,
        queue_size_max: int = QUEUE_SIZE_MAX,
        overflow: Overflow | OverflowName = Overflow.WAIT,
        when: Callable[[Event[Any]], bool] | None = None,
        transform: Callable[[Event[Any]], Event[Any]] | None = None,
        workers: int = 1,
        replay: int = 0,
        on_error: Fate = SKIP,
    ) -> Any:
        """Calls `handler`, a function or an async function, with every event whose topic matches `pattern`.

        `when` filters its events, and `transform` changes them. At most `queue_size_max` events wait for each of its
        `workers`; `overflow` says what happens to a publisher when a queue is full. Events with the same key stay in order.
        `replay` delivers that many of the last events first, as far as the bus has kept them. `on_error` is the fate of an
        event whose handler raises; by default the error is logged. Without a handler this is a decorator. Raises
        PatternError and BusClosedError.
        """
        if handler is None:

            def decorate(function: AnyHandler) -> AnyHandler:
                self.add(pattern, function, queue_size_max, overflow, when, transform, workers, replay, on_error)
                return function

            return decorate
        return self.add(pattern, handler, queue_size_max, overflow, when, transform, workers, replay, on_error)

    def add(
        self,
        pattern: str,
        handler: Handler,
        queue_size_max: int,
        overflow: Overflow | OverflowName,
        when: Callable[[Event[Any]], bool] | None,
        transform: Callable[[Event[Any]], Event[Any]] | None,
        workers: int,
        replay: int,
        on_error: Fate,
    ) -> Subscription:
        self.check_open()
        subscription = Subscription(
            self,
            pattern,
            handler,
            queue_size_max=queue_size_max,
            overflow=Overflow(overflow),
            when=when,
            transform=transform,
            workers=workers,
            on_error=on_error,
        )
        if replay:
            expression = subscription.expression
            past = [event for event in self.history if expression.fullmatch(event.topic)]
            for event in past[-min(replay, queue_size_max) :]:
                subscription.offer(event, event)
        self.subscriptions.append(subscription)
        self.topics_changed()
        return subscription

    def topics_changed(self) -> None:
        self.by_topic.clear()
        self.lanes.clear()

    def forget(self, subscription: Subscription) -> None:
        if subscription in self.subscriptions:
            self.subscriptions.remove(subscription)
            self.topics_changed()

    def route(
        self,
        pattern: str,
        to: str,
        *,
        when: Callable[[Event[Any]], bool] | None = None,
        transform: Callable[[Event[Any]], Event[Any]] | None = None,
    ) -> Subscription:
        """Publishes every event that matches `pattern` again, on the topic `to`."""

        check_topic(to)

        async def pass_on(event: Event[Any]) -> None:
            await self.publish(to, event.value, key=event.key, headers=user_headers(event))

        return self.subscribe(pattern, pass_on, when=when, transform=transform)

    @contextmanager
    def watch(self, pattern: str = "#") -> Iterator[Seen]:
        """Collects the events that match `pattern` within the block, as they are published. For tests and debugging."""
        seen = Seen()
        # It is a filter that notes each event at its publication and lets none through: a queue would be a moment behind.
        subscription = self.subscribe(pattern, seen.events.append, when=seen.note)
        try:
            yield seen
        finally:
            subscription.cancel()

    def matching(self, topic: str) -> tuple[Subscription, ...]:
        found = self.by_topic.get(topic)
        if found is None:
            if len(self.by_topic) >= TOPICS_CACHED_MAX:
                self.topics_changed()
            found = tuple(s for s in self.subscriptions if s.expression.fullmatch(topic))
            self.by_topic[topic] = found
        return found

    # -- publishing

    async def publish(
        self,
        topic: str,
        value: Any,
        *,
        key: object = None,
        headers: HeadersLike | None = None,
        delay: timedelta | float | None = None,
        at: datetime | None = None,
    ) -> Event[Any]:
        """Publishes at once, after `delay` (a timedelta, or seconds), or `at` a time (with a time zone). Returns the event.

        If a subscriber's queue is full, `publish` waits or raises QueueFullError, as that subscriber's `overflow` says. Also
        raises ScheduleError, PatternError for an invalid topic, and BusClosedError.
        """
        event = self.new_event(topic, value, key, headers)
        if delay is not None or at is not None:
            delay_ms = delay_to_ms(self.clock, delay, at) or 0.0
            event.postpone(int(delay_ms))
            self.scheduler.once(topic, delay_ms, lambda: self.deliver(event))
            return event
        if self.store is not None or not self.offer_to_all(event):
            await self.deliver(event)
        return event

    def publish_nowait(
        self, topic: str, value: Any, *, key: object = None, headers: HeadersLike | None = None
    ) -> Event[Any]:
        """As `publish`, for code in the loop's thread that is not async.

        Raises QueueFullError if `publish` would wait. Then some subscribers may have the event and others not.
        """
        if self.store is not None:
            raise RuntimeError("a bus with a store publishes with await bus.publish(...)")
        event = self.new_event(topic, value, key, headers)
        self.keep(event)
        full = [s for s in self.matching(topic) if not s.offer(event, event)]
        if full:
            raise QueueFullError(f"{full[0]!r} has {full[0].queue_size_max} events waiting; use await bus.publish(...)")
        return event

    def new_event(self, topic: str, value: Any, key: object, headers: HeadersLike | None) -> Event[Any]:
        self.check_open()
        if topic not in self.by_topic:  # topics that are there have been checked
            check_topic(topic)
        event = Event(topic, value, key=key, headers=headers, timestamp=self.clock.wall_ms())
        parent = current.get()
        if parent is not None:
            event.caused_by(parent, ids.new())
        return event

    def keep(self, event: Event[Any]) -> None:
        self.published += 1
        if self.history.maxlen:
            self.history.append(event)

    def offer_to_all(self, event: Event[Any]) -> bool:
        """Delivers if no subscriber makes the publisher wait or needs a choice. False if nothing was delivered."""
        lanes = self.lanes.get(event.topic, UNKNOWN)
        if lanes is UNKNOWN:
            found = [subscription.only_lane for subscription in self.matching(event.topic)]
            simple = tuple(lane for lane in found if lane is not None)
            lanes = self.lanes[event.topic] = simple if len(simple) == len(found) else None
        if lanes is None:
            return False
        for lane in lanes:
            if len(lane.items) >= lane.subscription.queue_size_max:
                return False
        self.keep(event)
        for lane in lanes:
            lane.items.append(event)
            if not lane.is_busy:
                lane.wake()
        return True

    async def deliver(self, event: Event[Any], item: Item | None = None) -> None:
        if self.store is not None:
            await self.store.append(event)
        self.keep(event)
        error: QueueFullError | None = None
        for subscription in self.matching(event.topic):
            try:
                await subscription.put(event, event if item is None else item)
            except QueueFullError as full:
                error = full
        if error is not None:
            raise error

    async def replay_store(self, pattern: str = "#") -> int:
        """Delivers all stored events that match `pattern` to the subscribers again. Returns how many there were."""
        if self.store is None:
            raise RuntimeError("this bus has no store")
        expression, number = compile_pattern(pattern), 0
        async for event in self.store.read():
            if expression.fullmatch(event.topic):
                number += 1
                for subscription in self.matching(event.topic):
                    await subscription.put(event, event)
        return number

    def every(self, when: str | timedelta | float, topic: str, value: Any = None, *, key: object = None) -> Schedule:
        """Publishes periodically. If `value` is callable, it is called for each event.

        `when` is a period (a timedelta, or seconds) or a cron expression (UTC). Raises ScheduleError and PatternError.
        Needs a running loop.
        """
        self.check_open()
        check_topic(topic)
        following = following_of(when)

        async def publish() -> None:
            await self.publish(topic, value() if callable(value) else value, key=key)

        return self.scheduler.again(f"{topic} {when}", following, publish)

    # -- requests

    async def request(
        self,
        topic: str,
        value: Any,
        *,
        key: object = None,
        headers: HeadersLike | None = None,
        timeout_ms: float = 5000.0,
    ) -> Any:
        """Publishes, and returns what the first subscriber to answer returns. Raises what it raises.

        Raises NoSubscriberError if no subscriber accepts the event, and ReplyTimeoutError if none answers in time.
        """
        event = self.new_event(topic, value, key, headers)
        subscriptions = self.matching(topic)
        if not subscriptions:
            raise NoSubscriberError(f"nobody subscribes to {topic}")
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.questions[id(reply)] = len(subscriptions)

        def too_late() -> None:
            if not reply.done():
                reply.set_exception(ReplyTimeoutError(f"{topic}: no answer in {timeout_ms:g} ms"))

        timer = self.scheduler.call_at(self.clock.steady_ms() + timeout_ms, too_late)
        try:
            await self.deliver(event, Question(event, reply))
            return await reply
        finally:
            timer.cancel()
            del self.questions[id(reply)]

    def answered(self, question: Question) -> None:
        """Counts a subscriber that does not accept this request. If none is left, the request fails."""
        number = id(question.reply)
        if number in self.questions:
            self.questions[number] -= 1
            if self.questions[number] == 0 and not question.reply.done():
                question.reply.set_exception(NoSubscriberError(f"no subscriber accepts this {question.event.topic}"))

    # -- waiting, and the end

    async def sleep(self, delay_ms: float) -> None:
        await self.scheduler.sleep(delay_ms)

    def note_idle(self) -> None:
        if self.idle_waiters and all(s.is_idle for s in self.subscriptions):
            waiters, self.idle_waiters = self.idle_waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def drain(self) -> None:
        """Waits until every published event is handled, including events that those handlers publish."""
        while self.scheduler.tasks or not all(s.is_idle for s in self.subscriptions):
            if self.scheduler.tasks:
                await asyncio.wait(self.scheduler.tasks)
                continue
            waiter = asyncio.get_running_loop().create_future()
            self.idle_waiters.append(waiter)
            await waiter

    async def close(self) -> None:
        """Waits for the queued events, then ends. Scheduled events are dropped. After that, publishing raises BusClosedError."""
        await self.drain()
        self.is_closed = True
        self.scheduler.close()
        for subscription in list(self.subscriptions):
            subscription.cancel()

    def check_open(self) -> None:
        if self.is_closed:
            raise BusClosedError("the bus is closed")

    def __repr__(self) -> str:
        number = len(self.subscriptions)
        return f"<Bus with {number} subscription{'' if number == 1 else 's'}{', closed' if self.is_closed else ''}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def user_headers(event: Event[Any]) -> list[tuple[str, bytes | None]]:
    """An event's headers, without those that each event gets of its own."""
    return [(name, value) for name, value in event.headers if not name.startswith("ce_")]
