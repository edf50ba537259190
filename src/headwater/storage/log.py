"""One partition's log: segments in a directory, appended at the end and read from any offset.

    log start offset <= last stable offset <= high watermark <= log end offset

The next batch goes to the log end. The high watermark is the end of what is durable, and readers see nothing beyond it. The
last stable offset is the beginning of the first open transaction, and readers of committed records see nothing beyond that.
The directory, its files and the segments' indexes are created by the first append: a partition that was never written
costs nothing. The names in it are Kafka's.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from headwater.effects.buffers import Buffer
from headwater.effects.files import Files, replace_file
from headwater.effects.logs import get_logger
from headwater.protocol.records import BatchHeader, marker_of, patch_place
from headwater.storage.aborted import find_aborted, keep_ends_in_damage
from headwater.storage.checkpoints import remove_old_snapshots, write_topic_id
from headwater.storage.config import LogConfig
from headwater.storage.epochs import LeaderEpochs
from headwater.storage.errors import DamagedLogError, OffsetOutOfRangeError
from headwater.storage.index import TransactionIndex
from headwater.storage.producers import AbortedTransaction, ProducerStates
from headwater.storage.segment import SEGMENT_SUFFIXES, Segment, segment_name
from headwater.storage.swaps import complete_swap

logger = get_logger(__name__)
SEALED_INDEXES_KEPT = 2


class LogMark(NamedTuple):
    """A place in the log: the offset, and where it is stored."""

    offset: int
    segment: Segment | None
    position: int


class DamagedRange(NamedTuple):
    """Offsets whose records are missing or cannot be read; the end is exclusive."""

    start: int
    end: int


class Log:
    """See the module's docstring. It is empty until a `LogRecovery` has loaded its files."""

    def __init__(
        self,
        files: Files,
        directory: str,
        topic: str,
        topic_id: bytes,
        partition: int,
        config: LogConfig,
        leader_epoch: int = 0,
    ) -> None:
        self.files = files
        self.directory = directory
        self.topic = topic
        self.topic_id = topic_id
        self.partition = partition
        self.config = config
        self.leader_epoch = leader_epoch
        self.segments: list[Segment] = []
        self.base_offsets: list[int] = []
        self.start_offset = 0
        self.end_offset = 0
        self.durable = LogMark(0, None, 0)
        self.promised_offset = 0  # the end of the last batch that was acknowledged before it was durable
        self.stable = LogMark(-1, None, 0)  # where the first open transaction was last found
        self.recovery_point = 0
        self.lost_aborted: list[AbortedTransaction] = []  # their markers were in segments that are missing
        self.lacks_aborted = False  # the indexes of aborted transactions could not be built
        self.loaded_end_offset = 0  # where the segments on disk ended at the start
        self.damages: list[DamagedRange] = []
        self.epochs = LeaderEpochs(files, directory)
        # Epochs play no part in the broker's own topics.
        self.compared_epochs = None if topic.startswith("__") else self.epochs
        self.producers = ProducerStates()
        self.on_disk = False
        self.unsynced_segments: set[Segment] = set()
        self.names_unsynced = False
        self.sealed_in_memory: deque[Segment] = deque()

    # -- appending

    def append(self, batch: bytearray | memoryview, header: BatchHeader) -> int:
        """Writes a checked batch at the log's end and returns its base offset.

        The base offset and the leader epoch are written into the batch. On OSError the log is unchanged, except that a
        producer whose first batch failed must send it again first: a later batch in flight is not accepted in its place.
        """
        base_offset, last_offset = self.end_offset, self.end_offset + header.last_offset_delta
        try:
            self.write(batch, header)
        except OSError:
            self.producers.expect_first(header)
            raise
        if header.producer_id >= 0:
            self.producers.note(header, base_offset)
        self.end_offset = last_offset + 1
        return base_offset

    def gather(self, batch: bytearray | memoryview, header: BatchHeader) -> int:
        """As `append`, but the batch stays in memory (`tail_file.py`). Returns -1 if it has to be written at once.

        That is so if files are to be made, if the segment is full, or if what was gathered before could not be written.
        """
        if not self.segments or self.epochs.last != self.leader_epoch:
            return -1
        segment, size = self.segments[-1], len(batch)
        base_offset, max_timestamp = self.end_offset, header.max_timestamp
        last_offset = base_offset + header.last_offset_delta
        is_full = segment.should_roll(size, last_offset, max_timestamp, self.config)
        if is_full or not segment.size or segment.file.is_overdue:
            return -1
        patch_place(batch, 0, base_offset, header.length, self.leader_epoch)
        segment.file.gather(batch, size)
        segment.note(base_offset, last_offset, max_timestamp, size, self.config.index_interval_bytes)
        self.unsynced_segments.add(segment)
        if header.producer_id >= 0:
            self.producers.note(header, base_offset)
        self.end_offset = last_offset + 1
        return base_offset

    def write(self, batch: bytearray | memoryview, header: BatchHeader) -> None:
        base_offset, size = self.end_offset, len(batch)
        last_offset = base_offset + header.last_offset_delta
        patch_place(batch, 0, base_offset, header.length, self.leader_epoch)
        segment = self.segments[-1] if self.segments else self.first_segment()
        if segment.size and segment.should_roll(size, last_offset, header.max_timestamp, self.config):
            segment = self.roll()
        if self.epochs.last != self.leader_epoch:
            self.epochs.begin(self.leader_epoch, base_offset)
            self.names_unsynced = True  # its files may be new
        segment.append(batch, base_offset, last_offset, header.max_timestamp, self.config.index_interval_bytes)
        self.unsynced_segments.add(segment)

    def append_marker(self, batch: bytearray | memoryview, header: BatchHeader) -> int:
        """Writes the end of a transaction at the log's end and returns its offset.

        Raises FencedMarkerError when the producer or the coordinator has a newer epoch, and OSError as `append`.
        """
        is_commit, coordinator_epoch = marker_of(header, batch)
        self.producers.check_marker(header.producer_id, header.producer_epoch, coordinator_epoch)
        offset = self.end_offset
        aborted = None if is_commit else self.producers.aborts(header.producer_id, offset)
        if aborted is not None:
            # It goes into the segment of the marker. If that is full, a new segment is begun first.
            segment = self.segments[-1]
            if segment.should_roll(len(batch), offset, header.max_timestamp, self.config):
                segment = self.roll()
            self.note_aborted(segment, aborted)
        self.write(batch, header)
        self.producers.note_marker(header, offset, coordinator_epoch)
        self.end_offset = offset + 1
        return offset

    def note_aborted(self, segment: Segment, aborted: AbortedTransaction) -> None:
        segment.note_aborted(aborted)
        self.unsynced_segments.add(segment)
        self.names_unsynced = True  # its index may be a new file

    def first_segment(self) -> Segment:
        if not self.on_disk:
            self.files.make_directory(self.directory)
            write_topic_id(self.files, self.directory, self.topic_id)
            self.on_disk = True
        return self.new_segment()

    def new_segment(self) -> Segment:
        path = f"{self.directory}/{segment_name(self.end_offset)}"
        for suffix in SEGMENT_SUFFIXES[1:]:
            if self.files.exists(path + suffix):  # left by an interrupted removal of a segment
                self.files.remove(path + suffix)
        segment = Segment(self.files, self.directory, self.end_offset, create=True)
        if segment.size:
            segment.file.truncate(0)
            segment.size = 0
        self.add_segment(segment)
        self.names_unsynced = True
        return segment

    def add_segment(self, segment: Segment) -> None:
        self.segments.append(segment)
        self.base_offsets.append(segment.base_offset)

    def roll(self) -> Segment:
        """Seals the last segment and starts one at the log's end. On OSError nothing has changed."""
        sealed = self.segments[-1]
        sealed.file.flush()
        sealed.write_whole_indexes()
        replace_file(self.files, *self.snapshot_file(), sync=False)
        remove_old_snapshots(self.files, self.directory)
        segment = self.new_segment()
        sealed.unload_indexes()
        return segment

    def snapshot_file(self) -> tuple[str, bytes]:
        """The producers' state at the log's end, as the path of its file and the content."""
        return f"{self.directory}/{segment_name(self.end_offset)}.snapshot", self.producers.snapshot()

    def mark(self) -> LogMark:
        """The log's end. Pass it to `become_durable` when the log is durable up to it."""
        segment = self.segments[-1] if self.segments else None
        return LogMark(self.end_offset, segment, segment.size if segment else 0)

    def become_durable(self, mark: LogMark) -> None:
        """Lets readers see everything before the mark."""
        if mark.offset > self.durable.offset or self.durable.segment is None:
            self.durable = mark

    @property
    def high_watermark(self) -> int:
        return max(self.durable.offset, self.start_offset)

    @property
    def last_stable_offset(self) -> int:
        return max(self.stable_mark().offset, self.start_offset)

    def stable_mark(self) -> LogMark:
        """The end of what readers of committed records may see."""
        high_watermark = self.high_watermark
        first = self.producers.first_unstable(high_watermark)
        if first is None or first >= high_watermark:
            return self.durable
        if first != self.stable.offset or self.stable.segment not in self.segments:
            at = max(0, bisect_right(self.base_offsets, first) - 1)
            self.stable = LogMark(first, None, 0)
            for segment in self.segments[at:]:
                self.ensure_index(segment)
                found = segment.locate(first, segment.size)
                if found is not None:
                    self.stable = LogMark(first, segment, found[1])
                    break
        return self.stable

    # -- reading

    def read(self, offset: int, size_max: int, *, at_least_one: bool) -> Buffer:
        """Whole batches from the one that holds `offset`, up to the high watermark and about `size_max` bytes; the last
        one may be cut. With `at_least_one` the first is whole however large. Raises OffsetOutOfRangeError.
        """
        return self.read_to(self.durable, offset, size_max, at_least_one=at_least_one)[0]

    def read_committed(
        self, offset: int, size_max: int, *, at_least_one: bool
    ) -> tuple[Buffer, list[AbortedTransaction]]:
        """As `read`, up to the last stable offset, with the aborted transactions that may have records in it."""
        data, at, position = self.read_to(self.stable_mark(), offset, size_max, at_least_one=at_least_one)
        return data, self.aborted_transactions(offset, at, position + len(data)) if data else []

    def read_to(self, end: LogMark, offset: int, size_max: int, *, at_least_one: bool) -> tuple[Buffer, int, int]:
        """What `read` reads, up to `end`, with the number of the segment and the position in it."""
        if offset < self.start_offset or offset > self.end_offset:
            raise OffsetOutOfRangeError(f"offset {offset} is not in {self.start_offset} to {self.end_offset}")
        if self.damages:
            self.check_damage(offset)
        if offset >= end.offset or (size_max <= 0 and not at_least_one):
            return b"", 0, 0
        first = max(0, bisect_right(self.base_offsets, offset) - 1)
        for at in range(first, len(self.segments)):
            segment = self.segments[at]
            limit = end.position if segment is end.segment else segment.size
            self.ensure_index(segment)
            found = segment.locate(offset, limit)
            if found is not None:
                header, position = found
                size = max(size_max, header.size_bytes) if at_least_one else size_max
                data = segment.read(position, min(size, limit - position))
                if position < segment.trust.begins_at:
                    data = segment.checked_bytes(data, position, header.base_offset, self.compared_epochs)
                    if not data:  # damage that ends before the offset: read on after it
                        return self.read_to(end, offset, size_max, at_least_one=at_least_one)
                return data, at, position
            if segment is end.segment:
                break
        return b"", 0, 0

    def batches_from(self, offset: int) -> Iterator[tuple[BatchHeader, Segment, int]]:
        """The header of every sound batch from the one that holds `offset` on, with its segment and its position there."""
        for segment in self.segments[max(0, bisect_right(self.base_offsets, offset) - 1) :]:
            self.ensure_index(segment)
            try:
                found = segment.locate(offset, segment.size)
                start = found[1] if found is not None else segment.size
            except DamagedLogError:  # it has been logged
                start = 0
            for header, position in segment.scan_undamaged(start, segment.size):
                if header.base_offset >= offset:
                    yield header, segment, position

    def has_batch(self, base_offset: int, crc: int) -> bool:
        """Whether a batch with that CRC begins at that offset, or that place is known to be damaged."""
        found = next(self.batches_from(base_offset), None)
        is_here = found is not None and (found[0].base_offset, found[0].crc) == (base_offset, crc)
        return is_here or any(segment.is_damaged for segment in self.segments) or bool(self.damages)

    def check_damage(self, offset: int) -> None:
        """Raises DamagedLogError if the record of an offset is known to be gone."""
        for start, end in self.damages:
            if start <= offset < end:
                message = f"{self.directory}: the records at offsets {start} to {end - 1} are gone"
                raise DamagedLogError(message, start_offset=start, end_offset=end)

    def ends_of_damage(self) -> set[int]:
        """The offsets that follow records known to be damaged or gone."""
        ends = {lost.end for lost in self.damages if lost.end > self.start_offset}
        for segment, following in zip(self.segments, [*self.base_offsets, self.end_offset][1:], strict=True):
            if segment.is_damaged:
                ends.update(min(part.end_offset, following) for part in segment.parts.found)
                if not segment.parts.found:
                    ends.add(following)
        return ends

    def aborted_transactions(self, offset: int, at: int, position: int) -> list[AbortedTransaction]:
        """The transactions that may have records from `offset` to a position in the segment number `at` (TransactionIndex.java)."""
        segment = self.segments[at]
        later_entry = segment.index.first_from(position)
        if later_entry is not None:
            upper = segment.base_offset + later_entry
        else:
            upper = self.base_offsets[at + 1] if at + 1 < len(self.segments) else self.end_offset
        found = [a for a in self.lost_aborted if a.last_offset >= offset and a.first_offset < upper]
        for following in self.segments[at:]:
            for aborted in self.aborted_in(following).ending_from(offset):
                if aborted.first_offset < upper:
                    found.append(aborted)
                if aborted.last_stable_offset >= upper:
                    return found
        return found

    def aborted_in(self, segment: Segment) -> TransactionIndex:
        found = None if self.lacks_aborted else segment.aborted_transactions()
        if found is None:
            self.rebuild_aborted()
            found = segment.aborted_transactions()
        return found or TransactionIndex()

    def rebuild_aborted(self) -> None:
        """Finds the aborted transactions of every segment again, from all batches.

        If it raises OSError, the segments have no such indexes, and the next reader of committed records tries again.
        """
        self.lacks_aborted = True
        try:
            found = find_aborted(self.batches_from(self.base_offsets[0] if self.segments else 0))
            for segment in self.segments:
                if segment.parts.found:
                    keep_ends_in_damage(segment, found.setdefault(segment, []), self.batches_from)
                if segment.replace_aborted(found.get(segment, [])):
                    self.unsynced_segments.add(segment)  # so that a checkpoint vouches for it
            self.lacks_aborted = False
        finally:
            if self.lacks_aborted:  # a checkpoint must not vouch for what was found so far
                for segment in self.segments:
                    segment.aborted = None

    def bytes_between(self, offset: int, *, committed: bool = False) -> int:
        """About how many bytes a read from `offset` could return. Whole segments count whole."""
        end = self.stable_mark() if committed else self.durable
        if offset >= end.offset or not self.segments:
            return 0
        at = max(0, bisect_right(self.base_offsets, offset) - 1)
        total = 0
        for segment in self.segments[at:]:
            if segment is end.segment:
                return total + end.position
            total += segment.size
        return total

    def ensure_index(self, segment: Segment) -> None:
        """Loads the indexes of a sealed segment on first use. Only a few stay in memory."""
        if segment.index_loaded:
            return
        if not segment.load_indexes() and not segment.is_damaged:
            self.keep_indexes(segment)
        self.sealed_in_memory.append(segment)
        if len(self.sealed_in_memory) > SEALED_INDEXES_KEPT:
            self.sealed_in_memory.popleft().unload_indexes()

    def load_indexes(self) -> None:
        """Loads the indexes of all segments once. Unusable ones are rebuilt now, and saved."""
        for segment in self.segments:
            self.ensure_index(segment)

    def keep_indexes(self, segment: Segment) -> None:
        """Saves indexes that had to be rebuilt from the log, so that this is not done again."""
        if segment.has_no_sums:  # nothing else knows of gaps that compaction has left
            segment.end_offset = self.base_offsets[bisect_right(self.base_offsets, segment.base_offset)]
        try:
            segment.truncate_index_files()
            segment.write_indexes()
            if segment.end_offset <= self.recovery_point:
                segment.write_sums()
        except OSError as error:
            logger.warning("%s: its indexes cannot be written: %s", segment.path, error)

    def end_offset_for_epoch(self, epoch: int) -> tuple[int, int]:
        """The largest epoch at or below `epoch`, and where it ends (OffsetForLeaderEpoch); -1, -1 if `epoch` is yet to come."""
        if epoch == self.leader_epoch:
            return epoch, self.end_offset
        if epoch > self.leader_epoch:
            return -1, -1
        return self.epochs.end_of(epoch, self.end_offset)

    @property
    def size_bytes(self) -> int:
        return sum(segment.size for segment in self.segments)

    # -- retention

    def remove_before_start(self) -> int:
        """Removes the segments that lie wholly below the log start offset; returns their number.

        The start offset must be durable before, so that a log without segments is known to begin there. Segments after the
        recovery point stay until the next checkpoint, because recovery needs them.
        """
        removed = 0
        limit = min(self.start_offset, self.recovery_point)
        while self.segments:
            is_last = len(self.segments) == 1
            end = self.end_offset if is_last else self.segments[1].base_offset
            if end > limit or (is_last and not self.segments[0].size):
                break
            if is_last:
                self.roll()
                self.durable = LogMark(self.durable.offset, self.segments[-1], 0)
            segment = self.segments.pop(0)
            self.base_offsets.pop(0)
            self.unsynced_segments.discard(segment)
            segment.remove()
            self.names_unsynced = True
            removed += 1
        self.epochs.forget_before(self.start_offset)
        return removed

    # -- compaction

    def replace_segments(self, bases: list[int]) -> None:
        """Replaces these segments by a compacted copy, for which `begin_swap` was called.

        As soon as the copy's `.swap` name is on disk, a start completes the rest. If it raises OSError, the log must be
        opened again.
        """
        at = self.base_offsets.index(bases[0])
        old = self.segments[at : at + len(bases)]
        name = segment_name(bases[0])
        for segment in old:
            segment.remove()
            self.unsynced_segments.discard(segment)
        complete_swap(self.files, self.directory, name)
        self.segments[at : at + len(bases)] = [Segment(self.files, self.directory, bases[0])]
        self.base_offsets[at : at + len(bases)] = [bases[0]]

    def close(self) -> None:
        for segment in self.segments:
            segment.file.close()
