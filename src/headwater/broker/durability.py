"""The journal's driver: it decides what is written next, what follows a sync, when a checkpoint begins, and what a failing
disk means.

Theory. An append goes into the page cache of its log, at once or when the next sync begins, and waits for that sync of the
journal. The driver has one rule for writing: *while no sync is under way, everything that waits is written, and its sync
begins* (group commit). No timer is involved: a slow disk makes large syncs, a fast one small ones. When a sync has ended, the
next one begins first, and only then the answers of the ended one are made. So the disk works while Python does.

For example, with three clients that each produce a batch with acks=all:

    event                        driver                                     on disk   answered
    A arrives, `after_event`     writes sync 1 (A), `begin_sync`
    B and C arrive               nothing: a sync is under way
    `synced(None)`               writes sync 2 (B, C), `begin_sync`;        A         A
                                 then completes sync 1
    `synced(None)`               nothing waits; completes sync 2            A, B, C   A, B, C

    with an error instead:
    `synced(EIO)`                `fail`: nothing is written or answered     A         A
                                 from now on, the broker ends

Syncs are completed in the order of their numbers, even where one needs no sync of the journal.

A checkpoint syncs the logs themselves, so that a full journal file can be overwritten. It begins when a journal file is
full, when compaction asks for one, and at a regular interval. Only one runs at a time, while syncs continue. If both journal
files are full, the driver writes nothing until a checkpoint has freed one; what arrives meanwhile waits.

What can go wrong, and what it means:

    writing a sync: disk full           its logs are synced instead of the journal; it is as durable. If they cannot be
                                        written either, all that waits is written when there is room again
    writing a sync: any other error     failed
    a sync of the journal               failed: after a failed sync Linux may have dropped what it could not write,
                                        so a later success would prove nothing
    a checkpoint: no room, or no        undone, and begun again at the regular interval; nothing is lost, since the
    descriptor                          journal still has what it covers
    a checkpoint: any other error       failed
    an action that waited raises        reported; whatever else waits is still called

*Failed* is final. Nothing more is written, completed or acknowledged. A mark makes the next start distrust the page cache
(`storage/failed_syncs.py`). The disk is notified once, so that it ends the broker. The next start recovers what is on disk.

The driver never waits, and knows no loop, thread or process. It gives a `Disk` orders, which reports results by calls: the
server syncs in a child process and checkpoints in a thread, an in-memory broker does both at once (`ThisThread`), and a
simulation does them in whatever order its seed says. All calls are made in the thread that owns the core.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Protocol, TypeVar

from headwater.broker.occurrences import Occurrences
from headwater.effects.callbacks import call_all
from headwater.effects.files import is_shortage
from headwater.effects.logs import get_logger
from headwater.replay.deferred import Deferred
from headwater.replay.sync_number import NO_SYNC, SyncNumber
from headwater.storage.checkpoint import Checkpoint
from headwater.storage.journal import Sync, is_disk_full
from headwater.storage.log import Log

logger = get_logger(__name__)
Answer = TypeVar("Answer")


class Journal(Protocol):
    """What the driver needs of the journal (`storage/journal.py`)."""

    waiting_bytes: int

    @property
    def has_full_file(self) -> bool: ...
    def take(self) -> Sync | None: ...
    def write(self, sync: Sync) -> int: ...
    def sync(self, file: int) -> None: ...


class Store(Protocol):
    """What the driver needs of the data directory (`storage/store.py`)."""

    @property
    def journal(self) -> Journal: ...
    @property
    def has_unsynced_logs(self) -> bool: ...
    def write_gathered(self) -> OSError | None: ...
    def sync_logs_of(self, sync: Sync) -> None: ...
    def sync_done(self, sync: Sync) -> list[Log]: ...
    def begin_checkpoint(self) -> Checkpoint: ...
    def finish_checkpoint(self, checkpoint: Checkpoint) -> None: ...
    def undo_checkpoint(self, checkpoint: Checkpoint) -> None: ...
    def distrust_cache(self) -> None: ...


class Disk(Protocol):
    """What a shell does for the driver, and how the driver notifies it."""

    def begin_sync(self, file: int) -> bool:
        """Begins to sync a file of the journal. True: it is already on disk. False: `synced` will be called.

        If it raises OSError, that counts as a failed sync.
        """
        ...

    def run_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Runs a checkpoint, here or elsewhere, and calls `checkpoint_ended` in the owner's thread, at once or later."""
        ...

    def journal_advanced(self) -> None:
        """A sync was completed: less is waiting than before, and perhaps no sync is under way."""
        ...

    def failed(self, error: Exception) -> None:
        """Ends the broker. Nothing more is answered."""
        ...

    def report(self, error: Exception) -> None:
        """Reports a defect: an action that waited for a sync has raised."""
        ...


