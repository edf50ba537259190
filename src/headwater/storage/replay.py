"""Replays the journal at a start: batches that the logs do not have yet.

Each batch goes to the end of its log, unless it is already there. If a log ends below a batch, records are missing. If the
journal is damaged, these are the records that it lost: they are logged, an empty batch fills their offsets, and the log
continues after them, so that later batches are served. If the journal is not damaged, the log is: it is put out of use,
and its batches in the journal are kept (`rescued.py`).

Batches that the logs have beyond the journal were written and never acknowledged. They are kept, and visible from now on.
So they have to be on disk twice, like acknowledged ones: they go into the journal, as if they were appended now.
"""

from collections.abc import Callable
from typing import Protocol, TypeAlias

from headwater.effects.files import SyncError
from headwater.effects.logs import get_logger
from headwater.protocol.records import patch_base_offset, read_header
from headwater.storage.config import LogConfig
from headwater.storage.errors import DamagedLogError
from headwater.storage.journal import Journal, is_disk_full
from headwater.storage.journal_entries import ENTRY, JournalDamage, JournalEntry, empty_batch
from headwater.storage.log import Log
from headwater.storage.recovery import LogRecovery
from headwater.storage.rescued import RescuedBatches

logger = get_logger(__name__)

Find: TypeAlias = Callable[[bytes, int], tuple[str, LogConfig] | None]
"""The name and the configuration of the topic with that id; None if there is none, or if it does not have that partition."""


class Logs(Protocol):
    """What the replay needs from a data directory, besides its journal."""

    dirty: set[Log]
    recoveries: dict[Log, LogRecovery]

    def open_log(self, topic: str, topic_id: bytes, partition: int, config: LogConfig) -> Log: ...

    def put_out_of_use(self, topic_id: bytes, partition: int, error: DamagedLogError) -> None: ...

    def sync_logs(self, logs: list[Log]) -> None: ...

    def distrust_cache(self) -> None: ...


def replay_entry(recovery: LogRecovery, entry: JournalEntry) -> bool:
    """Appends a batch if its log ends there; False if the log has it. Raises DamagedLogError if the log ends before it."""
    log = recovery.log
    if entry.base_offset < log.end_offset:
        return False
    if entry.base_offset > log.end_offset:
        raise DamagedLogError(
            f"{log.directory} ends at offset {log.end_offset} but the journal continues at {entry.base_offset}: "
            "segments are missing; restore the directory from a copy",
            start_offset=log.end_offset,
            end_offset=entry.base_offset,
        )
    header, batch = read_header(entry.batch), entry.batch
    if header.base_offset != entry.base_offset:  # in a journal of an earlier version, no CRC covers the batch's offset
        batch = memoryview(bytearray(batch))
        patch_base_offset(batch, 0, entry.base_offset)
    recovery.append(batch, header._replace(base_offset=entry.base_offset))
    return True


def take_rescued(rescued: RescuedBatches, recovery: LogRecovery) -> bool:
    """Appends what an earlier start has kept for this log; returns whether there was anything.

    Files that a checkpoint has covered meanwhile are removed. Raises OSError, including DamagedLogError.
    """
    log = recovery.log
    key = log.topic_id, log.partition
    has_grown, end = False, 0
    for entry in rescued.entries(key):
        end = entry.base_offset + 1
        if end <= log.recovery_point:  # it was appended, and retention or compaction may have removed it since
            continue
        if replay_entry(recovery, entry):
            has_grown = True
        elif not log.has_batch(entry.base_offset, read_header(entry.batch).crc):  # no CRC covers the offset
            raise DamagedLogError(
                f"{rescued.path(key)}: {log.directory} has another batch at offset {entry.base_offset}; inspect "
                "both, and move the file away to discard its batches"
            )
    if end and end <= log.recovery_point:
        rescued.discard(key)
    return has_grown


