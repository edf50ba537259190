"""Which logs are worth compacting, what a job for one does, and how its result replaces segments.

A log is clean up to the offset at which its last job ended, which a checkpoint file records. A job is worthwhile if what
was appended since is at least `min.cleanable.dirty.ratio` of the log, or older than `max.compaction.lag.ms`. Only sealed
segments take part, only up to the first open transaction, and only what is older than `min.compaction.lag.ms`. A checkpoint
must have synced all of it: so recovery never meets a compacted segment. Sources: LogCleanerManager.java, LogToClean.java.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from headwater.effects.files import SyncError
from headwater.effects.logs import get_logger
from headwater.storage.checkpoints import CLEAN_OFFSETS, write_offsets
from headwater.storage.cleaner import ENTRY_BYTES, Cleaned, CleanJob
from headwater.storage.log import Log
from headwater.storage.segment import segment_name
from headwater.storage.store import LogStore
from headwater.storage.swaps import CLEANING_DIRECTORY, begin_swap

logger = get_logger(__name__)


class Candidate(NamedTuple):
    """A log that may be compacted, up to `end` (exclusive)."""

    log: Log
    first_dirty: int
    end: int
    dirty_ratio: float
    is_overdue: bool

    @property
    def is_synced(self) -> bool:
        """Whether a checkpoint has covered all of it. If not, one must come first."""
        return self.end <= self.log.recovery_point

    @property
    def is_worth_it(self) -> bool:
        has_enough = self.dirty_ratio > self.log.config.min_cleanable_dirty_ratio
        return self.end > self.first_dirty and (has_enough or self.is_overdue)


def candidate(store: LogStore, log: Log, now_ms: int) -> Candidate | None:
    """What can be compacted in a log; None if its configuration does not ask for it."""
    if not log.config.compact or not log.segments:
        return None
    if any(lost.end > log.start_offset for lost in log.damages):
        return None  # the copy would hide what is gone, and somebody may want to rescue what is left
    first_dirty = store.clean_offsets.get((log.topic_id, log.partition), 0)
    if not log.start_offset <= first_dirty <= log.end_offset:
        first_dirty = log.start_offset
    limit = log.last_stable_offset
    end, clean_bytes, dirty_bytes, oldest_ms = first_dirty, 0, 0, -1
    for segment, following in zip(log.segments, log.base_offsets[1:], strict=False):  # all but the last
        if following <= first_dirty:
            clean_bytes += segment.size
            continue
        log.ensure_index(segment)
        is_too_young = segment.max_timestamp > now_ms - log.config.min_compaction_lag_ms
        if following > limit or (log.config.min_compaction_lag_ms > 0 and is_too_young):
            break
        if oldest_ms < 0:
            oldest_ms = segment.first_timestamp
        dirty_bytes += segment.size
        end = following
    ratio = dirty_bytes / (clean_bytes + dirty_bytes) if dirty_bytes else 0.0
    is_overdue = oldest_ms >= 0 and now_ms - oldest_ms > log.config.max_compaction_lag_ms
    return Candidate(log, first_dirty, end, ratio, is_overdue)


def filthiest(
    store: LogStore, logs: Iterable[Log], now_ms: int, failed: Callable[[Log, str], None]
) -> Candidate | None:
    """The log that needs compaction most: overdue ones first, then the one with the largest share of new records.

    `failed` is called for a log that cannot be examined; the others still get their turn.
    """
    worth = []
    for log in logs:
        try:
            found = candidate(store, log, now_ms)
        except OSError as error:
            failed(log, str(error))
            continue
        if found is not None and found.is_worth_it:
            worth.append(found)
    return max(worth, key=lambda c: (c.is_overdue, c.dirty_ratio), default=None)


def job_for(found: Candidate, now_ms: int, memory_bytes: int) -> CleanJob:
    log = found.log
    last_offsets = {i: entry.batches[-1].last_offset for i, entry in log.producers.entries.items() if entry.batches}
    return CleanJob(
        log.directory,
        [base for base in log.base_offsets if base < found.end],
        found.end,
        found.first_dirty,
        now_ms,
        log.config.delete_retention_ms,
        log.config.segment_bytes,
        log.config.index_interval_bytes,
        max(1, memory_bytes // ENTRY_BYTES),
        [aborted for segment in log.segments for aborted in log.aborted_in(segment).ending_from(0)],
        last_offsets,
    )


class NotTakenError(Exception):
    """A job's copies could not be put in place. The log is unchanged, so the job can be tried again."""


def take_result(store: LogStore, log: Log, cleaned: Cleaned) -> None:
    """Puts the copies in place and records up to where the log is clean.

    Segments that retention has removed meanwhile stay removed; their copy is not used. Raises NotTakenError, and OSError if
    the log's files no longer match its state in memory.
    """
    folder = f"{log.directory}/{CLEANING_DIRECTORY}"
    for group in cleaned.groups:
        if not all(base in log.base_offsets for base in group.bases):
            continue
        if store.running_checkpoint is not None:
            for base in group.bases:
                store.running_checkpoint.leave_out(f"{log.directory}/{segment_name(base)}")
        try:
            begin_swap(store.files, folder, log.directory, segment_name(group.bases[0]))
        except SyncError:
            raise
        except OSError as error:
            raise NotTakenError(str(error)) from error
        log.replace_segments(group.bases)
    store.clean_offsets[log.topic_id, log.partition] = cleaned.end
    try:
        write_offsets(store.files, f"{store.directory}/{CLEAN_OFFSETS}", store.clean_offsets)
        store.remove_folder(folder)
    except OSError as error:  # the record only saves the next job some work
        logger.error("%s is compacted, but this could not be recorded: %s", log.directory, error)
    logger.info(
        "%s: compacted up to offset %d, %d of %d records kept",
        log.directory,
        cleaned.end,
        cleaned.records_kept,
        cleaned.records_read,
    )
