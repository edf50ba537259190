"""The steps of a transaction over librdkafka, with its three kinds of errors told apart (KIP-98, KIP-447, KIP-890)."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException
from confluent_kafka import Producer as RawProducer

from headwater.client.errors import (
    ClientError,
    TransactionAbortedError,
    UnknownOutcomeError,
    translated,
)

if TYPE_CHECKING:
    from headwater.client.consumer import Consumer

ATTEMPTS_MAX = 5


def attempt(step: Callable[[], Any], what: str) -> None:
    """Does a step, again where librdkafka says that this helps. Raises KafkaException as it comes, last."""
    for number in range(ATTEMPTS_MAX):
        try:
            step()
        except KafkaException as error:
            if not error.args[0].retriable() or number == ATTEMPTS_MAX - 1:
                error.add_note(what)
                raise
        else:
            return


def initialize(raw: RawProducer, timeout_ms: float) -> None:
    """Registers the transactional id; whoever used it before is fenced."""
    try:
        attempt(lambda: raw.init_transactions(timeout_ms / 1000), "registering the transactional id")
    except KafkaException as error:
        raise translated(error, "registering the transactional id") from error


def begin(raw: RawProducer) -> None:
    try:
        raw.begin_transaction()
    except KafkaException as error:
        raise translated(error, "beginning a transaction") from error


def commit(raw: RawProducer, consumer: "Consumer[Any] | None", timeout_ms: float) -> None:
    """Commits, with the consumer's progress. An error that allows nothing else aborts. Raises ClientError."""
    what = "committing a transaction"
    try:
        if consumer is not None:
            add_progress(raw, consumer, timeout_ms)
        attempt(lambda: raw.commit_transaction(timeout_ms / 1000), what)
    except KafkaException as error:
        cause = error.args[0]
        if cause.txn_requires_abort():
            abort(raw, consumer, timeout_ms)
            raise TransactionAbortedError(f"{what}: {cause.str()}", cause.name()) from error
        if cause.retriable():
            raise UnknownOutcomeError(f"{what}: {cause.str()}", cause.name()) from error
        raise translated(error, what) from error
    if consumer is not None:
        consumer.confirmed()


def add_progress(raw: RawProducer, consumer: "Consumer[Any]", timeout_ms: float) -> None:
    """Puts the consumer's progress into the transaction. Raises KafkaException, and TransactionAbortedError when done so.

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
        step = partial(raw.send_offsets_to_transaction, offsets, metadata, timeout_ms / 1000)
        attempt(step, "adding the consumer's progress to a transaction")


def abort(raw: RawProducer, consumer: "Consumer[Any] | None", timeout_ms: float) -> None:
    """Aborts, and takes the consumer back to where the last transaction left it. Raises ClientError."""
    try:
        attempt(lambda: raw.abort_transaction(timeout_ms / 1000), "aborting a transaction")
    except KafkaException as error:
        if not error.args[0].fatal():
            raise translated(error, "aborting a transaction", ClientError) from error
    finally:
        if consumer is not None:
            consumer.rewind()
