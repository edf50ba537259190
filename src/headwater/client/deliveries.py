"""The results of sending: objects to wait for, in a thread or on a loop.

librdkafka reports in the producer's own thread, many records per call. Deliveries are marked there. Loops that wait are
woken once per call, not once per record.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Generator
from typing import Any, NoReturn

from confluent_kafka import KafkaError, Message

from headwater.client.connections import Notes
from headwater.client.errors import ClientError, ClientTimeoutError, DeliveryError, client_error
from headwater.client.names import checked_timeout_ms

logger = logging.getLogger(__name__)
FAILED_MAX = 1000
PURGED = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})


class Waker:
    """Collects the waiters to wake during one call of librdkafka; then wakes each loop once.

    It also keeps the last failed deliveries, to report those that nobody has looked at.
    """

    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        self.futures: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        self.failed: deque[Delivery | BatchDelivery] = deque(maxlen=FAILED_MAX)
        self.lock = threading.Lock()  # reports are served by the producer's thread and by threads that flush

    def add(self, future: asyncio.Future[None]) -> None:
        with self.lock:
            self.futures.setdefault(future.get_loop(), []).append(future)

    def wake(self) -> None:
        with self.lock:
            futures, self.futures = self.futures, {}
        for loop, waiting in futures.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(complete, waiting)

    def late(self, what: str) -> ClientError:
        """Why a record is not delivered yet: the broker's refusal, if there is one."""
        refusal = self.notes.refusal
        return ClientTimeoutError(what) if refusal is None else client_error(refusal, what)

    def raise_unseen(self) -> None:
        """Raises the error of the first failed delivery that nobody has seen, if there is one."""
        unseen = [delivery for delivery in self.failed if not delivery.is_seen]
        self.failed.clear()
        if unseen:
            if len(unseen) > 1:
                logger.error("%d deliveries failed, the first is raised", len(unseen))
            unseen[0].result(0)


def complete(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


class Pending:
    """Something that will be done, in a thread of its own. `wait` blocks, `await` does not."""

    __slots__ = ("event", "futures", "is_done", "is_seen", "waker")

    def __init__(self, waker: Waker) -> None:
        self.waker = waker
        self.is_done = self.is_seen = False
        self.futures: tuple[asyncio.Future[None], ...] = ()  # one for each waiter, on any loop
        self.event: threading.Event | None = None

    def mark_done(self) -> None:
        # This sets done, then looks for waiters; a waiter registers, then looks at done. So none is missed.
        self.is_done = True
        for future in self.futures:
            self.waker.add(future)
        if self.event is not None:
            self.event.set()

    def wait_done(self, timeout_ms: float | None) -> bool:
        if not self.is_done:
            with self.waker.lock:  # two threads that wait share one event
                event = self.event = self.event or threading.Event()
            if not self.is_done:
                return event.wait(None if timeout_ms is None else checked_timeout_ms(timeout_ms) / 1000)
        return True

    async def done(self) -> None:
        if not self.is_done:
            future = asyncio.get_running_loop().create_future()
            with self.waker.lock:
                self.futures = (*(waiting for waiting in self.futures if not waiting.done()), future)
            if not self.is_done:
                await future


class Delivery(Pending):
    """One record on its way. Awaiting it, or `result()`, gives it with its partition, offset and timestamp (ms)."""

    __slots__ = ("error", "message", "topic")

    def __init__(self, waker: Waker, topic: str) -> None:
        super().__init__(waker)
        self.topic = topic
        self.message: Message | None = None
        self.error: KafkaError | None = None

    def report(self, error: KafkaError | None, message: Message) -> None:
        """librdkafka's delivery report."""
        self.error, self.message = error, message
        if error is not None:
            self.error = self.waker.notes.cause_of(error)
            self.waker.failed.append(self)
        self.mark_done()

    @property
    def partition(self) -> int:
        found: int = self.delivered_message().partition()
        return found

    @property
    def offset(self) -> int:
        found: int = self.delivered_message().offset()
        return found

    @property
    def timestamp(self) -> int:
        found: int = self.delivered_message().timestamp()[1]
        return found

    def delivered_message(self) -> Message:
        if self.message is None:
            raise DeliveryError(f"the record for {self.topic} is still on its way", "_NOT_DELIVERED")
        return self.message

    def result(self, timeout_ms: float | None = None) -> "Delivery":
        """Returns when the broker has it. Raises DeliveryError or another ClientError, and ClientTimeoutError."""
        if not self.wait_done(timeout_ms):
            raise self.waker.late(f"a record for {self.topic} is not delivered after {timeout_ms:g} ms")
        self.is_seen = True
        if self.error is not None:
            raise delivery_error(self.error, self.topic)
        return self

    def __await__(self) -> Generator[Any, None, "Delivery"]:
        yield from self.done().__await__()
        return self.result(0)

    def __repr__(self) -> str:
        state = "failed" if self.error else f"[{self.partition}] @{self.offset}" if self.is_done else "on its way"
        return f"<Delivery to {self.topic} {state}>"


class BatchDelivery(Pending):
    """Many records on their way. They are counted and not kept: `size` in all, of which `failed` have failed."""

    __slots__ = ("delivered", "failed", "first_error", "is_complete", "size", "topic")

    def __init__(self, waker: Waker, topic: str) -> None:
        super().__init__(waker)
        self.topic = topic
        self.size = self.delivered = self.failed = 0
        self.first_error: KafkaError | None = None
        self.is_complete = False  # all are sent: when all are reported, it is done

    def report(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.delivered += 1
        else:
            self.failed += 1
            if self.first_error is None:
                self.first_error = self.waker.notes.cause_of(error)
                self.waker.failed.append(self)
        if self.is_complete and self.delivered + self.failed == self.size:
            self.mark_done()

    def sent_all(self, size: int) -> None:
        self.size = size
        self.is_complete = True
        if self.delivered + self.failed == size:
            self.mark_done()

    def raise_first(self) -> NoReturn:
        assert self.first_error is not None
        error = delivery_error(self.first_error, self.topic)
        error.add_note(f"{self.failed} of the {self.size} records of the batch were not delivered")
        raise error

    def result(self, timeout_ms: float | None = None) -> "BatchDelivery":
        """Returns when the broker has all. Raises the first record's ClientError, and ClientTimeoutError."""
        if not self.wait_done(timeout_ms):
            raise self.waker.late(f"a batch for {self.topic} is not delivered after {timeout_ms:g} ms")
        self.is_seen = True
        if self.first_error is not None:
            self.raise_first()
        return self

    def __await__(self) -> Generator[Any, None, "BatchDelivery"]:
        yield from self.done().__await__()
        return self.result(0)


def delivery_error(error: KafkaError, topic: str) -> ClientError:
    if error.code() in PURGED:
        return DeliveryError(f"a record for {topic} was not delivered: its producer was closed first", error.name())
    return client_error(error, f"a record for {topic} was not delivered", DeliveryError)
