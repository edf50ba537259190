"""The transaction coordinator: decide, append, replay (`replay/decision.py`) over `__transaction_state`.

A decision is the next state of one transactional id, as a record. Ending a transaction takes three steps, each on disk
before the next begins, so that no power cut leaves it torn:

    1. the outcome is decided (PrepareCommit or PrepareAbort)
    2. a marker is written to every partition of the transaction
    3. the transaction is complete

The client is answered after the second step, so its next transaction does not meet CONCURRENT_TRANSACTIONS. A start resumes
where a crash stopped: prepared transactions get their markers (a repeated marker changes nothing), and open ones time out.
Sources: TransactionCoordinator.java, KIP-98, KIP-360 (epochs), KIP-890 (one epoch per transaction).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple, Protocol

from headwater.bus.signal import Signal
from headwater.coordinators.state_records import append_error
from headwater.coordinators.transactions.transaction import (
    EPOCH_MAX,
    EPOCH_PER_TRANSACTION,
    NO_EPOCH,
    NO_PRODUCER_ID,
    TopicPartition,
    Transaction,
    TransactionRecord,
    TransactionState,
)
from headwater.effects.clock import Clock
from headwater.effects.logs import get_logger
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.replay.decision import Decision, Runtime, StateLog, everything
from headwater.replay.deferred import Deferred
from headwater.replay.sync_number import NO_SYNC, SyncNumber

logger = get_logger(__name__)


class Markers(Protocol):
    """Whatever ends a transaction in its partitions."""

    def write_markers(self, transaction: Transaction, *, commit: bool) -> SyncNumber:
        """Writes the markers to all partitions that still exist; returns the last sync. Raises OSError."""
        ...


class ProducerAnswer(NamedTuple):
    """An answer with a producer id and epoch: to InitProducerId and EndTxn."""

    error: ErrorCode
    producer_id: int = NO_PRODUCER_ID
    producer_epoch: int = NO_EPOCH


class TransactionCoordinator:
    """All transactional ids of this broker.

    `next_producer_id` returns an unused producer id; it raises OSError. `log` is `__transaction_state`.
    """

    def __init__(
        self,
        clock: Clock,
        log: StateLog[TransactionRecord],
        markers: Markers,
        next_producer_id: Callable[[], int],
        *,
        timeout_ms_max: int,
        expiration_ms: int,
        ended: Signal[str, bool] | None = None,
    ) -> None:
        self.clock = clock
        self.runtime = Runtime(self, log)
        self.markers = markers
        self.next_producer_id = next_producer_id
        self.ended = ended or Signal[str, bool]("transaction ended")  # an id, and whether it was committed
        self.timeout_ms_max = timeout_ms_max
        self.expiration_ms = expiration_ms
        self.transactions: dict[str, Transaction] = {}
        self.owners: dict[int, str] = {}  # producer id to its transactional id
        self.ending: dict[str, list[Callable[[ErrorCode], None]]] = {}  # callbacks for a transaction's end
        # By transactional id: the epoch that its client had before it got a newer one, so that a repeated request gets
        # the same answer. It is not recorded: as in Kafka it is gone after a restart.
        self.last_epochs: dict[str, int] = {}

    # -- state

    def replay(self, record: TransactionRecord) -> None:
        """Changes the state as the record says."""
        transactional_id, transaction = record
        known = self.transactions.get(transactional_id)
        if known is not None:
            self.owners.pop(known.producer_id, None)
        if transaction is None:
            self.transactions.pop(transactional_id, None)
            self.last_epochs.pop(transactional_id, None)
            return
        self.transactions[transactional_id] = transaction
        self.owners[transaction.producer_id] = transactional_id

    def snapshot(self, belongs: Callable[[str], bool] = everything) -> Iterator[TransactionRecord]:
        """Records that make the state of those ids from nothing."""
        for transactional_id, transaction in self.transactions.items():
            if belongs(transactional_id):
                yield TransactionRecord(transactional_id, transaction)

    def change(self, transaction: Transaction) -> SyncNumber:
        """Applies the next state; returns the sync that makes it durable. If it raises OSError, nothing has changed."""
        return self.runtime.apply(
            transaction.transactional_id, [TransactionRecord(transaction.transactional_id, transaction)]
        )

    def started(self) -> None:
        """Call this when all records are replayed: it carries out what was decided."""
        for transaction in list(self.transactions.values()):
            if transaction.state.is_prepared:
                self.carry_out(transaction)

    def of_producer(self, producer_id: int, epoch: int) -> Transaction | None:
        """The state of a producer's transactional id, if `epoch` is its current epoch."""
        owner = self.owners.get(producer_id)
        transaction = None if owner is None else self.transactions[owner]
        return transaction if transaction is not None and transaction.producer_epoch == epoch else None

    # -- InitProducerId

    def init(
        self, transactional_id: str, timeout_ms: int, producer_id: int = NO_PRODUCER_ID, epoch: int = NO_EPOCH
    ) -> ProducerAnswer | Deferred[ProducerAnswer]:
        """Answers with a producer id and epoch. Older instances with the same transactional id can no longer write.

        A client that recovers from an error names its producer id and epoch (KIP-360). An open transaction is aborted
        first.
        """
        if not transactional_id:
            return ProducerAnswer(ErrorCode.INVALID_REQUEST)
        if not 0 < timeout_ms <= self.timeout_ms_max:
            return ProducerAnswer(ErrorCode.INVALID_TRANSACTION_TIMEOUT)
        try:
            known = self.transactions.get(transactional_id)
            if known is None:
                known = Transaction(transactional_id, self.next_producer_id(), NO_EPOCH, timeout_ms)
            if not self.may_init(known, producer_id, epoch):
                return ProducerAnswer(ErrorCode.PRODUCER_FENCED)
            if known.state.is_prepared:
                return ProducerAnswer(ErrorCode.CONCURRENT_TRANSACTIONS)
            if known.state is TransactionState.ONGOING:
                return self.abort_and_init(known, timeout_ms, producer_id, epoch)
            decision = self.next_epoch(known, timeout_ms, producer_id, epoch)
            answer = self.runtime.carry_out(transactional_id, decision)
            self.last_epochs[transactional_id] = epoch if producer_id != NO_PRODUCER_ID else NO_EPOCH
            return answer
        except OSError as error:
            logger.error("transaction %s: a producer id cannot be written: %s", transactional_id, error)
            return ProducerAnswer(append_error(error))

    def next_epoch(
        self, known: Transaction, timeout_ms: int, producer_id: int, epoch: int
    ) -> Decision[TransactionRecord, ProducerAnswer]:
        """The next epoch of an id without an open transaction. Raises OSError if it needs a new producer id."""
        if known.is_epoch_exhausted:
            new_id = self.next_producer_id()
            after = replace(known, producer_id=new_id, producer_epoch=0, previous_producer_id=known.producer_id)
        elif producer_id != NO_PRODUCER_ID and epoch == self.last_epoch(known) and epoch != known.producer_epoch:
            after = known  # its answer was lost, or its transaction had to be aborted first
        else:
            after = replace(known, producer_epoch=known.producer_epoch + 1)
        after = replace(
            after,
            state=TransactionState.EMPTY,
            timeout_ms=timeout_ms,
            started_ms=-1,
            updated_ms=self.clock.wall_ms(),
        )
        answer = ProducerAnswer(ErrorCode.NONE, after.producer_id, after.producer_epoch)
        return Decision([TransactionRecord(after.transactional_id, after)], answer)

    def may_init(self, known: Transaction, producer_id: int, epoch: int) -> bool:
        """Whether this client may get the next epoch: a client that names no epoch may, and so may the first client."""
        is_new = known.producer_epoch == NO_EPOCH
        return producer_id == NO_PRODUCER_ID or is_new or self.may_continue(known, producer_id, epoch)

    def may_continue(self, known: Transaction, producer_id: int, epoch: int) -> bool:
        """Whether the client with this producer id and epoch is the one that has the transactional id."""
        if producer_id == known.producer_id:
            return epoch in (known.producer_epoch, self.last_epoch(known))
        return producer_id == known.previous_producer_id and epoch >= EPOCH_MAX - 1

    def last_epoch(self, known: Transaction) -> int:
        return self.last_epochs.get(known.transactional_id, NO_EPOCH)

    def abort_and_init(
        self, known: Transaction, timeout_ms: int, producer_id: int, epoch: int
    ) -> Deferred[ProducerAnswer]:
        """Fences the older instance, aborts what it left open, then answers with the next epoch.

        A client that named its producer id and epoch continues with the epoch that the fence has made.
        """
        ending: Deferred[ErrorCode] = Deferred()
        self.fence(known, ending.complete, last_epoch=epoch)

        def init_again(error: ErrorCode) -> ProducerAnswer | Deferred[ProducerAnswer]:
            if error is not ErrorCode.NONE:
                return ProducerAnswer(error)
            return self.init(known.transactional_id, timeout_ms, producer_id, epoch)

        return ending.then(init_again)

    def fence(
        self, transaction: Transaction, ended: Callable[[ErrorCode], None], *, last_epoch: int = NO_EPOCH
    ) -> None:
        """Aborts an open transaction on behalf of the broker. Raises OSError.

        The markers have a newer epoch, so whatever the old instance still sends is refused. `last_epoch` is the epoch of
        the client that made the request, if it named one.
        """
        prepared = transaction.to_prepared(
            commit=False, now_ms=self.clock.wall_ms(), bump_epoch=True, next_producer_id=NO_PRODUCER_ID
        )
        self.end_prepared(prepared, last_epoch, ended)

    # -- AddPartitionsToTxn, AddOffsetsToTxn, and the batches that add by themselves

    def check(self, transactional_id: str, producer_id: int, epoch: int) -> tuple[Transaction | None, ErrorCode]:
        """The transaction that this producer may add to, or the error."""
        if not transactional_id:
            return None, ErrorCode.INVALID_REQUEST
        transaction = self.transactions.get(transactional_id)
        if transaction is None or transaction.producer_id != producer_id:
            return None, ErrorCode.INVALID_PRODUCER_ID_MAPPING
        if not self.is_current(transaction, epoch):
            return None, ErrorCode.PRODUCER_FENCED
        if transaction.state.is_prepared:
            return None, ErrorCode.CONCURRENT_TRANSACTIONS
        return transaction, ErrorCode.NONE

    def is_current(self, transaction: Transaction, epoch: int) -> bool:
        """Whether the client with this epoch has the transactional id. No client has the highest epoch: it only fences."""
        return epoch == transaction.producer_epoch and epoch < EPOCH_MAX

    def add(
        self,
        transactional_id: str,
        producer_id: int,
        epoch: int,
        partitions: Iterable[TopicPartition],
        client_version: int = 0,
    ) -> tuple[ErrorCode, SyncNumber]:
        """Adds partitions to the transaction, and begins it if necessary. Returns the sync that makes that durable."""
        transaction, error = self.check(transactional_id, producer_id, epoch)
        if transaction is None:
            return error, NO_SYNC
        wanted = frozenset(partitions)
        if transaction.state is TransactionState.ONGOING and wanted <= transaction.partitions:
            return ErrorCode.NONE, NO_SYNC
        try:
            return ErrorCode.NONE, self.change(transaction.begun_with(wanted, self.clock.wall_ms(), client_version))
        except OSError as failure:
            logger.error("transaction %s cannot be written: %s", transactional_id, failure)
            return append_error(failure), NO_SYNC

    def verify(self, transactional_id: str, producer_id: int, epoch: int, partition: TopicPartition) -> ErrorCode:
        """Checks that the partition is in the producer's open transaction: TRANSACTION_ABORTABLE if it is not."""
        transaction, error = self.check(transactional_id, producer_id, epoch)
        if transaction is None:
            return error
        is_in = transaction.state is TransactionState.ONGOING and partition in transaction.partitions
        return ErrorCode.NONE if is_in else ErrorCode.TRANSACTION_ABORTABLE

    # -- EndTxn

    def end(
        self, transactional_id: str, producer_id: int, epoch: int, *, commit: bool, client_version: int
    ) -> ProducerAnswer | Deferred[ProducerAnswer]:
        """Commits or aborts; answers with a ProducerAnswer, which has the next epoch from transaction.version 2 on."""
        bumps = client_version >= EPOCH_PER_TRANSACTION
        if not transactional_id:
            return ProducerAnswer(ErrorCode.INVALID_REQUEST)
        known = self.transactions.get(transactional_id)
        if known is None:
            return ProducerAnswer(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
        if bumps and self.is_end_again(known, producer_id, epoch):
            return self.end_again(known, commit=commit)
        if known.producer_id != producer_id:
            return ProducerAnswer(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
        if not self.is_current(known, epoch):
            return ProducerAnswer(ErrorCode.PRODUCER_FENCED)
        if known.state is not TransactionState.ONGOING and not (bumps and not commit and not known.state.is_prepared):
            return self.end_without_transaction(known, commit=commit, bumps=bumps)
        ending: Deferred[ErrorCode] = Deferred()
        try:
            next_id = self.next_producer_id() if bumps and known.is_epoch_exhausted else NO_PRODUCER_ID
            prepared = replace(known, client_version=client_version).to_prepared(
                commit=commit, now_ms=self.clock.wall_ms(), bump_epoch=bumps, next_producer_id=next_id
            )
            self.end_prepared(prepared, epoch if bumps else self.last_epoch(known), ending.complete)
        except OSError as error:
            logger.error("transaction %s: its end cannot be written: %s", transactional_id, error)
            return ProducerAnswer(append_error(error))

        def producer_answer(error: ErrorCode) -> ProducerAnswer:
            after = self.transactions.get(transactional_id, known)
            return ProducerAnswer(error, after.producer_id, after.producer_epoch)

        return ending.then(producer_answer)

    def is_end_again(self, known: Transaction, producer_id: int, epoch: int) -> bool:
        """Whether this EndTxn comes from a client that has not seen the answer to its first one."""
        if producer_id == known.producer_id:
            return epoch == known.producer_epoch - 1
        return producer_id == known.previous_producer_id and epoch >= EPOCH_MAX - 1 and known.producer_epoch == 0

    def end_again(self, known: Transaction, *, commit: bool) -> ProducerAnswer:
        committed = (TransactionState.PREPARE_COMMIT, TransactionState.COMPLETE_COMMIT)
        if not (known.state.is_prepared or known.state.is_complete):
            return ProducerAnswer(ErrorCode.PRODUCER_FENCED)
        if commit != (known.state in committed):
            return ProducerAnswer(ErrorCode.INVALID_TXN_STATE)
        if known.state.is_prepared:
            return ProducerAnswer(ErrorCode.CONCURRENT_TRANSACTIONS)
        if known.producer_epoch == EPOCH_MAX:  # the broker has ended it, and there is no epoch after that
            return ProducerAnswer(ErrorCode.PRODUCER_FENCED)
        return ProducerAnswer(ErrorCode.NONE, known.producer_id, known.producer_epoch)

    def end_without_transaction(self, known: Transaction, *, commit: bool, bumps: bool) -> ProducerAnswer:
        """The answer if no transaction is open. A client whose epoch is bumped at each end has no reason to end twice."""
        match known.state, commit:
            case (TransactionState.COMPLETE_COMMIT, True) | (TransactionState.COMPLETE_ABORT, False) if not bumps:
                return ProducerAnswer(ErrorCode.NONE, known.producer_id, known.producer_epoch)
            case (TransactionState.PREPARE_COMMIT, True) | (TransactionState.PREPARE_ABORT, False):
                return ProducerAnswer(ErrorCode.CONCURRENT_TRANSACTIONS)
            case _:
                return ProducerAnswer(ErrorCode.INVALID_TXN_STATE)

    def end_prepared(self, prepared: Transaction, last_epoch: int, ended: Callable[[ErrorCode], None]) -> None:
        """Step 1. The other steps follow when it is on disk. Raises OSError."""
        sync = self.change(prepared)
        self.last_epochs[prepared.transactional_id] = last_epoch
        self.ending.setdefault(prepared.transactional_id, []).append(ended)
        self.runtime.when_durable(sync, lambda: self.carry_out(prepared))

    def carry_out(self, prepared: Transaction) -> None:
        """Steps 2 and 3 of a transaction whose outcome is on disk."""
        commit = prepared.state is TransactionState.PREPARE_COMMIT
        try:
            sync = self.markers.write_markers(prepared, commit=commit)
        except OSError as error:
            logger.error("transaction %s: markers cannot be written: %s", prepared.transactional_id, error)
            self.tell(prepared, append_error(error))
            return
        self.runtime.when_durable(sync, lambda: self.complete(prepared))

    def complete(self, prepared: Transaction) -> None:
        if self.transactions.get(prepared.transactional_id) != prepared:
            return
        try:
            self.change(prepared.to_completed(self.clock.wall_ms()))
        except OSError as error:
            logger.error("transaction %s: its end cannot be written: %s", prepared.transactional_id, error)
            self.tell(prepared, append_error(error))
            return
        self.ended.emit(prepared.transactional_id, prepared.state is TransactionState.PREPARE_COMMIT)
        self.tell(prepared, ErrorCode.NONE)

    def tell(self, transaction: Transaction, error: ErrorCode) -> None:
        for ended in self.ending.pop(transaction.transactional_id, ()):
            ended(error)

    # -- chores

    def abort_overdue(self) -> Steps[None]:
        """Aborts transactions that are open for longer than their timeout, and retries those whose end had failed.

        A transaction that cannot be ended does not prevent the others: at the end, all errors are raised as an ExceptionGroup.
        """
        now_ms = self.clock.wall_ms()
        errors = []
        for transaction in list(self.transactions.values()):
            if self.transactions.get(transaction.transactional_id) is transaction:  # unchanged since this began
                try:
                    self.end_overdue(transaction, now_ms)
                except Exception as error:  # noqa: BLE001 - raised below
                    errors.append(error)
            yield
        if errors:
            raise ExceptionGroup("transactions could not be ended", errors)

    def end_overdue(self, transaction: Transaction, now_ms: int) -> None:
        if transaction.state.is_prepared and transaction.transactional_id not in self.ending:
            self.ending[transaction.transactional_id] = []
            self.carry_out(transaction)
        elif transaction.state is TransactionState.ONGOING and transaction.started_ms + transaction.timeout_ms < now_ms:
            logger.info("transaction %s is aborted: it timed out", transaction.transactional_id)
            self.fence(transaction, lambda error: None)

    def remove_expired(self) -> Steps[None]:
        """Forgets ids that were not used for transactional.id.expiration.ms. Raises OSError."""
        before_ms = self.clock.wall_ms() - self.expiration_ms
        for transactional_id, transaction in list(self.transactions.items()):
            yield
            if self.transactions.get(transactional_id) is not transaction:
                continue  # it was used meanwhile
            is_idle = transaction.state is TransactionState.EMPTY or transaction.state.is_complete
            if is_idle and transaction.updated_ms < before_ms:
                self.runtime.apply(transactional_id, [TransactionRecord(transactional_id, None)])
