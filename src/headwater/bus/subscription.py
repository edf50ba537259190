"""A subscriber's side of the bus: a bounded queue, a worker for it, and the fate of an event whose handler raises.

One worker handles the events in their order. With more than one of `workers` there is one lane per worker, each with its own
queue. Events with the same key always go to the same lane, so they stay in order.
"""

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import Any, Literal, NamedTuple, NoReturn, Protocol, TypeAlias

from headwater.bus.errors import HandlerCancelledError, QueueFullError
from headwater.bus.observers import name_of
from headwater.bus.patterns import compile_pattern
from headwater.events.context import current
from headwater.events.event import Event
from headwater.events.failures import recover
from headwater.events.fates import Fate, checked_fate
from headwater.events.headers import HeadersLike

logger = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[Event[Any]], Awaitable[object] | object]


class Overflow(Enum):
    """What happens to a publisher when a subscriber's queue is full."""

    WAIT = "wait"
    """It waits until there is room."""
    DROP_OLDEST = "drop-oldest"
    DROP_NEWEST = "drop-newest"
    FAIL = "fail"
    """It gets QueueFullError. Other subscribers still get the event."""

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        raise ValueError(f"overflow is {value!r}; give one of {', '.join(repr(each.value) for each in cls)}")


OverflowName = Literal["wait", "drop-oldest", "drop-newest", "fail"]


class Question(NamedTuple):
    """A request: an event that waits for an answer."""

    event: Event[Any]
    reply: asyncio.Future[Any]


Item: TypeAlias = Event[Any] | Question


class SubscribedBus(Protocol):
    """What a subscription needs of its bus."""

    async def sleep(self, delay_ms: float) -> None: ...

    async def publish(self, topic: str, value: Any, *, key: object = None, headers: HeadersLike) -> Event[Any]:
        """Publishes a dead letter."""
        ...

    def matching(self, topic: str) -> Sequence["Subscription"]:
        """The subscriptions that get what is published on a topic."""
        ...

    def answered(self, question: Question) -> None:
        """Called when the subscription does not accept this request."""

    def note_idle(self) -> None:
        """Called when a worker has nothing to do."""

    def forget(self, subscription: "Subscription") -> None:
        """Called when the subscription has ended."""


class Lane:
    """A queue and the worker that empties it."""

    __slots__ = ("is_busy", "items", "room", "subscription", "task", "wakeup")

    def __init__(self, subscription: "Subscription") -> None:
        self.subscription = subscription
        self.items: deque[Item] = deque()
        self.task: asyncio.Task[None] | None = None
        self.wakeup: asyncio.Future[None] | None = None
        self.room: deque[asyncio.Future[None]] = deque()
        self.is_busy = False

    def put(self, item: Item) -> None:
        self.items.append(item)
        if not self.is_busy:
            self.wake()

    def wake(self) -> None:
        """Makes the worker look at its queue."""
        self.is_busy = True
        if self.task is None:
            self.task = asyncio.get_running_loop().create_task(self.run())
            self.task.add_done_callback(self.subscription.lane_ended)
        elif self.wakeup is not None and not self.wakeup.done():
            self.wakeup.set_result(None)

    async def run(self) -> None:
        subscription, items = self.subscription, self.items
        handler, is_async, is_plain = subscription.handler, subscription.is_async, subscription.transform is None
        loop = asyncio.get_running_loop()
        while True:
            while items:
                item = items.popleft()
                if self.room:
                    self.let_in()
                if not is_async or not is_plain or isinstance(item, Question):
                    await subscription.handle(item)
                    continue
                # The common case, without another coroutine around the handler's.
                current.set(item)
                try:
                    await handler(item)  # type: ignore[misc]
                except Exception as error:  # noqa: BLE001 - whatever a handler raises has its fate
                    await subscription.failed_with(item, error, None)
                except asyncio.CancelledError as cancelled:
                    await subscription.failed_with(item, subscription.as_failure(cancelled), None)
                else:
                    subscription.delivered += 1
            self.is_busy = False
            self.subscription.bus.note_idle()
            self.wakeup = loop.create_future()
            try:
                await self.wakeup
            finally:
                self.wakeup = None

    def let_in(self) -> None:
        """Lets one of the publishers that wait for room put its event."""
        while self.room:
            waiter = self.room.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


