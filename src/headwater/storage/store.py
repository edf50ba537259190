"""The data directory: all logs, the journal that makes them durable, checkpoints and recovery.

Theory. An append goes into its log's segment (page cache) and into the journal. Small batches are gathered in memory, and
go into both when the next sync begins. When the journal's sync is done, a batch is acknowledged and visible. At a checkpoint the logs written since the last one are synced, their recovery points move up,
and a full journal file is free again. So after a crash every acknowledged batch is in a synced segment or in the journal.
Recovery keeps each log up to its recovery point as it is, checks the rest batch by batch, cuts it off at the first torn one,
and then appends from the journal what is missing.

Threads. All methods belong to the owner's thread, except `Checkpoint.run`, which only uses files and may run in another.
"""

import errno
from collections.abc import Iterable
from typing import cast

from headwater.effects.clock import Clock
from headwater.effects.entropy import Entropy, random_uuid
from headwater.effects.files import Files, Lock, SyncError, is_shortage, replace_file
from headwater.effects.logs import get_logger
from headwater.effects.work import Steps
from headwater.protocol.errors import ProtocolError
from headwater.protocol.records import CONTROL, BatchHeader
from headwater.replay.sync_number import NO_SYNC, SyncNumber
from headwater.storage.checkpoint import Checkpoint
from headwater.storage.checkpoints import (
    CLEAN_OFFSETS,
    CLEAN_SHUTDOWN,
    COPY_SUFFIX,
    LOG_STARTS,
    RECOVERY_POINTS,
    keep_meta,
    read_meta,
    read_offsets,
    uuid_text,
    write_meta,
    write_offsets,
)
from headwater.storage.config import LogConfig
from headwater.storage.directories import LogDirectories
from headwater.storage.errors import DamagedLogError, DirectoryInUseError, FormatError
from headwater.storage.failed_syncs import FailedSyncs
from headwater.storage.gathering import Gathering
from headwater.storage.journal import FILES_MAX, Journal, Sync
from headwater.storage.log import Log, LogMark
from headwater.storage.recovery import LogRecovery, loads_quickly, write_again
from headwater.storage.replay import Find, Replay, take_rescued
from headwater.storage.rescued import RescuedBatches
from headwater.storage.retention import Cleaned, Reason, bytes_let_go, expired_offsets
from headwater.storage.segment import base_offset_of
from headwater.storage.swaps import remove_copies

logger = get_logger(__name__)

CLEANER_LOCK = ".cleaner.lock"
CLEANER_WAIT_MS = 10_000  # longer than one step of a compaction takes on a slow disk
DISK_FORMAT = "1"  # of the journal; segments are in Kafka's own format
CHECKPOINTS_KEY, CHECKPOINTS_ALWAYS = "headwater.checkpoints", "always"
JOURNAL_FILES_KEY = "headwater.journal.files"
GATHERED_BYTES_MAX = 16 << 10  # a larger batch is worth a write of its own
ADOPTED = {CHECKPOINTS_KEY: CHECKPOINTS_ALWAYS, JOURNAL_FILES_KEY: str(FILES_MAX)}


def log_key(log: Log) -> tuple[str, int]:
    return log.topic, log.partition


def is_of_this_log(error: BaseException) -> bool:
    """Whether only a log's own files cause an error (rights, kinds, a bad block), and not the whole disk or the system."""
    return isinstance(error, OSError) and not isinstance(error, DamagedLogError | SyncError) and not is_shortage(error)