class Replay:
    """See the module's docstring. One per start: `metadata` first, then `logs`."""

    def __init__(self, journal: Journal, store: Logs) -> None:
        self.journal = journal
        self.store = store
        self.batches = 0
        self.ends: dict[Log, int] = {}  # the end of each log according to the journal
        self.lost: dict[Log, int] = {}  # logs that are known to have lost batches, and the end of the lost offsets
        self.has_unknown_loss = False
        self.not_taken: list[JournalEntry] = []

    def metadata(self, recovery: LogRecovery) -> None:
        """Appends what the metadata log lacks. Raises DamagedLogError if a part of it is lost."""
        log = recovery.log
        for item in self.journal.recover(only=log.topic_id):
            if item.topic_id != log.topic_id or item.partition != log.partition:
                continue
            if isinstance(item, JournalDamage):
                if item.base_offset >= log.end_offset:
                    raise DamagedLogError(
                        f"{item.path} is damaged at position {item.position}, which held the only copy of the offsets "
                        f"from {item.base_offset} on of {log.directory}; restore the data directory from a copy"
                    )
            elif replay_entry(recovery, item):
                self.store.dirty.add(log)

    def logs(self, find: Find) -> None:
        """Brings every log to its end according to the journal."""
        for item in self.journal.recover():
            known = None if item.topic_id is None else find(item.topic_id, item.partition)
            if isinstance(item, JournalDamage):
                self.report(item, known)
            elif known is not None:
                self.take(item, *known)
        for log, end in self.lost.items():
            if log.end_offset < end:
                self.leave_out(log, end)

    def take(self, entry: JournalEntry, topic: str, config: LogConfig) -> None:
        try:
            log = self.store.open_log(topic, entry.topic_id, entry.partition, config)
            if log.end_offset < entry.base_offset and (log in self.lost or self.has_unknown_loss):
                self.leave_out(log, entry.base_offset)
            recovery = self.store.recoveries.get(log)  # None: the metadata log was already replayed
            if recovery is not None and replay_entry(recovery, entry):
                self.batches += 1
                self.store.dirty.add(log)
        except DamagedLogError as error:
            self.store.put_out_of_use(entry.topic_id, entry.partition, error)
            self.not_taken.append(entry)
            return
        self.ends[log] = entry.base_offset + read_header(entry.batch).last_offset_delta + 1

    def leave_out(self, log: Log, offset: int) -> None:
        """Lets a log continue at `offset`. A batch without records, as compaction leaves them, fills the lost offsets."""
        logger.error(
            "%s: offsets %d to %d are lost: the part of the journal that held them is damaged or gone",
            log.directory,
            log.end_offset,
            offset - 1,
        )
        epoch = max(0, log.epochs.last)
        batch = empty_batch(log.end_offset, offset - log.end_offset - 1, epoch)
        self.store.recoveries[log].append(memoryview(batch), read_header(batch))
        self.store.dirty.add(log)

    def report(self, damage: JournalDamage, known: tuple[str, LogConfig] | None) -> None:
        """Logs damage, and remembers whose records it may have cost."""
        where = f"{damage.path} is damaged at position {damage.position} ({damage.size_bytes} bytes)"
        if damage.topic_id is None:
            self.has_unknown_loss = True
            logger.error(
                "%s: records that were acknowledged there are lost unless their log has them; the rest is recovered",
                where,
            )
            return
        if known is None:
            logger.error("%s: it held a batch of a deleted topic", where)
            return
        topic, config = known
        offsets = f"{topic}-{damage.partition} from offset {damage.base_offset} on"
        try:
            log = self.store.open_log(topic, damage.topic_id, damage.partition, config)
        except DamagedLogError:
            logger.error("%s: it held a batch of %s", where, offsets)
            return
        if damage.base_offset < log.end_offset:
            logger.error("%s: it held a batch of %s, which the log has", where, offsets)
            return
        logger.error("%s: it held the only copy of a batch of %s", where, offsets)
        self.lost[log] = max(self.lost.get(log, 0), damage.end_offset)

    def beyond(self) -> dict[Log, int]:
        """The logs that have more than the journal, and the offset up to which the journal has them."""
        ends = {log: max(self.ends.get(log, 0), log.recovery_point) for log in self.store.dirty}
        return {log: end for log, end in ends.items() if log.end_offset > end}

    def keep_beyond(self, beyond: dict[Log, int], *, use_journal: bool) -> None:
        """Makes durable what the logs have beyond the journal, from these offsets on. Raises OSError.

        These batches were written and never acknowledged; from now on they are visible. They go into the journal, with one
        sync for all logs. If they are too many, or there is no room, the logs themselves are synced.
        """
        if not beyond:
            return
        try:
            is_kept = use_journal and self.append_beyond(beyond)
        except SyncError:
            self.store.distrust_cache()
            raise
        except OSError as error:
            if not is_disk_full(error):
                raise
            is_kept = False
        if not is_kept:
            self.store.sync_logs(list(beyond))

    def append_beyond(self, beyond: dict[Log, int]) -> bool:
        """Appends the batches to the journal, and syncs it; False if they are too many. Raises OSError."""
        journal = self.journal
        room = journal.file_bytes // 2
        for log in sorted(beyond, key=lambda log: (log.topic, log.partition)):
            for header, segment, position in log.batches_from(beyond[log]):
                room -= header.size_bytes + ENTRY.size
                if room < 0:
                    return False
                batch = segment.read_batch(header, position)
                journal.append(log, log.mark(), log.topic_id, log.partition, header.base_offset, batch)
        sync = journal.take()
        if sync is not None:
            try:
                journal.sync(journal.write(sync))
            finally:
                journal.synced(sync)  # it no longer waits, whatever happened
        return True
