"""Loads a log from its directory: which files exist, what is sound, where the log ends, and what is damaged.

The recovery point is the log's end at the last checkpoint; the journal has everything after it. So

    below it   everything was synced. If something there is missing or unsound, it is damage: an acknowledged record is gone.
               The damage is logged with its offsets. No byte of it is removed, and none of its offsets is used again: the
               log continues in a new segment at the recovery point. The sound records before and after it are served.
    above it   nothing has to be whole, because the journal restores what was acknowledged. The log ends at the first torn
               batch, and the rest is cut off. A segment that does not follow the one before is set aside until the journal
               has been read. If the journal has restored all of it, it is removed; otherwise it is kept under its
               `.aside` name. Sound batches after such a place that continue what the journal has restored are appended
               too: while the disk is full, batches are synced only in their logs (`LogStore.sync_logs_of`).

If the recovery point is not known, because its file was lost, it is derived from the segments' sums. Then nothing is cut
off or set aside. Compaction leaves gaps, within segments and between them, which are not damage: a segment's sums say where
it ends. Sources: LogLoader.java, UnifiedLog.java (which truncate).
"""

import re
from collections.abc import Iterable

from headwater.effects.buffers import Buffer
from headwater.effects.files import Files, free_name, read_file
from headwater.effects.logs import REBUILT, get_logger
from headwater.protocol.errors import ProtocolError
from headwater.protocol.records import MAGIC, MAGIC_AT, BatchHeader, marker_of
from headwater.storage.aborted import MARKER_BYTES_MAX, aborted_of_missing, read_marker_batch
from headwater.storage.checkpoints import write_topic_id
from headwater.storage.errors import DamagedLogError
from headwater.storage.log import DamagedRange, Log
from headwater.storage.producers import ProducerStates
from headwater.storage.remains import Remains
from headwater.storage.segment import ASIDE_SUFFIX, SEGMENT_SUFFIXES, Segment, base_offset_of, segment_name
from headwater.storage.sums import SUMS_SUFFIX, read_sums
from headwater.storage.swaps import finish_swaps

logger = get_logger(__name__)

SEGMENT_FILE = re.compile(r"([0-9]{20})\.(log|snapshot)")
OFFSET_MAX = (1 << 63) - 1
COPY_BYTES = 1 << 20
EMPTY_BYTES_MAX = 1 << 20  # the most that is examined


def offsets_of(directory: str, names: Iterable[str], suffix: str) -> list[int]:
    """The offsets in the names of files with this suffix, in order. Files with other names are left alone."""
    offsets = []
    for name in names:
        if not name.endswith(suffix):
            continue
        match = SEGMENT_FILE.fullmatch(name)
        if match is None or int(match[1]) > OFFSET_MAX:
            logger.warning("%s/%s is not a file of this log: leaving it alone", directory, name)
        else:
            offsets.append(int(match[1]))
    return sorted(offsets)


def loads_quickly(files: Files, directory: str, recovery_point: int | None, *, was_clean: bool) -> bool:
    """Whether a log can be used without reading its segments. Raises OSError.

    After a clean stop it is enough that the auxiliary files exist. After a power cut they may be empty, and indexes of
    sealed segments, which a checkpoint syncs, must not be.
    """
    names = files.list_directory(directory)
    segments = [name.removesuffix(".log") for name in names if name.endswith(".log")]
    aids = {name + suffix for name in segments for suffix in (".index", ".timeindex", SUMS_SUFFIX)}
    if not segments:
        return True
    if recovery_point is None or not aids.issubset(names) or f"{segment_name(recovery_point)}.snapshot" not in names:
        return False
    if was_clean:
        return True
    try:
        ProducerStates.from_snapshot(read_file(files, f"{directory}/{segment_name(recovery_point)}.snapshot"))
    except ProtocolError:
        return False
    return all(read_sums(files, f"{directory}/{name}") is not None for name in segments)


def write_again(log: Log) -> None:
    """Overwrites what a log has above its recovery point, and its small files, with the same bytes (`failed_syncs.py`).
    Raises OSError."""
    write_topic_id(log.files, log.directory, log.topic_id)
    log.epochs.written = []  # so that they are saved again
    log.names_unsynced = True
    for segment in sorted(log.unsynced_segments, key=base_offset_of):
        try:
            log.ensure_index(segment)
            found = segment.locate(log.recovery_point, segment.size)
            position = found[1] if found is not None else segment.size
        except DamagedLogError:  # it has been logged
            position = 0
        size = segment.file.size()
        while position < size:
            data = segment.file.read(min(COPY_BYTES, size - position), position)
            segment.file.write([data], position)
            position += len(data)