class Durability:
    """See the module's docstring."""

    def __init__(
        self,
        store: Store,
        occurrences: Occurrences,
        *,
        logs_grew: Callable[[list[Log]], None],
        checkpoint_taken: Callable[[], None],
    ) -> None:
        self.store, self.journal = store, store.journal
        self.occurrences = occurrences
        self.logs_grew = logs_grew  # called when readers may see more of these logs
        self.checkpoint_taken = checkpoint_taken
        self.disk: Disk = ThisThread(self)
        self.waits: deque[tuple[SyncNumber, Callable[[], None]]] = deque()
        self.last_synced = NO_SYNC  # the last one that was completed
        self.syncing: Sync | None = None  # written; its sync is under way
        # A sync for which there was no room, and why. It is the next to be written.
        self.held: tuple[Sync, OSError] | None = None
        self.durable: deque[Sync] = deque()  # on disk, but not completed yet
        self.is_driving = False
        self.checkpoint: Checkpoint | None = None  # under way
        self.wants_checkpoint = False  # compaction waits for one
        self.shortage: OSError | None = None  # what the last checkpoint lacked; only the regular one tries again
        self.is_failed = False
        self.error: Exception | None = None

    # waiting for the disk

    def when_durable(self, sync: SyncNumber, callback: Callable[[], None]) -> None:
        """Calls back when that sync is done; at once for NO_SYNC, or if it is already done."""
        if sync <= self.last_synced:
            callback()
        else:
            self.waits.append((sync, callback))

    def answer_when_durable(self, sync: SyncNumber, answer: Answer) -> Deferred[Answer]:
        """Gives an answer when that sync is done."""
        deferred: Deferred[Answer] = Deferred()
        self.when_durable(sync, partial(deferred.complete, answer))
        return deferred

    def due(self, sync: SyncNumber) -> Iterator[Callable[[], None]]:
        """Removes and yields the callbacks that wait for that sync or an earlier one."""
        waits = self.waits
        while waits and waits[0][0] <= sync:
            yield waits.popleft()[1]

    # -- writing

    def after_event(self) -> None:
        """Call this after every event that may have appended something, unless a sync is under way."""
        if self.journal.waiting_bytes:
            self.drive()

    def after_timers(self) -> None:
        """Call this after timers have run: they may also have asked for a checkpoint."""
        self.checkpoint_if_needed()
        self.after_event()

    def synced(self, error: OSError | None) -> None:
        """The sync that `begin_sync` began has ended."""
        sync, self.syncing = self.syncing, None
        if error is not None or sync is None:
            self.fail(error or OSError("the journal was synced out of turn"))
            return
        self.durable.append(sync)
        self.drive()

    def drive(self) -> None:
        """Writes and completes, alternately, until a sync is under way or nothing more can be done now."""
        if self.is_driving:  # called from within `drive`: the loop below runs once more
            return
        self.is_driving = True
        try:
            self.write_next()
            while self.durable:
                self.complete(self.durable.popleft())
                self.write_next()
        finally:
            self.is_driving = False

    def write_next(self) -> None:
        """Begins to sync what is waiting, unless a sync is under way."""
        if self.syncing is not None or self.is_failed or not self.journal.waiting_bytes:
            return
        sync = self.held[0] if self.held is not None else self.journal.take() or self.take_after_checkpoint()
        if sync is None or self.is_failed:
            return
        self.store.write_gathered()  # what cannot be written is in the journal at least
        try:
            file = self.journal.write(sync)
        except OSError as error:
            self.write_failed(sync, error)
            return
        self.syncing, self.held = sync, None
        try:
            is_synced = self.disk.begin_sync(file)
        except OSError as error:
            self.syncing = None
            self.fail(error)
            return
        if is_synced:
            self.syncing = None
            self.durable.append(sync)

    def take_after_checkpoint(self) -> Sync | None:
        """The sync to write that found no free file; None until a checkpoint has freed one."""
        self.checkpoint_if_needed()
        return self.journal.take() if self.checkpoint is None else None

    def write_failed(self, sync: Sync, error: OSError) -> None:
        """A sync could not be written. If the disk is full, its logs are synced instead, now or when there is room again."""
        if not is_disk_full(error):
            self.fail(error)
            return
        if self.held is None:
            logger.warning("the disk is full: syncing logs instead of the journal")
        try:
            self.store.sync_logs_of(sync)
        except OSError as failure:
            if not is_shortage(failure):
                self.fail(failure)
                return
            if self.held is None:
                logger.error("nothing is acknowledged until there is room: %s", failure)
            self.held = sync, failure
        else:
            self.held = None
            self.durable.append(sync)

    def complete(self, sync: Sync) -> None:
        """A sync is done: its batches become visible, and everything that waited for it continues.

        If a callback raises, the others are still called; the error is reported at the end.
        """
        if self.is_failed:
            return
        try:
            try:
                logs = self.store.sync_done(sync)
                self.last_synced = sync.number
                self.logs_grew(logs)
                self.occurrences.synced.emit(sync.number, logs)
            finally:
                call_all(self.due(sync.number))
        except Exception as error:  # noqa: BLE001 - the shell decides about it; the others must not wait for that
            self.disk.report(error)
        self.disk.journal_advanced()
        self.checkpoint_if_needed()

    # -- checkpoints

    def checkpoint_if_needed(self) -> None:
        """Begins a checkpoint if a full file or compaction waits for one."""
        is_wanted = self.wants_checkpoint or self.journal.has_full_file
        if is_wanted and self.shortage is None:
            self.begin_checkpoint()

    def checkpoint_regularly(self) -> None:
        """Begins a checkpoint if any log was written since the last, so that the next start has little to read."""
        if self.store.has_unsynced_logs or self.journal.has_full_file:
            self.begin_checkpoint()

    def begin_checkpoint(self) -> None:
        """Begins a checkpoint, unless one is under way."""
        if self.checkpoint is not None or self.is_failed:
            return
        self.wants_checkpoint = False
        try:
            self.checkpoint = checkpoint = self.store.begin_checkpoint()
        except OSError as error:
            self.checkpoint_failed(error)
            return
        self.disk.run_checkpoint(checkpoint)

    def checkpoint_ended(self, error: BaseException | None) -> None:
        """The checkpoint that `run_checkpoint` started has ended."""
        checkpoint, self.checkpoint = self.checkpoint, None
        if self.is_failed or checkpoint is None:
            return
        if error is None:
            try:
                self.store.finish_checkpoint(checkpoint)
            except OSError as failure:
                error = failure
        elif isinstance(error, OSError) and is_shortage(error):
            self.store.undo_checkpoint(checkpoint)
        if error is None:
            self.shortage = None
            self.occurrences.checkpointed.emit()
            try:
                self.checkpoint_taken()
            except Exception as failure:  # noqa: BLE001 - as in `complete`
                self.disk.report(failure)
            self.after_event()
        elif isinstance(error, Exception):
            self.checkpoint_failed(error)
        else:
            raise error

    def checkpoint_failed(self, error: Exception) -> None:
        """A checkpoint could not be taken. If only room was missing, the next regular one tries again."""
        if isinstance(error, OSError) and is_shortage(error):
            logger.error("the checkpoint failed, and is tried again later: %s", error)
            self.shortage = error
        else:
            self.fail(error)

    # -- the end

    def fail(self, error: Exception) -> None:
        """The disk has lost what it should hold: nothing more is acknowledged, and the broker ends."""
        if self.is_failed:
            return
        self.is_failed, self.error = True, error
        self.waits.clear()
        self.durable.clear()
        self.store.distrust_cache()
        logger.critical("the disk has failed: %s. The broker ends; the next start recovers what is on disk", error)
        self.occurrences.failed.emit(error)
        self.disk.failed(error)

    def flush(self) -> None:
        """Writes, syncs and completes everything that waits, in this thread, at the end. Raises OSError if that fails."""
        if self.syncing is not None:
            raise RuntimeError("a sync is under way elsewhere; wait for it first")
        self.disk = ThisThread(self)
        self.shortage = None
        self.drive()
        if self.error is not None:
            raise self.error
        if self.held is not None:
            raise self.held[1]
        if self.journal.waiting_bytes:
            raise self.shortage or OSError("the journal has no room, and a checkpoint did not free any")

    def release_waits(self) -> Iterable[Callable[[], None]]:
        """The callbacks that still wait when everything is on disk."""
        while self.waits:
            yield self.waits.popleft()[1]


class ThisThread:
    """A disk that does everything at once, in the owner's thread."""

    def __init__(self, durability: Durability) -> None:
        self.durability = durability

    def begin_sync(self, file: int) -> bool:
        self.durability.journal.sync(file)
        return True

    def run_checkpoint(self, checkpoint: Checkpoint) -> None:
        try:
            checkpoint.run()
        except OSError as error:
            self.durability.checkpoint_ended(error)
        else:
            self.durability.checkpoint_ended(None)

    def journal_advanced(self) -> None:
        pass

    def failed(self, error: Exception) -> None:
        pass

    def report(self, error: Exception) -> None:
        logger.error("an action that waited for the journal failed", exc_info=error)