class LogStore:
    """See the module's docstring. Life: construct, `open_log` the metadata, `recover`, use, `close`."""

    cleaned: Cleaned | None = None  # called when records are deleted
    gathers = True  # whether small batches are written together

    def __init__(
        self,
        files: Files,
        directory: str,
        clock: Clock,
        entropy: Entropy,
        *,
        use_journal: bool = True,
        journal_file_bytes: int = 128 << 20,
        node_id: int = 1,
    ) -> None:
        self.files, self.directory, self.clock = files, directory, clock
        self.use_journal = use_journal
        self.leader_epoch = 0
        self.logs: dict[tuple[bytes, int], Log] = {}
        self.recoveries: dict[Log, LogRecovery] = {}  # logs for which the journal may still have batches
        self.damaged: dict[tuple[bytes, int], DamagedLogError] = {}
        self.dirty: set[Log] = set()
        self.gathering = Gathering()
        self.running_checkpoint: Checkpoint | None = None
        self.has_spare_files = True  # an earlier version's journal had none
        self.is_recovering = True  # until the journal has been replayed
        is_empty = not files.exists(directory) or not files.list_directory(directory)
        files.make_directory(directory)
        self.lock = self.take_lock()
        try:
            self.wait_for_cleaner()
            self.cluster_id, self.directory_id = self.take_meta(entropy, node_id)
            self.was_clean = files.exists(f"{directory}/{CLEAN_SHUTDOWN}")
            self.recovery_points, self.points_are_known = read_offsets(files, f"{directory}/{RECOVERY_POINTS}")
            self.log_starts, self.starts_are_known = read_offsets(files, f"{directory}/{LOG_STARTS}")
            self.adopt_checkpoints()
            self.clean_offsets = read_offsets(files, f"{directory}/{CLEAN_OFFSETS}").offsets
            self.directories = LogDirectories(files, directory, clock)
            nonce = int.from_bytes(entropy.bytes(4), "big")
            self.journal = Journal(files, f"{directory}/journal", journal_file_bytes, nonce)
            self.rescued = RescuedBatches(files, f"{directory}/journal")
            self.failed_syncs = FailedSyncs(files, directory)
            self.directories.keep_others_out(is_new=is_empty)
            for path in (f"{directory}/journal", directory, directory.rpartition("/")[0] or "."):
                files.sync_directory(path)
        except BaseException:
            self.lock.release()
            raise

    def take_lock(self) -> Lock:
        try:
            return self.files.lock(f"{self.directory}/.lock")
        except BlockingIOError:
            raise DirectoryInUseError(
                f"{self.directory} is in use by another broker; stop that one or choose another directory"
            ) from None

    def wait_for_cleaner(self) -> None:
        """Waits for a compaction of a killed broker to end: for a moment it still writes beside the logs."""
        try:
            self.files.lock(f"{self.directory}/{CLEANER_LOCK}", CLEANER_WAIT_MS).release()
        except BlockingIOError:
            raise DirectoryInUseError(
                f"a compaction started by an earlier broker is still running in {self.directory}; try again when it has ended"
            ) from None

    def take_meta(self, entropy: Entropy, node_id: int) -> tuple[str, bytes]:
        """The cluster's and this directory's ids, from `meta.properties`. In a new directory they are new."""
        meta = read_meta(self.files, self.directory)
        if meta is None:
            if LogDirectories(self.files, self.directory, self.clock).has_logs():
                raise FormatError(
                    f"{self.directory} has logs but no meta.properties; restore it or choose another directory"
                )
            meta = {
                "version": "1",
                "cluster.id": uuid_text(random_uuid(entropy)),
                "node.id": str(node_id),
                "directory.id": uuid_text(random_uuid(entropy)),
                "headwater.format": DISK_FORMAT,
            }
            for name in (RECOVERY_POINTS, LOG_STARTS):
                write_offsets(self.files, f"{self.directory}/{name}", {})
            meta |= ADOPTED
            write_meta(self.files, self.directory, meta)
        if meta.get("headwater.format") != DISK_FORMAT:
            raise FormatError(
                f"{self.directory} has format {meta.get('headwater.format', 'of another broker')!r}, but this version "
                f"reads {DISK_FORMAT!r}; use the version that wrote it, or another directory"
            )
        missing = [key for key in ("cluster.id", "directory.id") if not meta.get(key)]
        if missing:
            raise FormatError(
                f"{self.directory}/meta.properties has no {' and no '.join(missing)}; restore it from a copy, or choose "
                "another directory"
            )
        keep_meta(self.files, self.directory, meta)
        return meta["cluster.id"], meta["directory.id"].encode()

    def adopt_checkpoints(self) -> None:
        """Creates files that an earlier version has not made: it wrote each one when there was something to write.

        After that, a missing file means that something is wrong; `meta.properties` records this.
        """
        meta = read_meta(self.files, self.directory) or {}
        if ADOPTED.items() <= meta.items():
            return
        self.has_spare_files = JOURNAL_FILES_KEY in meta
        for name in (RECOVERY_POINTS, LOG_STARTS):
            path = f"{self.directory}/{name}"
            if (
                meta.get(CHECKPOINTS_KEY) == CHECKPOINTS_ALWAYS
                or self.files.exists(path)
                or self.files.exists(path + COPY_SUFFIX)
            ):
                continue
            if name == RECOVERY_POINTS:
                self.points_are_known = True
            else:
                self.starts_are_known = True
            write_offsets(self.files, path, {})
        write_meta(self.files, self.directory, {**meta, **ADOPTED})

    # -- logs

    def open_log(self, topic: str, topic_id: bytes, partition: int, config: LogConfig) -> Log:
        """Opens the log of a partition: its files are loaded and checked now.

        Raises OSError, and DamagedLogError if its files are not what was written. Then it stays out of use until the next
        start, and nothing of it is removed.
        """
        log = self.logs.get((topic_id, partition))
        if log is not None:
            return log
        if (topic_id, partition) in self.damaged:
            raise self.damaged[topic_id, partition]
        try:
            log = self.load_log(topic, topic_id, partition, config)
        except DamagedLogError as error:
            self.put_out_of_use(topic_id, partition, error)
            raise
        self.logs[topic_id, partition] = log
        return log

    def put_out_of_use(self, topic_id: bytes, partition: int, error: DamagedLogError) -> None:
        """Stops using a damaged log until the next start. What was appended to it so far goes to disk. Raises OSError."""
        if (topic_id, partition) in self.damaged:
            return
        logger.error("%s. The partition is out of use until the next start; all others are served", error)
        self.damaged[topic_id, partition] = error
        log = self.logs.pop((topic_id, partition), None)
        if log is not None:
            self.recoveries.pop(log, None)
            self.gathering.require_written()
            self.sync_logs([log] if log.on_disk else [])
            self.dirty.discard(log)
            log.close()

    def load_log(self, topic: str, topic_id: bytes, partition: int, config: LogConfig) -> Log:
        path = self.directories.path(topic, partition)
        recovery_point = self.recovery_points.get((topic_id, partition), 0 if self.points_are_known else None)
        start_offset = self.log_starts.get((topic_id, partition), 0 if self.starts_are_known else None)
        log = Log(self.files, path, topic, topic_id, partition, config, self.leader_epoch)
        recovery = self.recoveries[log] = LogRecovery(log)
        try:
            if self.directories.claim(topic, topic_id, partition, recovery_point or 0):
                recovery.load(recovery_point, start_offset)
                if self.failed_syncs.happened:
                    write_again(log)
                    self.dirty.add(log)
                if log.end_offset != recovery_point or log.damages:
                    self.dirty.add(log)
            else:
                recovery.load_missing(recovery_point or 0, start_offset)
            if start_offset is None and log.start_offset:
                self.log_starts[topic_id, partition] = log.start_offset
            if take_rescued(self.rescued, recovery):
                self.dirty.add(log)
            if log in self.dirty and not self.is_recovering:
                self.sync_logs([log])
            if not self.is_recovering:
                self.recoveries.pop(log).finish()
        except BaseException as error:
            self.recoveries.pop(log, None)
            self.dirty.discard(log)
            log.close()
            if isinstance(error, SyncError):
                self.failed_syncs.note()
            if isinstance(error, ProtocolError):
                raise DamagedLogError(f"{path} is damaged: {error}") from error
            # At the start this must not stop all other logs. Later the next request tries again.
            if self.is_recovering and is_of_this_log(error):
                raise DamagedLogError(f"{path} cannot be opened: {error}") from error
            raise
        return log

    def open_slow(self, partitions: Iterable[tuple[str, bytes, int, LogConfig]]) -> None:
        """Opens logs that need much reading before any client is served: later, all other requests would have to wait."""
        for topic, topic_id, partition, config in partitions:
            key = topic_id, partition
            if (topic, partition) not in self.directories or key in self.damaged:
                continue
            point = self.recovery_points.get(key, 0 if self.points_are_known else None)
            try:
                path = self.directories.path(topic, partition)
                if not loads_quickly(self.files, path, point, was_clean=self.was_clean):
                    self.open_log(topic, topic_id, partition, config).load_indexes()
            except DamagedLogError:  # it was logged when it was found
                continue
            except OSError as error:
                logger.error("%s-%d cannot be opened: %s", topic, partition, error)

    def delete_log(self, topic: str, topic_id: bytes, partition: int) -> None:
        """Forgets a partition, and removes its directory."""
        if self.running_checkpoint is not None:
            self.running_checkpoint.leave_out(f"{self.directory}/{topic}-{partition}")
        log = self.logs.pop((topic_id, partition), None)
        if log is not None:
            self.recoveries.pop(log, None)
            self.dirty.discard(log)
            self.gathering.discard(log)
            log.close()
            if log.on_disk:
                self.directories.add(topic, partition)
        self.damaged.pop((topic_id, partition), None)
        self.recovery_points.pop((topic_id, partition), None)
        self.log_starts.pop((topic_id, partition), None)
        self.clean_offsets.pop((topic_id, partition), None)
        try:
            self.directories.remove(topic, partition)
        finally:
            self.rescued.discard((topic_id, partition))

    def free_name(self, topic: str) -> None:
        """Call this before a topic is created: nothing of a deleted topic with this name can return. Raises OSError."""
        try:
            self.directories.free(topic)
        except SyncError:
            self.failed_syncs.note()
            raise

    def remove_folder(self, path: str) -> None:
        """Removes a folder of compacted copies, if it exists. Raises OSError."""
        remove_copies(self.files, path)

    # -- appending

    def append(self, log: Log, batch: bytearray | memoryview, header: BatchHeader) -> tuple[int, SyncNumber]:
        """Appends a checked batch. Returns its base offset and the sync that makes it durable (0: visible at once).

        If the batch cannot be written, raises OSError, and the log is unchanged. A control batch must be a transaction's
        marker; FencedMarkerError is raised if it comes too late.
        """
        journal = self.journal
        if journal.parts:
            journal.seal()
        if self.gathering.files and not journal.has_blocks_for(len(batch)):
            self.gathering.require_written()
        base_offset = log.append_marker(batch, header) if header.attributes & CONTROL else log.append(batch, header)
        self.dirty.add(log)
        if not self.use_journal:
            log.become_durable(log.mark())
            return base_offset, NO_SYNC
        return base_offset, journal.append(log, log.mark(), log.topic_id, log.partition, base_offset, batch)

    def gather(self, log: Log, batch: bytearray | memoryview, header: BatchHeader) -> tuple[int, SyncNumber]:
        """As `append`, for a batch outside of transactions whose client is answered when its sync is done.

        If it is small, it goes into memory only. What was gathered is written when the next sync begins: with one write for
        each log, and one for the journal. If the disk is full by then, the journal alone has to be enough. So batches are
        gathered only while the journal has blocks on disk for all that waits.
        """
        size = len(batch)
        is_small = self.gathers and self.use_journal and size <= GATHERED_BYTES_MAX
        base_offset = log.gather(batch, header) if is_small and self.journal.has_blocks_for(size) else -1
        if base_offset < 0:
            return self.append(log, batch, header)
        self.dirty.add(log)
        self.gathering.add(log)
        return base_offset, self.journal.gather(log, base_offset, batch)

    def write_gathered(self) -> OSError | None:
        """Writes what was gathered; returns the error if some of it stays in memory for now."""
        return self.gathering.write()

    def sync_of_end(self, log: Log) -> SyncNumber:
        """The sync of the journal that makes the log durable to its end; 0 if it is durable."""
        return self.journal.newest_sync if log.end_offset > log.high_watermark else NO_SYNC

    def distrust_cache(self) -> None:
        """Call this when a sync has failed: records for the next start that the page cache may show what is not on disk."""
        self.failed_syncs.note()

    def sync_logs_of(self, sync: Sync) -> None:
        """Replaces a sync of the journal: syncs the logs of its batches, up to the end of these. Raises OSError."""
        self.gathering.require_written()
        for mark, value in sync.marks.items():
            log, end = cast(Log, mark), cast(LogMark, value)
            if self.logs.get((log.topic_id, log.partition)) is not log:
                continue  # deleted meanwhile
            for segment in log.segments:
                if end.segment is not None and segment.base_offset <= end.segment.base_offset:
                    self.files.sync_path(segment.path + ".log")
            self.files.sync_directory(log.directory)
        self.files.sync_directory(self.directory)

    def sync_done(self, sync: Sync) -> list[Log]:
        """Makes the batches of a completed sync visible; returns the logs that have grown."""
        self.journal.synced(sync)
        logs = []
        for mark, value in sync.marks.items():
            log = cast(Log, mark)
            log.become_durable(cast(LogMark, value))
            logs.append(log)
        return logs

    # -- checkpoints

    @property
    def has_unsynced_logs(self) -> bool:
        """Whether anything was appended since the last checkpoint began."""
        return bool(self.dirty)

    def begin_checkpoint(self) -> Checkpoint:
        """What has to be synced so that everything appended until now is durable. One at a time; `finish_checkpoint` ends it.

        Raises OSError if the directory was replaced by another one. A checkpoint opens files by their paths, so it would
        write what it knows of this directory into the new one, which another broker may use.
        """
        if not self.lock.is_in_place():
            raise OSError(
                errno.ESTALE, "the directory was removed or replaced under the running broker", self.directory
            )
        self.gathering.require_written()
        checkpoint = Checkpoint(self.files, self.directory, dict(self.recovery_points))
        self.running_checkpoint = checkpoint
        for log in sorted(self.dirty, key=log_key):  # in a fixed order, so that a simulation can be repeated
            checkpoint.add(log)
        self.dirty = set()
        checkpoint.full_files = self.journal.full_files
        return checkpoint

    def finish_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Applies the result of a checkpoint."""
        self.running_checkpoint = None
        for log, offset, _ in checkpoint.advanced:
            if self.logs.get((log.topic_id, log.partition)) is not log:
                continue
            log.recovery_point = offset
            self.recovery_points[log.topic_id, log.partition] = offset
            self.remove_before_start(log)
        self.journal.release(checkpoint.full_files)

    def undo_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Undoes a checkpoint that ran out of space or of descriptors. The next one covers the same logs."""
        self.running_checkpoint = None
        for log, _, segments in checkpoint.advanced:
            log.unsynced_segments |= segments
            for segment in segments:
                segment.aborted_changed = len(segment.aborted or ()) > 0
            log.names_unsynced = True
            self.dirty.add(log)

    def checkpoint(self) -> None:
        """Runs a whole checkpoint in this thread."""
        checkpoint = self.begin_checkpoint()
        try:
            checkpoint.run()
        except SyncError:
            self.failed_syncs.note()
            raise
        self.finish_checkpoint(checkpoint)

    # -- recovery

    def recover_log(self, log: Log) -> None:
        """Appends from the journal what the metadata log lacks. Raises DamagedLogError if a part of it is lost.

        A killed broker may have left a part of the journal in the page cache only. What is read from there is shown to
        clients and built upon, so a power cut after this start must not lose it: it is synced first.
        """
        if not self.was_clean:
            try:
                self.journal.sync_recovered()
            except SyncError:
                self.failed_syncs.note()
                raise
        recovery = self.recoveries.pop(log)
        Replay(self.journal, self).metadata(recovery)
        recovery.finish()

    def recover(self, find: Find) -> None:
        """Brings all logs to their ends according to the journal (`replay.py`).

        The journal continues in a free file; the content of the other one is needed until the next checkpoint.
        """
        if self.was_clean:  # not earlier: a start on damaged metadata leaves everything as it is
            self.files.remove(f"{self.directory}/{CLEAN_SHUTDOWN}")
            self.files.sync_directory(self.directory)
        for offsets in (self.recovery_points, self.log_starts, self.clean_offsets):
            for key in [key for key in offsets if find(*key) is None]:
                del offsets[key]
        replay = Replay(self.journal, self)
        replay.has_unknown_loss = self.is_journal_missing()
        replay.logs(find)
        self.rescued.keep(replay.not_taken)
        self.dirty.update(log for log, recovery in self.recoveries.items() if recovery.take_remains())
        beyond = replay.beyond()
        for recovery in self.recoveries.values():
            recovery.finish()
        self.recoveries.clear()
        self.is_recovering = False
        if self.failed_syncs.happened or not self.journal.has_free_file:
            self.checkpoint()
            self.journal.retire_all()
            beyond = {}
        if self.failed_syncs.happened:
            logger.warning("a sync had failed: everything after the logs' last checkpoint was rewritten and synced")
            self.failed_syncs.forget()
        self.journal.set_foreign_aside()
        self.journal.start()
        replay.keep_beyond(beyond, use_journal=self.use_journal)
        if not self.was_clean and replay.batches:
            logger.warning("recovered after an unclean stop: %d batches were restored from the journal", replay.batches)

    def is_journal_missing(self) -> bool:
        """Whether a journal file that may have had content is gone, which is logged."""
        if self.was_clean or not self.directories.names:
            return False
        files = [file for file in self.journal.files if self.has_spare_files or not file.is_spare]
        missing = [file.path for file in files if file.was_missing]
        for path in missing:
            logger.error("%s is missing: records acknowledged since the last checkpoint may be lost", path)
        return bool(missing)

    def sync_logs(self, logs: list[Log]) -> None:
        """Syncs what was found after the recovery points of these logs. Raises OSError."""
        try:
            for log in sorted(logs, key=log_key):
                for segment in sorted(log.unsynced_segments, key=base_offset_of):
                    self.files.sync_path(segment.path + ".log")
                    if segment.aborted_changed:
                        self.files.sync_path(segment.path + ".txnindex")
                self.files.sync_directory(log.directory)
            if logs:
                self.files.sync_directory(self.directory)
        except SyncError:
            self.failed_syncs.note()
            raise

    # -- log start offsets and retention

    def advance_start(self, starts: dict[Log, int], reason: Reason | None = None) -> int:
        """Moves log start offsets up, durably, and removes the segments below; returns how many were removed."""
        before = {log: log.start_offset for log in starts}
        self.move_starts(starts)
        try:
            write_offsets(self.files, f"{self.directory}/{LOG_STARTS}", self.log_starts)
        except OSError:
            self.move_starts(before)
            raise
        for log, offset in starts.items():
            if reason and self.cleaned and offset > before[log]:
                self.cleaned(log, reason, offset - before[log], bytes_let_go(log, before[log], offset))
        return sum(self.remove_before_start(log) for log in starts)

    def move_starts(self, starts: dict[Log, int]) -> None:
        for log, offset in starts.items():
            log.start_offset = offset
            self.log_starts[log.topic_id, log.partition] = offset

    def remove_before_start(self, log: Log) -> int:
        """Removes the segments below a log's start; returns how many. Segments that cannot be removed stay for now."""
        try:
            return log.remove_before_start()
        except OSError as error:
            logger.error("%s: segments below the log start offset stay for now: %s", log.directory, error)
            return 0

    def apply_retention(self) -> Steps[int]:
        """Removes what logs let go; returns the number of segments. A log that cannot be read keeps what it has."""
        now_ms = self.clock.wall_ms()
        found = {}
        for log in list(self.logs.values()):
            try:
                found[log] = expired_offsets(log, now_ms)
            except (OSError, ProtocolError) as error:
                logger.error("%s: retention skips this log: %s", log.directory, error)
            yield
        in_use = set(self.logs.values())  # some may have been deleted meanwhile
        wanted, removed = [(log, offsets) for log, offsets in found.items() if log in in_use], 0
        for reason in (Reason.TIME, Reason.SIZE, None):
            starts = {log: offsets[reason] for log, offsets in wanted if offsets.get(reason, 0) > log.start_offset}
            removed += self.advance_start(starts, reason) if starts else 0
        return removed

    # -- the end

    def close(self) -> None:
        """Syncs all logs, records that with a marker, and releases the directory. Whatever waited for the journal is durable."""
        try:
            self.checkpoint()
            self.journal.retire_all()
            replace_file(self.files, f"{self.directory}/{CLEAN_SHUTDOWN}", b'{"version":0,"brokerEpoch":0}')
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Releases the directory without recording anything, like a killed process."""
        try:
            for log in self.logs.values():
                log.close()
            self.journal.close()
            self.failed_syncs.close()
        finally:
            self.lock.release()