def can_be_torn(segment: Segment) -> bool:
    """Whether the bytes after the sound part, unless they are zeros, begin like the next batch."""
    head = segment.file.read(MAGIC_AT + 1, segment.size)
    offset = segment.end_offset.to_bytes(8, "big")
    begins = all(found in (0, wanted) for found, wanted in zip(head, offset, strict=False))
    return begins and (len(head) <= MAGIC_AT or head[MAGIC_AT] in (0, MAGIC))


def keep_rest(segment: Segment) -> None:
    """Copies the bytes after the sound part, which no torn write can have left, into another file. Raises OSError."""
    files, size = segment.files, segment.file.size()
    name = free_name(files, f"{segment.path}.log{ASIDE_SUFFIX}")
    file = files.open(name, create=True)
    try:
        for position in range(segment.size, size, COPY_BYTES):
            file.write((segment.file.read(min(COPY_BYTES, size - position), position),), position - segment.size)
        file.sync()
    finally:
        file.close()
    files.sync_directory(name.rpartition("/")[0])
    logger.error(
        "%s.log has bytes from %d on that this broker has not written: they are kept as %s; inspect it, and remove it",
        segment.path,
        segment.size,
        name,
    )


class LogRecovery:
    """Loads one log; see the module's docstring. Call `load` or `load_missing`, then `append`, `take_remains` and `finish`."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.is_point_known = True
        self.resume_at = -1  # where a new segment has to begin
        self.aside: list[tuple[str, int]] = []  # files that are not needed when the log has reached these offsets
        self.remains = Remains()

    def load(self, recovery_point: int | None, start_offset: int | None) -> None:
        """Loads the files. A point that is None has been lost. Raises OSError."""
        log = self.log
        names = finish_swaps(log.files, log.directory)
        log.on_disk = True
        for base in offsets_of(log.directory, names, ".log"):
            log.add_segment(Segment(log.files, log.directory, base))
        log.lost_aborted = aborted_of_missing(log.files, log.directory, names)
        self.is_point_known = recovery_point is not None
        if recovery_point is None:
            recovery_point = self.witnessed_point()
        log.recovery_point = log.end_offset = recovery_point
        self.find_start(start_offset)
        log.epochs.load()
        self.check_segments()
        self.find_end()
        log.loaded_end_offset = log.end_offset
        self.load_producers(names)

    def load_missing(self, recovery_point: int, start_offset: int | None) -> None:
        """Handles a missing directory: the log was never written, or is completely gone."""
        self.log.recovery_point = self.log.end_offset = recovery_point
        if recovery_point:
            self.find_start(start_offset)

    def witnessed_point(self) -> int:
        """The greatest offset that was synced according to the segments' sums."""
        sums = (segment.known_sums() for segment in self.log.segments)
        return max((known.end_offset for known in sums if known is not None), default=0)

    def find_start(self, start_offset: int | None) -> None:
        log = self.log
        first = log.base_offsets[0] if log.segments else log.recovery_point
        if start_offset is None:
            logger.error("%s: its log start offset is lost; it now begins at %d", log.directory, first)
            start_offset = first
        elif first > start_offset:
            self.lose(start_offset, first)
        log.start_offset = start_offset

    def lose(self, start: int, end: int) -> None:
        """Logs and records a damaged range. Reads in it raise DamagedLogError."""
        self.log.damages.append(DamagedRange(start, end))
        logger.error(
            "%s: the records at offsets %d to %d are gone: their files are missing or cut short. Restore them from a "
            "copy; no other record gets these offsets",
            self.log.directory,
            start,
            end - 1,
        )

    # -- segments

    def check_segments(self) -> None:
        log, at = self.log, 0
        while at < len(log.segments):
            segment = log.segments[at]
            following = log.base_offsets[at + 1] if at + 1 < len(log.segments) else None
            if following is not None and following <= log.recovery_point:
                joins = self.check_sealed(segment, following)
            else:
                joins = self.recover_segment(segment, following)
            if not joins:
                self.set_aside(at + 1)  # and examine this one again, with the next
            else:
                at += 1

    def check_sealed(self, segment: Segment, following: int) -> bool:
        """Compares a segment below the recovery point with its sums; False if the next one overlaps it."""
        sums = segment.known_sums()
        if sums is None:
            return True
        end, size = sums.end_offset, segment.size
        if sums.size != size:  # truncated since, or a power cut has lost the last checkpoint's sums
            for _ in segment.recover(self.log.recovery_point, self.log.config.index_interval_bytes):
                continue
            end = segment.end_offset
            if sums.size > size or segment.size < size:
                segment.is_damaged = True
            else:
                self.log.keep_indexes(segment)
                segment.unload_indexes()
        if end > following and not segment.is_damaged:
            return False
        if end < following:
            self.lose(end, following)
        return True

    def recover_segment(self, segment: Segment, following: int | None) -> bool:
        """Finds the end of a segment that may reach beyond the recovery point; False if the next one does not join it."""
        log = self.log
        # Nothing here is known to be synced, neither content nor names.
        log.unsynced_segments.add(segment)
        log.names_unsynced = True
        size = segment.size
        interval, point = log.config.index_interval_bytes, log.recovery_point
        for header in segment.recover(point, interval, has_no_gaps=self.is_point_known):
            log.epochs.note(header.leader_epoch, header.base_offset)
        sums = segment.known_sums()
        if sums is not None and sums.size == segment.size == size:
            segment.end_offset = max(
                segment.end_offset, sums.end_offset
            )  # the recovery point is older than the last compaction
        if following is None:
            return True
        if segment.end_offset == following:
            log.keep_indexes(segment)
            segment.unload_indexes()
            return True
        is_whole = segment.size == size
        if self.is_point_known:
            return False
        segment.is_damaged = segment.is_damaged or not is_whole
        is_gap = is_whole and sums is None and log.config.compact
        if segment.end_offset < following and not is_gap:
            self.lose(segment.end_offset, following)
        return True

    def set_aside(self, at: int) -> None:
        """Removes a segment that does not follow the one before from the log. Raises OSError."""
        log, files = self.log, self.log.files
        segment = log.segments.pop(at)
        log.base_offsets.pop(at)
        log.unsynced_segments.discard(segment)
        logger.warning("%s.log is set aside: it does not follow the segment before it", segment.path)
        if segment.base_offset >= log.recovery_point:
            self.remains.add(segment, 0)
        self.move_aside(segment, self.needed_end(segment))
        files.sync_directory(log.directory)

    def needed_end(self, segment: Segment) -> int:
        """The end that the log has to reach so that this segment is not needed; unreachable for what the journal cannot have."""
        size = segment.size
        if segment.base_offset < self.log.recovery_point:
            return OFFSET_MAX
        for _ in segment.recover(0, self.log.config.index_interval_bytes):
            continue
        is_empty = not any(segment.file.read(min(size, EMPTY_BYTES_MAX), 0))  # a power cut leaves zeros
        return segment.end_offset if segment.size else 0 if is_empty else OFFSET_MAX

    def move_aside(self, segment: Segment, needed_end: int) -> None:
        files, path = self.log.files, segment.path
        segment.file.close()
        name = free_name(files, f"{path}.log{ASIDE_SUFFIX}")
        files.rename(f"{path}.log", name)
        for suffix in SEGMENT_SUFFIXES[1:]:
            if files.exists(path + suffix):
                files.remove(path + suffix)
        self.aside.append((name, needed_end))

    def find_end(self) -> None:
        """Finds where the log continues. An incomplete end is cut off, if it may never have been acknowledged."""
        log = self.log
        if not log.segments:
            return
        last, point = log.segments[-1], log.recovery_point
        log.end_offset = max(last.end_offset, last.base_offset)
        is_torn = last.size < last.file.size()
        if is_torn and self.is_point_known and log.end_offset >= point and not last.is_damaged:
            if not can_be_torn(last):
                keep_rest(last)
            self.remains.add(last, last.size)
            last.cut()
            return
        if log.end_offset < point or is_torn:
            last.is_damaged = True
            if not last.size and last.base_offset >= point:  # an empty file, whose name is needed
                log.segments.pop()
                log.base_offsets.pop()
                log.unsynced_segments.discard(last)
                self.move_aside(last, OFFSET_MAX)
            if log.end_offset < point:
                self.lose(log.end_offset, point)
            elif is_torn:
                logger.error("%s.log is damaged at byte %d, which may be where it ends", last.path, last.size)
            log.end_offset = self.resume_at = max(log.end_offset, point)

    # batches from the journal

    def append(self, batch: memoryview, header: BatchHeader) -> None:
        """Appends a batch from the journal as it is. Raises OSError."""
        self.begin_segment()
        log = self.log
        segment = log.segments[-1] if log.segments else log.first_segment()
        if segment.size and segment.should_roll(len(batch), header.last_offset, header.max_timestamp, log.config):
            segment = log.roll()
        interval = log.config.index_interval_bytes
        segment.append(batch, header.base_offset, header.last_offset, header.max_timestamp, interval)
        log.unsynced_segments.add(segment)
        log.epochs.note(header.leader_epoch, header.base_offset)
        if header.producer_id >= 0:
            self.apply(header, segment, batch)
        log.end_offset = header.next_offset

    def begin_segment(self) -> None:
        """Call this before the first append: begins a new segment if the last one is damaged. Raises OSError."""
        if self.resume_at >= 0:
            self.log.new_segment()
            self.resume_at = -1

    def take_remains(self) -> bool:
        """Call this when the journal has been read: appends batches that only the log has; returns whether there were any.
        Raises OSError."""
        log = self.log
        before = log.end_offset
        for header, batch in self.remains.take():
            if header.base_offset == log.end_offset:
                self.append(batch, header)
        if log.end_offset == before:
            return False
        logger.warning(
            "%s: offsets %d to %d were not in the journal; they are restored from batches after a damaged place",
            log.directory,
            before,
            log.end_offset - 1,
            extra=REBUILT,
        )
        return True

    def finish(self) -> None:
        """Call this when the journal has nothing more for this log: its content is complete, and becomes visible. Raises OSError."""
        log = self.log
        if log.end_offset < log.start_offset:
            self.lose(log.end_offset, log.start_offset)
            log.end_offset = self.resume_at = log.start_offset
        if log.on_disk:
            self.begin_segment()
        for path, needed_end in self.aside:
            if needed_end <= log.end_offset:
                log.files.remove(path)
            else:
                logger.warning("%s is kept; inspect it, and remove it if you do not need it", path)
        self.aside.clear()
        if log.on_disk and log.epochs.save():
            log.names_unsynced = True
        log.become_durable(log.mark())

    # producers and transactions

    def load_producers(self, names: list[str]) -> None:
        """Loads the newest sound snapshot, and applies the headers of the batches after it.

        A snapshot above the recovery point may describe batches that a crash has replaced by others, so it is removed,
        durably.
        """
        log = self.log
        snapshots = offsets_of(log.directory, names, ".snapshot")
        unproved = [offset for offset in snapshots if offset > log.recovery_point]
        for offset in unproved:
            log.files.remove(f"{log.directory}/{segment_name(offset)}.snapshot")
            log.names_unsynced = True  # the removal must be durable before a checkpoint moves the recovery point
        start = log.base_offsets[0] if log.base_offsets else log.end_offset
        offset = start
        # A snapshot below the first segment is useless: what follows the missing batches would look like a gap.
        for candidate in reversed([o for o in snapshots if start <= o <= min(log.recovery_point, log.end_offset)]):
            path = f"{log.directory}/{segment_name(candidate)}.snapshot"
            try:
                log.producers = ProducerStates.from_snapshot(read_file(log.files, path))
            except ProtocolError as error:
                logger.warning("%s is ignored: %s", path, error, extra=REBUILT)
                continue
            offset = candidate
            break
        unsynced = [segment for segment in log.segments if segment in log.unsynced_segments]
        are_sound = [segment.forget_aborted(log.recovery_point) for segment in unsynced]
        if not all(are_sound):
            log.rebuild_aborted()
        if offset >= log.end_offset:
            return
        for header, segment, position in log.batches_from(offset):
            if header.producer_id >= 0 or header.size_bytes <= MARKER_BYTES_MAX:
                try:
                    batch = read_marker_batch(segment, header, position)
                    if header.producer_id >= 0:
                        self.apply(header, segment, batch)
                except ProtocolError:  # a marker: its transaction is ended like one without a coordinator
                    segment.damaged_at(position)

    def apply(self, header: BatchHeader, segment: Segment, batch: Buffer) -> None:
        """Applies a batch that is on disk to the producers' state. `batch` is only read if it is a marker."""
        log = self.log
        if not header.is_control:
            log.producers.note(header, header.base_offset)
            return
        if not header.records_count:
            return  # compaction has left only the header of an old marker
        is_commit, coordinator_epoch = marker_of(header, batch)
        aborted = None if is_commit else log.producers.aborts(header.producer_id, header.base_offset)
        if aborted is not None and header.base_offset >= log.recovery_point:
            log.note_aborted(segment, aborted)
        log.producers.note_marker(header, header.base_offset, coordinator_epoch)