class Subscription:
    """A handler and the pattern of its topics. It ends by `cancel`, or with the block if used in a `with` statement."""

    def __init__(
        self,
        bus: SubscribedBus,
        pattern: str,
        handler: Handler,
        *,
        queue_size_max: int,
        overflow: Overflow,
        when: Callable[[Event[Any]], bool] | None,
        transform: Callable[[Event[Any]], Event[Any]] | None,
        workers: int,
        on_error: Fate,
    ) -> None:
        if not callable(handler):
            raise TypeError(f"a handler of {pattern!r} must be callable, not {type(handler).__name__}")
        if queue_size_max < 1 or workers < 1:
            raise ValueError("queue_size_max and workers must be at least 1")
        self.bus, self.pattern, self.handler = bus, pattern, handler
        self.expression = compile_pattern(pattern)
        self.queue_size_max, self.overflow = queue_size_max, overflow
        self.when, self.transform, self.on_error = when, transform, checked_fate(on_error)
        self.is_async = inspect.iscoroutinefunction(handler)
        self.lanes = [Lane(self) for _ in range(workers)]
        self.delivered = self.failed = self.dropped = 0
        self.error: BaseException | None = None
        self.is_active = True

    @property
    def only_lane(self) -> Lane | None:
        """The one lane that gets every event; None if the lane, or whether the event is wanted, depends on the event."""
        return self.lanes[0] if len(self.lanes) == 1 and self.when is None else None

    @property
    def queued(self) -> int:
        """How many events wait in its queues."""
        return sum(len(lane.items) for lane in self.lanes)

    @property
    def is_idle(self) -> bool:
        return not any(lane.items or lane.is_busy for lane in self.lanes)

    def lane_for(self, key: object) -> Lane:
        lanes = self.lanes
        return lanes[0] if len(lanes) == 1 else lanes[hash(key) % len(lanes)]

    # -- the publisher's side

    def offer(self, event: Event[Any], item: Item) -> bool:
        """Puts an event into its queue. Returns False if the publisher has to wait for room. Raises QueueFullError."""
        if self.when is not None and not self.when(event):
            if isinstance(item, Question):
                self.bus.answered(item)
            return True
        lane = self.lanes[0] if len(self.lanes) == 1 else self.lane_for(event.key)
        if len(lane.items) < self.queue_size_max:
            lane.put(item)
            return True
        match self.overflow:
            case Overflow.WAIT:
                return False
            case Overflow.DROP_OLDEST:
                lane.items.popleft()
                lane.put(item)
                self.dropped += 1
            case Overflow.DROP_NEWEST:
                self.dropped += 1
            case Overflow.FAIL:
                raise QueueFullError(f"{self!r} has {self.queue_size_max} events waiting; {event.topic} is refused")
        return True

    async def put(self, event: Event[Any], item: Item) -> None:
        """As `offer`, but waits for room."""
        while self.is_active and not self.offer(event, item):
            waiter = asyncio.get_running_loop().create_future()
            self.lane_for(event.key).room.append(waiter)
            await waiter

    # -- the worker's side

    async def handle(self, item: Item) -> None:
        """Calls the handler with one event. If it raises, the subscription's fate applies."""
        event, reply = (item.event, item.reply) if isinstance(item, Question) else (item, None)
        # The worker has a context of its own: the value for the previous event is simply replaced.
        current.set(event)
        try:
            result = await self.call(event)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises has its fate
            await self.failed_with(event, error, reply)
        else:
            self.succeeded(result, reply)

    async def failed_with(self, event: Event[Any], error: Exception, reply: asyncio.Future[Any] | None) -> None:
        """Called when the handler raised: applies the subscription's fate."""
        failure = await recover(event, error, self.on_error, FailedDelivery(self, event, reply))
        if failure is not None:
            self.stop_with(event, failure)

    async def call(self, event: Event[Any]) -> Any:
        """Calls the handler. Raises what it raises, and HandlerCancelledError."""
        try:
            result = self.handler(event if self.transform is None else self.transform_event(event))
            return await result if result is not None and inspect.isawaitable(result) else result
        except asyncio.CancelledError as cancelled:
            raise self.as_failure(cancelled) from cancelled

    def transform_event(self, event: Event[Any]) -> Event[Any]:
        assert self.transform is not None
        found: object = self.transform(event)
        if not isinstance(found, Event):
            if inspect.iscoroutine(found):
                found.close()
            raise TypeError(
                f"transform= of {self!r} returned {type(found).__name__}; it must return an Event, such as"
                " event.with_value(value)"
            )
        return found

    def as_failure(self, cancelled: asyncio.CancelledError) -> HandlerCancelledError:
        """The error for a handler that ended with CancelledError. Raises CancelledError if the worker itself has to end."""
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise cancelled
        error = HandlerCancelledError(f"the handler of {self!r} was cancelled from within")
        error.__cause__ = cancelled
        return error

    def succeeded(self, result: Any, reply: asyncio.Future[Any] | None) -> None:
        self.delivered += 1
        if reply is not None and not reply.done():
            reply.set_result(result)

    # -- the end

    def lane_ended(self, task: "asyncio.Task[None]") -> None:
        """Called when a worker ends. If its subscription has not ended, no publisher may keep waiting for it."""
        if not self.is_active:
            return
        if not task.cancelled() and (error := task.exception()) is not None:
            self.error = error
            logger.error("%r stops: its worker failed", self, exc_info=error)
        elif not self.is_idle:  # an idle worker ends with the program: nothing is lost
            self.error = HandlerCancelledError(f"the worker of {self!r} was cancelled")
            logger.error("%r stops: its worker was cancelled, %d events were not handled", self, self.queued)
        self.cancel()

    def stop_with(self, event: Event[Any], error: Exception) -> None:
        self.error = error
        logger.error("%r stops: %r failed", self, event, exc_info=error)
        self.cancel()

    def cancel(self) -> None:
        """Ends the subscription. Queued events are not delivered."""
        self.is_active = False
        self.bus.forget(self)
        for lane in self.lanes:
            for item in lane.items:
                if isinstance(item, Question):
                    self.bus.answered(item)
            lane.items.clear()
            while lane.room:
                lane.let_in()
            if lane.task is not None and lane.task is not asyncio.tasks.current_task():
                lane.task.cancel()
        self.bus.note_idle()

    def __enter__(self) -> "Subscription":
        return self

    def __exit__(self, *details: object) -> None:
        self.cancel()

    def __repr__(self) -> str:
        return f"<Subscription of {name_of(self.handler)} to {self.pattern}>"


class FailedDelivery:
    """Carries out the fate of one event whose handler raised."""

    def __init__(self, subscription: Subscription, event: Event[Any], reply: asyncio.Future[Any] | None) -> None:
        self.subscription, self.event, self.reply = subscription, event, reply

    @property
    def handler_name(self) -> str:
        return repr(self.subscription)

    async def wait(self, delay_ms: float) -> None:
        await self.subscription.bus.sleep(delay_ms)

    async def attempt(self) -> None:
        self.subscription.succeeded(await self.subscription.call(self.event), self.reply)

    def give_up(self, error: Exception) -> bool:
        self.subscription.failed += 1
        if self.reply is None or self.reply.done():
            return False
        self.reply.set_exception(error)
        return True

    async def put_aside(self, topic: str, headers: HeadersLike) -> str:
        bus = self.subscription.bus
        await bus.publish(topic, self.event.value, key=self.event.key, headers=headers)
        return "" if bus.matching(topic) else ", to which nobody subscribes"
