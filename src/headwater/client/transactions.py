"""The steps of a transaction over librdkafka, with its three kinds of errors told apart (KIP-98, KIP-447, KIP-890)."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka import Producer as RawProducer

from headwater.client.backoff import Backoff
from headwater.client.errors import (
    ClientError,
    TransactionAbortedError,
    TransactionStateError,
    UnknownOutcomeError,
    raise_interrupt,
    translate,
)
from headwater.effects.clock import SystemClock
from headwater.effects.entropy import SystemEntropy

ATTEMPTS_MAX = 12  # about 7 s with the pauses: a transaction coordinator may have to load its state
SLICE_MS = 500.0  # librdkafka does not look at signals while it waits, so Ctrl-C may take this long


class ReadingConsumer(Protocol):
    """What a transaction needs of the consumer whose progress it commits."""

    raw: Any
    commits_by_itself: bool

    @property
    def is_progress_lost(self) -> bool: ...

    def handled_offsets(self) -> list[TopicPartition]: ...

    def confirmed(self) -> None: ...

    def rewind(self) -> None: ...


class ConsumerInTransaction(Protocol):
    """A consumer, blocking or async."""

    @property
    def _reader(self) -> ReadingConsumer: ...


def attempt(
    step: Callable[[float], Any],
    what: str,
    timeout_ms: float,
    *,
    pause: Callable[[float], object] | None = None,
) -> None:
    """Does a step, and repeats it after growing pauses if librdkafka says that this helps. A step gets its timeout in
    seconds.

    `pause` waits for some seconds. Raises the last KafkaException.
    """
    clock, attempts, backoff = SystemClock(), 0, Backoff(SystemEntropy())
    pause = pause or threading.Event().wait
    deadline_ms = clock.steady_ms() + timeout_ms
    while True:
        left_ms = max(0.0, deadline_ms - clock.steady_ms())
        try:
            step(min(left_ms, SLICE_MS) / 1000)
        except KafkaException as error:
            is_resumed = error.args[0].code() == KafkaError._TIMED_OUT and left_ms > 0
            attempts += not is_resumed
            if not error.args[0].retriable() or attempts == ATTEMPTS_MAX or left_ms == 0:
                error.add_note(what)
                raise
            if not is_resumed:
                pause(min(backoff.record_failure(), left_ms) / 1000)
        except SystemError as error:
            raise_interrupt(error)
        else:
            return


def initialize(raw: RawProducer, timeout_ms: float) -> None:
    """Registers the transactional id. This fences the producer that used it before."""
    try:
        attempt(raw.init_transactions, "registering the transactional id", timeout_ms)
    except KafkaException as error:
        raise translate(error, "registering the transactional id") from error


def begin(raw: RawProducer) -> None:
    try:
        raw.begin_transaction()
    except KafkaException as error:
        cause = error.args[0]
        if cause.code() == KafkaError._STATE:
            raise TransactionStateError(f"beginning a transaction: {cause.str()}", cause.name()) from error
        raise translate(error, "beginning a transaction") from error


def commit(raw: RawProducer, consumer: ReadingConsumer | None, timeout_ms: float) -> None:
    """Commits, with the consumer's progress. Aborts after an error that allows nothing else. Raises ClientError."""
    what = "committing a transaction"
    try:
        if consumer is not None:
            add_progress(raw, consumer, timeout_ms)
        attempt(raw.commit_transaction, what, timeout_ms)
    except KafkaException as error:
        cause = error.args[0]
        if cause.txn_requires_abort():
            abort(raw, consumer, timeout_ms)
            raise TransactionAbortedError(f"{what}: {cause.str()}", cause.name()) from error
        if cause.retriable():
            raise UnknownOutcomeError(f"{what}: {cause.str()}", cause.name()) from error
        raise translate(error, what) from error
    if consumer is not None:
        consumer.confirmed()


def add_progress(raw: RawProducer, consumer: ReadingConsumer, timeout_ms: float) -> None:
    """Puts the consumer's progress into the transaction. Raises KafkaException, and TransactionAbortedError after an
    abort.

    Metadata of a consumer that has lost its membership names no member, and the broker then lets any progress pass
    (KIP-447 keeps older clients working so). So membership is looked at here, after the metadata was taken: it does not
    come back without a poll.
    """
    offsets = consumer.handled_offsets()
    metadata = consumer.raw.consumer_group_metadata()
    if consumer.is_progress_lost or (offsets and not consumer.raw.memberid()):
        abort(raw, consumer, timeout_ms)
        raise TransactionAbortedError("committing a transaction: partitions of its consumer went to another member")
    if offsets:
        # Called once with all of its time: unlike other calls, librdkafka does not resume this one, but sends it again.
        step = partial(raw.send_offsets_to_transaction, offsets, metadata, timeout_ms / 1000)
        attempt(lambda _: step(), "adding the consumer's progress to a transaction", timeout_ms)


def abort(raw: RawProducer, consumer: ReadingConsumer | None, timeout_ms: float) -> None:
    """Aborts, and moves the consumer back to its position after the last transaction. Raises ClientError."""
    try:
        attempt(raw.abort_transaction, "aborting a transaction", timeout_ms)
    except KafkaException as error:
        if not error.args[0].fatal():
            raise translate(error, "aborting a transaction", ClientError) from error
    finally:
        if consumer is not None:
            consumer.rewind()
