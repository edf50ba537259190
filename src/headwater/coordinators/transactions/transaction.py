"""One transactional id: its producer, the state of its transaction, and its record in `__transaction_state`.

    Empty, CompleteCommit, CompleteAbort ──partition added──▶ Ongoing
    Ongoing ──EndTxn──▶ PrepareCommit ──markers on disk──▶ CompleteCommit
    Ongoing ──EndTxn, time is up, fenced──▶ PrepareAbort ──markers on disk──▶ CompleteAbort
    Empty, CompleteCommit, CompleteAbort ──EndTxn that aborts nothing, for its epoch──▶ PrepareAbort
    CompleteCommit, CompleteAbort ──InitProducerId──▶ Empty

A state is never changed in place: a decision makes the next state, its record is appended, and then it replaces the old one.
Sources: TransactionMetadata.java, TransactionState.java, KIP-98, KIP-890.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, NamedTuple, TypeAlias

from headwater.coordinators.state_records import prefix_version
from headwater.effects.buffers import Buffer
from headwater.protocol.compiled import decode, encode
from headwater.protocol.errors import ProtocolError
from headwater.protocol.messages.stored_transaction_log import TransactionLogKey, TransactionLogValue
from headwater.replay.state_record import StateRecord

TopicPartition: TypeAlias = tuple[str, int]

NO_PRODUCER_ID = -1
NO_EPOCH = -1
EPOCH_MAX = 2**15 - 1
VALUE_VERSION = 1  # flexible: the producer ids before and after this one are tagged (KIP-890)
EPOCH_PER_TRANSACTION = 2  # transaction.version from which a transaction's end bumps the epoch


class TransactionState(IntEnum):
    """As the records number them."""

    EMPTY = 0
    ONGOING = 1
    PREPARE_COMMIT = 2
    PREPARE_ABORT = 3
    COMPLETE_COMMIT = 4
    COMPLETE_ABORT = 5
    DEAD = 6
    PREPARE_EPOCH_FENCE = 7

    @property
    def label(self) -> str:
        """As DescribeTransactions and ListTransactions name it."""
        return "".join(word.capitalize() for word in self.name.split("_"))

    @property
    def is_prepared(self) -> bool:
        """Whether the outcome is decided and its markers are being written."""
        return self in (TransactionState.PREPARE_COMMIT, TransactionState.PREPARE_ABORT)

    @property
    def is_complete(self) -> bool:
        return self in (TransactionState.COMPLETE_COMMIT, TransactionState.COMPLETE_ABORT)


STATE_LABELS = {state.label: state for state in TransactionState}


@dataclass(slots=True, frozen=True)
class Transaction:
    """The state of a transactional id. Times are ms, -1 for none.

    `client_version` is the transaction.version of the client's last request.
    """

    transactional_id: str
    producer_id: int
    producer_epoch: int
    timeout_ms: int
    state: TransactionState = TransactionState.EMPTY
    partitions: frozenset[TopicPartition] = frozenset()
    started_ms: int = -1
    updated_ms: int = -1
    previous_producer_id: int = NO_PRODUCER_ID
    next_producer_id: int = NO_PRODUCER_ID
    client_version: int = 0

    @property
    def is_epoch_exhausted(self) -> bool:
        """Whether no epoch is left. The highest one is reserved for the marker that fences the last transaction."""
        return self.producer_epoch >= EPOCH_MAX - 1

    def begun_with(self, partitions: Iterable[TopicPartition], now_ms: int, client_version: int) -> "Transaction":
        """Ongoing, with more partitions in it."""
        is_new = self.state is not TransactionState.ONGOING
        return replace(
            self,
            state=TransactionState.ONGOING,
            partitions=frozenset(partitions) if is_new else self.partitions.union(partitions),
            started_ms=now_ms if is_new else self.started_ms,
            updated_ms=now_ms,
            client_version=client_version,
        )

    def to_prepared(self, *, commit: bool, now_ms: int, bump_epoch: bool, next_producer_id: int) -> "Transaction":
        """With its outcome decided. With `bump_epoch`, the markers and from then on the client have the next epoch."""
        return replace(
            self,
            state=TransactionState.PREPARE_COMMIT if commit else TransactionState.PREPARE_ABORT,
            partitions=self.partitions if self.state is TransactionState.ONGOING else frozenset(),
            started_ms=self.started_ms if self.state is TransactionState.ONGOING else now_ms,
            producer_epoch=self.producer_epoch + bump_epoch,
            next_producer_id=next_producer_id,
            updated_ms=now_ms,
        )

    def to_completed(self, now_ms: int) -> "Transaction":
        """Complete, with all markers on disk. If the epochs were used up, the next producer id replaces the old one."""
        was_commit = self.state is TransactionState.PREPARE_COMMIT
        done = replace(
            self,
            state=TransactionState.COMPLETE_COMMIT if was_commit else TransactionState.COMPLETE_ABORT,
            partitions=frozenset(),
            updated_ms=now_ms,
        )
        if self.next_producer_id == NO_PRODUCER_ID:
            return done
        return replace(
            done,
            producer_id=self.next_producer_id,
            producer_epoch=0,
            previous_producer_id=self.producer_id,
            next_producer_id=NO_PRODUCER_ID,
        )


class TransactionRecord(NamedTuple):
    """A record of `__transaction_state`: an id and its state, or None if the id is forgotten."""

    transactional_id: str
    transaction: Transaction | None


def transaction_key(transactional_id: str) -> bytes:
    return prefix_version(TransactionLogKey.RECORD_TYPE, encode(TransactionLogKey(transactional_id), 0))


def read_record(key: Buffer, value: Buffer | None) -> TransactionRecord:
    """Decodes a record from the log. Raises ProtocolError."""
    transactional_id = read_transaction_key(key)
    return TransactionRecord(transactional_id, None if value is None else read_transaction(transactional_id, value))


def encoded_record(record: TransactionRecord) -> StateRecord:
    """Encodes a record for the log."""
    key, transaction = transaction_key(record.transactional_id), record.transaction
    if transaction is None:
        return StateRecord(key, None)
    topics: dict[str, list[int]] = {}
    for topic, partition in sorted(transaction.partitions):
        topics.setdefault(topic, []).append(partition)
    is_empty = transaction.state is TransactionState.EMPTY
    value = TransactionLogValue(
        producer_id=transaction.producer_id,
        producer_epoch=transaction.producer_epoch,
        transaction_timeout_ms=transaction.timeout_ms,
        transaction_status=transaction.state,
        transaction_partitions=None
        if is_empty
        else [TransactionLogValue.PartitionsSchema(topic, numbers) for topic, numbers in topics.items()],
        transaction_last_update_timestamp_ms=transaction.updated_ms,
        transaction_start_timestamp_ms=transaction.started_ms,
        previous_producer_id=transaction.previous_producer_id,
        next_producer_id=transaction.next_producer_id,
        client_transaction_version=transaction.client_version,
    )
    return StateRecord(key, prefix_version(VALUE_VERSION, encode(value, VALUE_VERSION)))


def read_transaction_key(key: Buffer) -> str:
    """The transactional id in a record's key. Raises ProtocolError."""
    if len(key) < 2 or int.from_bytes(key[:2], "big") != TransactionLogKey.RECORD_TYPE:
        raise ProtocolError("a key of __transaction_state is of an unknown kind")
    return str(decode(TransactionLogKey, 0, key, 2)[0].transactional_id)


def read_transaction(transactional_id: str, value: Buffer) -> Transaction:
    """The state in a record's value. Raises ProtocolError."""
    message: Any = decode(TransactionLogValue, int.from_bytes(value[:2], "big"), value, 2)[0]
    try:
        state = TransactionState(message.transaction_status)
    except ValueError as error:
        raise ProtocolError(f"transaction {transactional_id} has an unknown state") from error
    return Transaction(
        transactional_id,
        message.producer_id,
        message.producer_epoch,
        message.transaction_timeout_ms,
        state,
        frozenset((p.topic, number) for p in message.transaction_partitions or () for number in p.partition_ids),
        message.transaction_start_timestamp_ms,
        message.transaction_last_update_timestamp_ms,
        previous_producer_id=message.previous_producer_id,
        next_producer_id=message.next_producer_id,
        client_version=message.client_transaction_version,
    )
