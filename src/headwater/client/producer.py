"""`hw.Producer`: sends records, blocking in a `with` and async in an `async with`; one implementation over librdkafka.

    with hw.Producer(broker) as producer:
        producer.send("orders", order, key=order.id, headers={"origin": "web"})

    async with hw.Producer(broker) as producer:
        delivery = await producer.send("orders", order, key=order.id)

`send` only queues: librdkafka sends in batches, from a thread of its own. Every record is a CloudEvent (binary mode), so
that it has an id and knows what caused it; `cloudevents` chooses structured mode, or none.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from types import TracebackType
from typing import Any, Generic, Literal, NamedTuple, Self, get_args

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Producer as RawProducer
from typing_extensions import TypeVar

from headwater.client.closed import Closed
from headwater.client.connections import BrokerLike, Notes, Settings, make_client, merge_settings
from headwater.client.deliveries import BatchDelivery, Delivery, Pending, Waker
from headwater.client.errors import (
    ClientError,
    ConfigurationError,
    DeliveryError,
    ProducerClosedError,
    ProducerQueueFullError,
    TransactionStateError,
    client_error,
)
from headwater.client.names import checked_text, checked_timeout_ms, checked_topic
from headwater.client.threads import in_thread
from headwater.client.transactions import ConsumerInTransaction, ReadingConsumer, abort, begin, commit, initialize
from headwater.effects.clock import SystemClock
from headwater.events.cloudevents import structured_record
from headwater.events.headers import HeadersLike, Pairs, header_pairs
from headwater.events.serializers import Kind, as_serializer, serializer_of_value
from headwater.events.stamps import DEFAULT_SOURCE, stamp

logger = logging.getLogger(__name__)
Value = TypeVar("Value", default=Any)
CloudEvents = Literal["binary", "structured", "none"]
POLL_S = 0.1
FLUSH_TIMEOUT_MS = 60_000.0
UNWIND_TIMEOUT_MS = 500.0  # a broker that answers needs less, and an exception must not wait for one that is away
REPORT_TIMEOUT_MS = 1000.0
REPORT_STEP_S = 0.005
TRANSACTION_TIMEOUT_MS = 60_000.0
ABORT_TIMEOUT_MS = 10_000.0
TOPICS_KNOWN_MAX = 10_000
DEFAULTS = {
    "client.id": "headwater",
    "enable.idempotence": True,
    "linger.ms": 1,
    # As in Java's producers, so that a key has the same partition with every client. librdkafka's own default is CRC32.
    "partitioner": "murmur2_random",
}
TRANSACTIONAL_DEFAULTS = {
    # When no broker answers, librdkafka's own default is to drop them all and begin again with `bootstrap.servers`. But
    # then adding a consumer's progress to a transaction waits for the dropped broker, for ever and past any timeout
    # (confluentinc/librdkafka#5511 and #5456, in 2.16): a restart of a single broker would end a copying loop.
    "metadata.recovery.strategy": "none",
}


class Outgoing(NamedTuple):
    """A record of a batch that has a key, headers, partition or timestamp (ms) of its own."""

    value: Any
    key: Any = None
    headers: HeadersLike | None = None
    partition: int = -1
    timestamp: int = 0


def check_place(topic: str, partition: int, timestamp: int) -> None:
    """Raises ConfigurationError for a partition or time (ms) that no record can have."""
    if not isinstance(partition, int) or not -1 <= partition < 1 << 31:
        raise ConfigurationError(f"sending to {topic}: partition is {partition!r}; give 0 or more, or -1 to go by key")
    if not isinstance(timestamp, int) or not 0 <= timestamp < 1 << 63:
        raise ConfigurationError(f"sending to {topic}: timestamp is {timestamp!r}; give ms since 1970, or 0 for now")


class Producer(Generic[Value]):
    """Sends records to a broker: `hw.Broker`, or an address of Headwater or Kafka.

    `value` and `key` are types or serializers; without them each value is written by its own type. `cloudevents` is how
    records are CloudEvents. With a `transactional_id` everything is sent in transactions. `settings` are librdkafka's and
    win over the defaults here (idempotent, acks=all, linger 1 ms, keys to partitions by murmur2 as in Java; transactional
    ones keep their brokers when none answers). Raises ConfigurationError.
    """

    def __init__(
        self,
        broker: BrokerLike,
        *,
        value: Kind[Value] | None = None,
        key: Kind[Any] | None = None,
        source: str = DEFAULT_SOURCE,
        cloudevents: CloudEvents = "binary",
        transactional_id: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        if cloudevents not in get_args(CloudEvents):
            raise ConfigurationError(f"cloudevents is {cloudevents!r}; give one of {', '.join(get_args(CloudEvents))}")
        checked_text("source", source)
        defaults: dict[str, Any] = dict(DEFAULTS)
        if transactional_id is not None:
            defaults |= {**TRANSACTIONAL_DEFAULTS, "transactional.id": transactional_id}
        self._notes = Notes()
        merged_settings = merge_settings(broker, defaults, settings, self._notes)
        self.address = merged_settings["bootstrap.servers"]
        serializer = as_serializer(value)
        self._encode_value, self._content_type = serializer.encode, serializer.content_type
        self._key_serializer = None if key is None else as_serializer(key)
        self._source = source
        self._stamps, self._is_structured = cloudevents != "none", cloudevents == "structured"
        self.transactional_id = transactional_id
        self._is_initialized = self._is_in_transaction = False
        self._topics: set[str] = set()  # whose names have been checked
        self._waker = Waker(self._notes)
        self._progress = threading.Condition()
        self._loops_waiting: list[Pending] = []
        self._flushing = 0  # how many callers wait for everything to be delivered
        self.is_closed = False
        self._raw: Any = make_client(RawProducer, merged_settings, "the producer", self._notes)
        self._thread = threading.Thread(target=self._poll, args=(self._raw,), name="headwater-producer", daemon=True)
        self._thread.start()

    def _poll(self, raw: RawProducer) -> None:
        """Serves librdkafka's reports, in a thread of its own. The connections end with this thread."""
        while not self.is_closed:
            # A flush ignores linger.ms. It is done here: in the caller's thread a signal would end it in the middle of
            # a report.
            # After a fatal error, such as being fenced, the next call that needs it raises it.
            is_flushing = self._flushing > 0
            if self._notes.serve(raw.flush if is_flushing else raw.poll, POLL_S) or is_flushing:
                self._after_reports()
            self._notes.look_for_broker(raw.list_topics)

    def _after_reports(self) -> None:
        with self._progress:
            waiting, self._loops_waiting = self._loops_waiting, []
            self._progress.notify_all()
        for pending in waiting:
            pending.mark_done()
        self._waker.wake()

    # -- sending

    def send(
        self,
        topic: str,
        value: Value | None,
        *,
        key: object = None,
        headers: HeadersLike | None = None,
        partition: int = -1,
        timestamp: int = 0,
    ) -> Delivery:
        """Queues a record; the Delivery can be waited for with `result()` or `await`.

        None as the value makes a tombstone. Records of one key keep their order. If the queue is full, it waits; in a
        thread that runs an event loop it raises ProducerQueueFullError instead. Raises SerializationError, ProducerClosedError,
        InvalidNameError and other ClientErrors.
        """
        delivery = Delivery(self._waker, topic)
        self._enqueue(topic, value, key, header_pairs(headers), partition, timestamp, delivery.report)
        return delivery

    def _enqueue(
        self,
        topic: str,
        value: Any,
        key: object,
        pairs: Pairs,
        partition: int,
        timestamp: int,
        report: Callable[..., None],
    ) -> None:
        """Hands one record to librdkafka; `pairs` becomes its own list when records are stamped."""
        if topic not in self._topics:
            self._add_topic(topic)
        if partition != -1 or timestamp != 0:
            check_place(topic, partition, timestamp)
        if self._stamps:
            stamp(topic, value, pairs, self._source, self._content_type)
        data = None if value is None else self._encode_value(value, topic)
        if self._is_structured and data is not None:
            data, pairs = structured_record(pairs, data)
        raw_key = None if key is None else self._encoded_key(key, topic)
        while True:
            try:
                # By position, which is cheaper: topic, value, key, partition, on_delivery, timestamp, headers.
                self._raw.produce(topic, data, raw_key, partition, report, None, timestamp, pairs)
            except BufferError:
                self._wait_for_room()
            except KafkaException as error:
                raise self._refusal(error, topic) from error
            else:
                return

    def _add_topic(self, topic: str) -> None:
        """Checks a topic's name once: librdkafka would cut short or send a wrong one. Raises InvalidNameError."""
        if len(self._topics) >= TOPICS_KNOWN_MAX:
            self._topics.clear()
        self._topics.add(checked_topic(topic))

    def _refusal(self, error: KafkaException, topic: str) -> ClientError:
        if error.args[0].code() == KafkaError._STATE and self.transactional_id is not None:
            return TransactionStateError(
                f"sending to {topic}: a producer with a transactional id sends in transactions only;"
                " wrap it in `with producer.transaction():`"
            )
        if error.args[0].code() == KafkaError._FATAL:
            self._notes.serve(self._raw.poll)
        return client_error(self._notes.cause_of(error.args[0]), f"sending to {topic}", DeliveryError)

    def _encoded_key(self, key: object, topic: str) -> bytes | None:
        if self._key_serializer is None and isinstance(key, bytes):
            return key
        serializer = self._key_serializer or serializer_of_value(key)
        return serializer.encode(key, topic)

    def _wait_for_room(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            with self._progress:
                self._progress.wait(POLL_S)
        else:
            raise ProducerQueueFullError("the producer's queue is full")

    def send_batch(
        self,
        topic: str,
        values: "Iterable[Value | Outgoing]",
        *,
        key: Callable[[Value], object] | None = None,
        headers: HeadersLike | None = None,
    ) -> BatchDelivery:
        """Queues many records, and returns when all are queued; `result()` waits for their delivery.

        `key` makes each record's key of its value, `headers` are added to each; an `Outgoing` brings its own.
        """
        batch = BatchDelivery(self._waker, topic)
        pairs, number = header_pairs(headers), 0
        for value in values:
            self._put_of_batch(topic, value, key, pairs, batch)
            number += 1
        batch.sent_all(number)
        return batch

    def _put_of_batch(self, topic: str, value: Any, key: Any, headers: Pairs, batch: BatchDelivery) -> None:
        if isinstance(value, Outgoing):
            own = [*headers, *header_pairs(value.headers)]
            self._enqueue(topic, value.value, value.key, own, value.partition, value.timestamp, batch.report)
        else:
            own = list(headers) if self._stamps else headers
            self._enqueue(topic, value, None if key is None else key(value), own, -1, 0, batch.report)

    def flush(self, timeout_ms: float = FLUSH_TIMEOUT_MS) -> None:
        """Returns when everything that was sent is delivered. Raises ClientTimeoutError and ProducerClosedError.

        If records have failed and nobody has looked at their Delivery, it raises the first one's error, so that no loss
        is silent.
        """
        if self.is_closed:
            raise ProducerClosedError("the producer is closed")
        if left := self._wait_flushed(checked_timeout_ms(timeout_ms)):
            raise self._waker.late(f"{left} records are not delivered after {timeout_ms:g} ms")
        if self.transactional_id is None:  # otherwise the end of the transaction has reported it
            self._waker.raise_unseen()

    def _wait_flushed(self, timeout_ms: float) -> int:
        """Waits until nothing is on its way; returns how many records still are when the time is over."""
        clock = SystemClock()
        deadline_ms = clock.steady_ms() + timeout_ms
        with self._progress:
            self._flushing += 1
            try:
                while (left := len(self._raw)) and (wait_ms := deadline_ms - clock.steady_ms()) > 0:
                    self._progress.wait(min(wait_ms / 1000, POLL_S))
            finally:
                self._flushing -= 1
        if left:
            self._notes.serve(self._raw.poll)  # lines of its log count too
            left = len(self._raw)
        return left

    def close(self, timeout_ms: float = FLUSH_TIMEOUT_MS) -> None:
        """Flushes and ends, and raises as `flush` does. A second call does nothing.

        Records that are not delivered by then never are: their Deliveries fail with DeliveryError.
        """
        if not self.is_closed:
            try:
                self.flush(timeout_ms)
            finally:
                self._end()

    def _close_unwinding(self, error: BaseException) -> None:
        """Ends because of an exception, which must not be delayed: a note on it says what is not delivered at once."""
        if self.is_closed:
            return
        left = 0
        try:
            left = self._wait_flushed(UNWIND_TIMEOUT_MS)
        finally:
            self._end()
        if left:
            error.add_note(f"{self!r}: {left} records were not delivered, because the block was left by this exception")
            logger.warning("%r: %d records were not delivered: its block was left by %r", self, left, error)

    def _end(self) -> None:
        """Fails all records that are on their way. The thread soon sees that it must end, and its connections with it."""
        self._notes.log.is_closed = True
        raw, self._raw = self._raw, Closed(ProducerClosedError, "the producer is closed")
        try:
            raw.purge()
            self._wait_reported(raw)
        finally:
            self.is_closed = True

    def _wait_reported(self, raw: RawProducer) -> None:
        """Returns when every Delivery knows what became of it: here or in the polling thread, whichever gets the report."""
        clock = SystemClock()
        deadline_ms = clock.steady_ms() + REPORT_TIMEOUT_MS
        self._notes.serve(raw.poll)
        while len(raw) and clock.steady_ms() < deadline_ms:
            with self._progress:
                self._progress.wait(REPORT_STEP_S)
            self._notes.serve(raw.poll)
        self._after_reports()

    # -- transactions

    @contextmanager
    def transaction(self, consumer: ConsumerInTransaction | None = None) -> "Iterator[Producer[Value]]":
        """Everything that is sent within the block becomes visible at its end. If the block raises, nothing does.

        Give the `consumer` whose events are processed, and its progress is part of the transaction: exactly once. Raises
        TransactionAbortedError, ProducerFencedError, and what the block raised.
        """
        source = None if consumer is None else consumer._reader
        self._begin_transaction(source)
        try:
            yield self
        except BaseException as error:
            self._abort_unwinding(source, error)
            raise
        self._commit_transaction(source)

    def _initialize(self) -> None:
        """Registers the transactional id, and ends a transaction that its last user left open. Raises ClientError."""
        if self.transactional_id is not None and not self._is_initialized:
            initialize(self._raw, TRANSACTION_TIMEOUT_MS)
            self._is_initialized = True

    def _begin_transaction(self, consumer: ReadingConsumer | None) -> None:
        if self.transactional_id is None:
            raise ClientError("this producer has no transactional id; give it transactional_id=")
        if consumer is not None and consumer.commits_by_itself:
            raise ConfigurationError("only a transaction may commit its consumer's progress: give it commit='manual'")
        if self._is_in_transaction:
            raise TransactionStateError(
                "beginning a transaction: this producer has one open already, and has one at a time; end it first, or use a"
                " second producer with a transactional id of its own"
            )
        self._initialize()
        begin(self._raw)
        self._is_in_transaction = True

    def _commit_transaction(self, consumer: ReadingConsumer | None) -> None:
        try:
            commit(self._raw, consumer, TRANSACTION_TIMEOUT_MS)
        finally:
            self._is_in_transaction = False
            self._after_reports()

    def _abort_transaction(self, consumer: ReadingConsumer | None, timeout_ms: float = TRANSACTION_TIMEOUT_MS) -> None:
        try:
            abort(self._raw, consumer, timeout_ms)
        finally:
            self._is_in_transaction = False
            self._after_reports()

    def _abort_unwinding(self, consumer: ReadingConsumer | None, error: BaseException) -> None:
        """Aborts because of an exception, which the caller gets. If aborting fails, a note on the exception says so.

        A transaction that could not be aborted is not visible either: the broker ends it when its time is over.
        """
        timeout_ms = ABORT_TIMEOUT_MS if isinstance(error, Exception) else UNWIND_TIMEOUT_MS
        try:
            self._abort_transaction(consumer, timeout_ms)
        except ClientError as failure:
            error.add_note(f"{self!r}: {failure}; the broker aborts it when transaction.timeout.ms is over")

    # -- as a context manager

    def __enter__(self) -> Self:
        try:
            self._initialize()
        except BaseException as error:
            self._close_unwinding(error)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._close_unwinding(error)

    async def __aenter__(self) -> "AsyncProducer[Value]":
        await asyncio.to_thread(self.__enter__)
        return AsyncProducer(self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)

    def __len__(self) -> int:
        """How many records are on their way."""
        return len(self._raw)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        name = "" if self.transactional_id is None else f" {self.transactional_id}"
        return f"<Producer{name} to {self.address}{', closed' if self.is_closed else ''}>"


class AsyncProducer(Generic[Value]):
    """What `async with hw.Producer(...)` gives: the same producer, without calls that block the loop."""

    def __init__(self, blocking: Producer[Value]) -> None:
        self._blocking = blocking

    def send(
        self,
        topic: str,
        value: Value | None,
        *,
        key: object = None,
        headers: HeadersLike | None = None,
        partition: int = -1,
        timestamp: int = 0,
    ) -> Delivery:
        """As Producer.send: queues at once. `await` the Delivery to know that the broker has the record."""
        return self._blocking.send(topic, value, key=key, headers=headers, partition=partition, timestamp=timestamp)

    async def send_batch(
        self,
        topic: str,
        values: "Iterable[Value | Outgoing]",
        *,
        key: Callable[[Value], object] | None = None,
        headers: HeadersLike | None = None,
    ) -> BatchDelivery:
        """Sends many records and returns when the broker has them; waits for room in the queue as it goes."""
        producer = self._blocking
        batch = BatchDelivery(producer._waker, topic)
        pairs, number = header_pairs(headers), 0
        for value in values:
            while True:
                try:
                    producer._put_of_batch(topic, value, key, pairs, batch)
                except ProducerQueueFullError:
                    await self._room()
                else:
                    break
            number += 1
        batch.sent_all(number)
        return await batch

    async def _room(self) -> None:
        """Returns when a record was delivered, or after a moment: the delivery may have come just before."""
        pending = Pending(self._blocking._waker)
        with self._blocking._progress:
            self._blocking._loops_waiting.append(pending)
        with suppress(TimeoutError):
            await asyncio.wait_for(pending.done(), POLL_S)

    async def _run(self, function: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(function)

    def __repr__(self) -> str:
        return f"<AsyncProducer of {self._blocking!r}>"

    flush = in_thread(Producer.flush)
    close = in_thread(Producer.close)

    @asynccontextmanager
    async def transaction(self, consumer: ConsumerInTransaction | None = None) -> "AsyncIterator[AsyncProducer[Value]]":
        """As Producer.transaction."""
        producer = self._blocking
        source = None if consumer is None else consumer._reader
        await asyncio.to_thread(producer._begin_transaction, source)
        try:
            yield self
        except BaseException as error:
            await asyncio.to_thread(producer._abort_unwinding, source, error)
            raise
        await asyncio.to_thread(producer._commit_transaction, source)
