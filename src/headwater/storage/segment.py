"""One segment of a log: a `.log` file of batches and its two indexes, named by the first offset they may hold."""

import contextlib
import logging
from collections.abc import Iterator

from crc32c import crc32c

from headwater.effects.buffers import Buffer
from headwater.effects.files import Files, replace_file
from headwater.effects.logs import REBUILT, get_logger
from headwater.protocol.errors import ProtocolError
from headwater.protocol.records import (
    HEADER_BYTES,
    LOG_OVERHEAD,
    BatchHeader,
    check_batch,
    read_header,
)
from headwater.storage.config import LogConfig
from headwater.storage.epochs import LeaderEpochs
from headwater.storage.errors import DamagedLogError
from headwater.storage.index import (
    ABORTED_ENTRY,
    ABORTED_VERSION,
    OFFSET_ENTRY_BYTES,
    TIME_ENTRY,
    OffsetIndex,
    TimeIndex,
    TransactionIndex,
    load_file,
)
from headwater.storage.producers import AbortedTransaction
from headwater.storage.soundness import (
    OFFSET_MAX,
    RELATIVE_OFFSET_MAX,
    SCAN_BYTES,
    DamagedParts,
    Trust,
    can_be_batch,
    entry_is_true,
    is_next,
    start_of_search,
)
from headwater.storage.sums import SUMS_SUFFIX, SegmentSums, read_sums
from headwater.storage.tail_file import TailFile

logger = get_logger(__name__)

SEGMENT_SUFFIXES = (".log", ".index", ".timeindex", ".txnindex", SUMS_SUFFIX)
RECOVERY_CHUNK_BYTES = 1 << 20
ASIDE_SUFFIX = ".aside"
REBUILT_INTERVAL_BYTES = 4096  # between entries of a rebuilt index
INDEX_STATE = (
    "bytes_since_index_entry",
    "end_offset",
    "first_timestamp",
    "index",
    "index_loaded",
    "max_timestamp",
    "max_timestamp_offset",
    "size",
    "time_index",
)


def write_at(files: Files, path: str, position: int, data: bytes) -> None:
    """Writes a part of an auxiliary file, from any thread. Raises OSError."""
    file = files.open(path, create=True, pinned=True)
    try:
        file.write((data,), position)
    finally:
        file.close()


def segment_name(base_offset: int) -> str:
    return f"{base_offset:020d}"


def base_offset_of(segment: "Segment") -> int:
    return segment.base_offset


class Segment:
    """Appends at the end, reads from an offset. Positions and sizes are bytes in the `.log` file."""

    __slots__ = (
        "aborted",
        "aborted_changed",
        "base_offset",
        "bytes_since_index_entry",
        "end_offset",
        "file",
        "files",
        "first_timestamp",
        "has_no_sums",
        "index",
        "index_loaded",
        "is_damaged",
        "max_timestamp",
        "max_timestamp_offset",
        "may_have_gaps",
        "parts",
        "path",
        "size",
        "sums",
        "time_index",
        "trust",
    )

    def __init__(
        self, files: Files, directory: str, base_offset: int, *, create: bool = False, suffix: str = ""
    ) -> None:
        self.files = files
        self.base_offset = base_offset
        self.path = f"{directory}/{segment_name(base_offset)}"
        self.file = TailFile(files.open(self.path + ".log" + suffix, create=create))
        self.size = self.file.size()
        self.end_offset = (
            base_offset  # after the last record; for a sealed segment it is known when its indexes are loaded
        )
        self.sums: SegmentSums | None = None  # what vouches for the index files
        self.has_no_sums = create  # none was found
        self.index = OffsetIndex()
        self.time_index = TimeIndex()
        self.bytes_since_index_entry = 0
        self.max_timestamp = -1
        self.max_timestamp_offset = -1
        self.first_timestamp = -1
        self.index_loaded = create
        self.is_damaged = False  # something unreadable was found
        self.parts = DamagedParts()
        self.trust = Trust(self.size, base_offset)
        self.may_have_gaps = not create  # in its offsets: it was compacted, or nothing is known about it
        self.aborted: TransactionIndex | None = TransactionIndex() if create else None  # None: not loaded yet
        self.aborted_changed = False  # since the last checkpoint

    def append(self, batch: Buffer, base_offset: int, last_offset: int, max_timestamp: int, interval: int) -> None:
        """Writes one batch into the page cache. On OSError nothing has changed: the next append overwrites it."""
        self.file.write((batch,), self.size)
        self.note(base_offset, last_offset, max_timestamp, len(batch), interval)

    def note(self, base_offset: int, last_offset: int, max_timestamp: int, size: int, interval: int) -> None:
        """Adds a batch in the file to the indexes."""
        if max_timestamp > self.max_timestamp:
            self.max_timestamp = max_timestamp
            self.max_timestamp_offset = last_offset
        if self.first_timestamp < 0:
            self.first_timestamp = max_timestamp
        if self.bytes_since_index_entry > interval:
            self.index.append(last_offset - self.base_offset, self.size)
            if self.max_timestamp_offset >= 0:  # a batch may have no timestamp
                self.time_index.maybe_append(self.max_timestamp, self.max_timestamp_offset - self.base_offset)
            self.bytes_since_index_entry = 0
        self.bytes_since_index_entry += size
        self.size += size
        self.end_offset = last_offset + 1

    def aborted_transactions(self) -> TransactionIndex | None:
        """The aborted transactions whose markers are here; None if the file is damaged and they have to be found again."""
        if self.aborted is None:
            index, content = TransactionIndex(), load_file(self.files, self.path + ".txnindex") or b""
            if not self.vouches_for_aborted(content) or not index.load(content):
                logger.warning("%s.txnindex is damaged: rebuilding it", self.path, extra=REBUILT)
                return None
            self.aborted = index
        return self.aborted

    def vouches_for_aborted(self, content: bytes) -> bool:
        """Whether a `.txnindex` begins with the entries that a checkpoint covered; more may have been added since."""
        sums = self.known_sums()
        if sums is None:
            return True
        size = sums.aborted_entries * ABORTED_ENTRY.size
        return len(content) >= size and crc32c(content[:size]) == sums.aborted_crc

    def note_aborted(self, aborted: AbortedTransaction) -> None:
        """Writes an aborted transaction, before its marker. If it raises OSError, nothing has changed."""
        index = self.aborted_transactions()
        if index is None:
            index = self.aborted = TransactionIndex()
        index.truncate(aborted.last_offset)
        file = self.files.open(self.path + ".txnindex", create=True)
        try:
            position = len(index) * ABORTED_ENTRY.size
            file.truncate(position)
            file.write((ABORTED_ENTRY.pack(ABORTED_VERSION, *aborted),), position)
        finally:
            file.close()
        index.append(aborted)
        self.aborted_changed = True

    def forget_aborted(self, offset: int) -> bool:
        """Forgets the aborted transactions whose markers are at or after `offset`; False if the file is damaged."""
        content = load_file(self.files, self.path + ".txnindex") or b""
        self.aborted = TransactionIndex()
        is_sound = self.vouches_for_aborted(content) and self.aborted.load(content)
        if not content or not is_sound:  # a damaged file stays until it is replaced
            return is_sound
        self.aborted.truncate(offset)
        file = self.files.open(self.path + ".txnindex", create=True)
        file.truncate(len(self.aborted) * ABORTED_ENTRY.size)
        file.close()
        self.aborted_changed = True
        return is_sound

    def replace_aborted(self, aborted: list[AbortedTransaction]) -> bool:
        """Installs the aborted transactions that were found again; returns whether the file has changed. Raises OSError.

        The file is replaced as a whole. If it were written in parts, a power cut could leave a sound but shorter file, and
        records of the aborted transactions that it lacks would be shown as committed.
        """
        index = TransactionIndex()
        for entry in aborted:
            index.append(entry)
        path = self.path + ".txnindex"
        content = b"".join(ABORTED_ENTRY.pack(ABORTED_VERSION, *entry) for entry in aborted)
        is_changed = (load_file(self.files, path) or b"") != content
        if is_changed:
            replace_file(self.files, path, content)
        self.aborted = index
        self.aborted_changed = len(index) > 0  # without entries there may be no file to sync
        return is_changed

    def should_roll(self, size: int, last_offset: int, timestamp: int, config: LogConfig) -> bool:
        """Whether a batch of `size` bytes belongs in a new segment. Age is measured between records, as in Kafka."""
        age_ms = timestamp - self.first_timestamp if self.first_timestamp >= 0 else 0
        return (
            self.size + size > config.segment_bytes
            or len(self.index.offsets) * 8 + 8 > config.segment_index_bytes
            or last_offset - self.base_offset > RELATIVE_OFFSET_MAX
            or (age_ms > config.earliest_roll_ms and age_ms > config.roll_ms(self.path))
        ) and self.size > 0

    def locate(self, offset: int, limit: int) -> tuple[BatchHeader, int] | None:
        """The batch that holds `offset`, or the first one after it, and its position; None if it starts at `limit`.

        Raises DamagedLogError if the offset is in a damaged part. Offsets before and after such a part are found.
        """
        found = self.find(offset, limit)
        while isinstance(found, int):  # damage that was not known yet
            self.damaged_at(found)
            found = self.find(offset, limit)
        return found

    def find(self, offset: int, limit: int) -> tuple[BatchHeader, int] | int | None:
        """As `locate`; returns a position if something there does not fit and is not known to be damaged."""
        position, chunk = start_of_search(self, offset, limit)
        chunk_at = position
        expected = -1 if position else self.base_offset
        while position < limit:
            if self.parts.found and (part := self.parts.at(position)) is not None:
                if offset < part.end_offset:
                    raise part.error(self.path)
                position, expected = part.end, part.end_offset
                continue
            at = position - chunk_at
            if at < 0 or at + HEADER_BYTES > len(chunk):
                chunk, chunk_at, at = self.file.read(SCAN_BYTES, position), position, 0
                if len(chunk) < HEADER_BYTES:
                    return position
            header = read_header(chunk, at)
            if not can_be_batch(header, limit - position):
                return position
            if header.base_offset != expected and expected >= 0 and not is_next(self, header, position, expected):
                return position
            expected = header.base_offset + header.last_offset_delta + 1
            if expected > offset:
                if expected > self.end_offset:  # no CRC covers the base offset
                    return position
                return header, position
            position += header.length + LOG_OVERHEAD
        return None

    def damaged_at(self, position: int) -> DamagedLogError:
        """The error to raise if there is no sound batch. The damaged part is found and, the first time, logged."""
        part = self.parts.at(position)
        if part is None:
            self.is_damaged = True
            part = self.parts.add(self, position)
            logger.error(
                "%s. Reads of them fail with KAFKA_STORAGE_ERROR, all others are served. Restore the file from a copy",
                part.error(self.path),
            )
        return part.error(self.path)

    def checked_bytes(self, data: bytes, position: int, base_offset: int, epochs: LeaderEpochs | None) -> bytes:
        """The part of what was read at `position` before the first damaged batch; base_offset is its first offset.

        It is empty if the first batch is damaged: `locate` then knows the damaged part. What was found sound before is not
        checked again.
        """
        size = self.trust.check(data, self, position, base_offset, epochs)
        if size < 0:
            return data
        self.damaged_at(position + size)
        return data[:size]

    def rebuild_index(self, interval: int = REBUILT_INTERVAL_BYTES) -> None:
        """Rebuilds the indexes from the batches' headers, up to the first damaged one."""
        size, sums = self.size, self.known_sums()
        with self.restored_on_error():
            self.reset_indexes()
            self.extend_indexes(size, interval)
        if sums is not None and sums.size == size:
            self.end_offset = sums.end_offset  # compaction may have left a gap after the last batch

    @contextlib.contextmanager
    def restored_on_error(self) -> Iterator[None]:
        """If the body fails, undoes its changes to the indexes.

        For example, a read fails while an index is being rebuilt. The half that was built would say that the segment ends
        early and is old, and retention would remove records that are not old.
        """
        before = {name: getattr(self, name) for name in INDEX_STATE}
        try:
            yield
        except BaseException:
            for name, value in before.items():
                setattr(self, name, value)
            raise

    def reset_indexes(self) -> None:
        self.index, self.time_index, self.index_loaded = OffsetIndex(), TimeIndex(), True
        self.size = self.bytes_since_index_entry = 0
        self.max_timestamp = self.max_timestamp_offset = self.first_timestamp = -1

    def extend_indexes(self, size: int, interval: int) -> None:
        """Adds the batches from `self.size` to `size` to the indexes. Damage is logged; a reader gets the error."""
        start, self.size = self.size, size
        sums = self.known_sums()
        end_offset, last = self.end_offset, sums.end_offset if sums is not None and sums.size == size else OFFSET_MAX
        self.end_offset = last  # as far as damage may reach
        try:
            for header, position in self.scan_undamaged(start, size):
                self.size = position
                self.note(header.base_offset, header.last_offset, header.max_timestamp, header.size_bytes, interval)
                end_offset, self.size, self.end_offset = self.end_offset, size, last
        finally:
            self.size, self.end_offset = size, end_offset

    def scan(self, position: int, limit: int, *, skips_damage: bool = False) -> Iterator[tuple[BatchHeader, int]]:
        """The header and position of each batch from `position` on.

        At damage, raises DamagedLogError, or continues with the next sound batch if `skips_damage`.
        """
        chunk: Buffer = b""
        chunk_at = 0
        expected = -1 if position else self.base_offset
        while position < limit:
            part = self.parts.at(position) if self.parts.found else None
            if part is None:
                at = position - chunk_at
                if at < 0 or at + HEADER_BYTES > len(chunk):
                    chunk, chunk_at, at = self.file.read(SCAN_BYTES, position), position, 0
                if len(chunk) >= HEADER_BYTES:
                    header = read_header(chunk, at)
                    follows = expected < 0 or is_next(self, header, position, expected)
                    if follows and can_be_batch(header, limit - position):
                        yield header, position
                        position, expected = position + header.size_bytes, header.next_offset
                        continue
            error = self.damaged_at(position)
            if not skips_damage:
                raise error
            part = self.parts.at(position)
            if part is None:  # the damage is in an earlier part
                expected = -1
            else:
                position, expected = min(part.end, limit), part.end_offset

    def scan_undamaged(self, position: int, limit: int) -> Iterator[tuple[BatchHeader, int]]:
        """As `scan` past damage, without batches whose offsets the next batch shows to be wrong."""
        held: tuple[BatchHeader, int] | None = None
        for found in self.scan(position, limit, skips_damage=True):
            if held is not None and self.parts.at(held[1]) is None:
                yield held
            held = found
        if held is not None and self.parts.at(held[1]) is None:
            yield held

    def checked_scan(self, position: int, limit: int) -> Iterator[tuple[BatchHeader, int, bytes]]:
        """As `scan`, with the batch, whose CRC was checked now or earlier in this process."""
        for header, at in self.scan(position, limit):
            batch = self.read_batch(header, at)
            if not self.trust.covers(at, header.size_bytes):
                try:
                    check_batch(batch)
                except ProtocolError:
                    raise self.damaged_at(at) from None
            yield header, at, batch

    def read(self, position: int, size: int) -> bytes:
        return self.file.read(size, position)

    def read_batch(self, header: BatchHeader, position: int) -> bytes:
        """The whole batch at `position`."""
        return self.file.read(header.size_bytes, position)

    def known_sums(self) -> SegmentSums | None:
        """What a checkpoint, or a roll in this process, knew about the segment; None if nothing is known."""
        if self.sums is None and not self.has_no_sums:
            self.sums = read_sums(self.files, self.path)
            self.has_no_sums = self.sums is None
            if self.sums is not None:
                self.may_have_gaps = bool(self.sums.may_have_gaps)
        return self.sums

    def load_indexes(self) -> bool:
        """Loads the indexes of a sealed segment; False if some of them had to be rebuilt from the log.

        If it raises OSError, they are as before: not loaded.
        """
        with self.restored_on_error():
            return self.find_indexes()

    def find_indexes(self) -> bool:
        size = self.size
        if self.load_vouched(size):
            if self.size == size:
                return True
            self.extend_indexes(size, REBUILT_INTERVAL_BYTES)
            return False
        level = logging.INFO if self.known_sums() is None else logging.WARNING
        logger.log(level, "%s: indexes are missing or do not match the log: rebuilding them", self.path, extra=REBUILT)
        self.size = size
        self.rebuild_index()
        return False

    def load_vouched(self, size: int) -> bool:
        """Loads what the sums vouch for; False, and empty indexes, if the files do not match.

        `self.size` is then the end of what the indexes cover; the caller continues there.
        """
        sums = self.known_sums()
        self.reset_indexes()
        if sums is None or sums.size > size:
            return False
        content = load_file(self.files, self.path + ".index") or b""
        times = load_file(self.files, self.path + ".timeindex") or b""
        content = content[: sums.index_entries * OFFSET_ENTRY_BYTES]
        times = times[: sums.time_entries * TIME_ENTRY.size]
        if crc32c(content) != sums.index_crc or crc32c(times) != sums.time_crc:
            return False
        index, time_index = OffsetIndex(), TimeIndex()
        index.load(content)
        time_index.load(times)
        if len(index.offsets):
            newest = self.file.read(HEADER_BYTES, index.positions[-1])
            if not entry_is_true(self, index.offsets[-1], newest):
                return False  # they belong to another log than the one beside them
        if size:
            first = self.file.read(HEADER_BYTES, 0)
            if len(first) < HEADER_BYTES or not can_be_batch(read_header(first), size):
                return False
            self.first_timestamp = read_header(first).max_timestamp
        self.index, self.time_index = index, time_index
        self.size, self.end_offset = sums.size, sums.end_offset
        self.max_timestamp, self.max_timestamp_offset = sums.max_timestamp, sums.max_timestamp_offset
        return True

    def recover(self, checked_below: int, interval: int, *, has_no_gaps: bool = False) -> Iterator[BatchHeader]:
        """Finds the end of the segment, and yields the batches that no checkpoint covered; `self.size` is the size of the sound part.

        Batches at or above the offset `checked_below` may never have been synced: they are read whole, and their CRCs and
        their order are checked. What follows the first bad byte stays in the file. No CRC covers a batch's base offset: with
        `has_no_gaps` it must follow the batch before, as it always does unless the segment was compacted.
        """
        total = self.size
        sums = self.known_sums()
        if sums is None or sums.end_offset > checked_below or not self.load_vouched(total):
            self.reset_indexes()
            self.end_offset = self.base_offset
            if sums is not None and sums.end_offset <= checked_below and sums.size <= total:
                self.extend_indexes(
                    sums.size, interval
                )  # all of that was on disk, so an unsound place is not a torn write
                self.end_offset = sums.end_offset
        is_strict = has_no_gaps and (sums is None or sums.end_offset <= checked_below)
        if is_strict and sums is None and checked_below <= self.base_offset:
            self.may_have_gaps = False
        self.trust.begins_at = total
        self.truncate_index_files()
        chunk, chunk_at = b"", 0
        while self.size < total:
            at = self.size - chunk_at
            if at + HEADER_BYTES > len(chunk):
                chunk, chunk_at, at = self.file.read(RECOVERY_CHUNK_BYTES, self.size), self.size, 0
            try:
                header = read_header(chunk, at)
                size = header.size_bytes
                if not can_be_batch(header, total - self.size):
                    break
                if header.base_offset >= checked_below:
                    if at + size > len(chunk):
                        chunk, chunk_at, at = self.file.read(max(size, RECOVERY_CHUNK_BYTES), self.size), self.size, 0
                    check_batch(memoryview(chunk)[: at + size], at)
            except ProtocolError:
                break
            if header.base_offset < self.end_offset or header.last_offset_delta < 0:
                break
            if header.base_offset < checked_below < header.next_offset:
                break  # a checkpoint always lies between two batches
            if is_strict and header.base_offset > max(self.end_offset, checked_below):
                break
            if self.trust.begins_at == total and header.base_offset >= checked_below:
                self.trust.begins_at = self.size
            self.note(header.base_offset, header.last_offset, header.max_timestamp, size, interval)
            yield header
        self.trust.begins_at = min(self.trust.begins_at, self.size)

    def cut(self) -> None:
        """Truncates the file at the end of the sound part."""
        logger.warning("%s.log: cut %d bytes that were never acknowledged", self.path, self.file.size() - self.size)
        self.file.truncate(self.size)
        # What was cut must not return after what is appended next, if a crash undoes the truncation.
        self.file.sync()

    def truncate_index_files(self) -> None:
        """Truncates the index files after the loaded entries: writes continue there."""
        for path, size in (
            (self.path + ".index", len(self.index.offsets) * OFFSET_ENTRY_BYTES),
            (self.path + ".timeindex", len(self.time_index.offsets) * TIME_ENTRY.size),
        ):
            if self.files.exists(path):
                file = self.files.open(path)
                if file.size() > size:
                    file.truncate(size)
                file.close()

    def index_writes(self) -> list[tuple[str, int, bytes]]:
        """The writes that make the index files complete: (path, position, bytes). Sets `sums`."""
        if self.max_timestamp_offset >= 0:
            self.time_index.maybe_append(self.max_timestamp, self.max_timestamp_offset - self.base_offset)
        writes = [
            (self.path + ".index", *self.index.unwritten()),
            (self.path + ".timeindex", *self.time_index.unwritten()),
        ]
        old, aborted = self.known_sums(), self.aborted_transactions()
        if aborted is not None:
            aborted_entries, aborted_crc = len(aborted), aborted.crc
        else:
            aborted_entries, aborted_crc = (old.aborted_entries, old.aborted_crc) if old is not None else (0, 0)
        self.sums = SegmentSums(
            self.size,
            self.end_offset,
            self.max_timestamp,
            self.max_timestamp_offset,
            len(self.index.offsets),
            self.index.crc,
            len(self.time_index.offsets),
            self.time_index.crc,
            aborted_entries,
            aborted_crc,
            int(self.may_have_gaps),
        )
        return writes

    def write_indexes(self) -> None:
        """Writes the indexes. If it raises OSError, the next call writes them whole."""
        try:
            for path, position, data in self.index_writes():
                write_at(self.files, path, position, data)
        except OSError:
            for index in (self.index, self.time_index):
                index.entries_written = index.crc = 0
            raise

    def write_whole_indexes(self) -> None:
        """Writes all entries: a running checkpoint may not have written the ones that it was given. Raises OSError."""
        for index in (self.index, self.time_index):
            index.entries_written = index.crc = 0
        self.write_indexes()

    def write_sums(self) -> None:
        """Call this when what the sums describe is synced, and the recovery point is above it. Raises OSError."""
        if self.sums is not None:
            write_at(self.files, self.path + SUMS_SUFFIX, 0, self.sums.content())

    def unload_indexes(self) -> None:
        """Frees the memory of a sealed segment's indexes. They are loaded again when needed."""
        self.index, self.time_index, self.index_loaded = OffsetIndex(), TimeIndex(), False

    def remove(self) -> None:
        self.file.close()
        for suffix in SEGMENT_SUFFIXES:
            if self.files.exists(self.path + suffix):
                self.files.remove(self.path + suffix)
