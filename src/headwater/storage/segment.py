"""One segment of a log: a `.log` file of batches and its two indexes, named by the first offset they may hold."""

import logging
from collections.abc import Iterator

from headwater.effects.buffers import Buffer
from headwater.effects.files import File, Files
from headwater.protocol.errors import ProtocolError
from headwater.protocol.records import (
    HEADER,
    HEADER_BYTES,
    LOG_OVERHEAD,
    BatchHeader,
    Record,
    check_batch,
    read_header,
    records,
)
from headwater.storage.config import LogConfig
from headwater.storage.errors import DamagedLogError
from headwater.storage.index import ABORTED_ENTRY, ABORTED_VERSION, OffsetIndex, TimeIndex, TransactionIndex, load_file
from headwater.storage.producers import AbortedTransaction

logger = logging.getLogger(__name__)

SEGMENT_SUFFIXES = (".log", ".index", ".timeindex", ".txnindex")
RELATIVE_OFFSET_MAX = 2**31 - 1
SCAN_BYTES = 4096 + HEADER_BYTES
RECOVERY_CHUNK_BYTES = 1 << 20


def can_be_batch(header: BatchHeader, room: int) -> bool:
    """Whether a header's format and length can be those of a batch in the next `room` bytes."""
    return header.magic == 2 and HEADER_BYTES <= header.length + LOG_OVERHEAD <= room


def segment_name(base_offset: int) -> str:
    return f"{base_offset:020d}"


class Segment:
    """Appends at the end, reads from an offset. Positions and sizes are bytes in the `.log` file."""

    __slots__ = (
        "aborted",
        "aborted_changed",
        "base_offset",
        "bytes_since_index_entry",
        "file",
        "files",
        "first_timestamp",
        "index",
        "index_loaded",
        "is_damaged",
        "max_timestamp",
        "max_timestamp_offset",
        "path",
        "size",
        "time_index",
    )

    def __init__(
        self, files: Files, directory: str, base_offset: int, *, create: bool = False, suffix: str = ""
    ) -> None:
        self.files = files
        self.base_offset = base_offset
        self.path = f"{directory}/{segment_name(base_offset)}"
        self.file: File = files.open(self.path + ".log" + suffix, create=create)
        self.size = self.file.size()
        self.index = OffsetIndex()
        self.time_index = TimeIndex()
        self.bytes_since_index_entry = 0
        self.max_timestamp = -1
        self.max_timestamp_offset = -1
        self.first_timestamp = -1
        self.index_loaded = create
        self.is_damaged = False  # something unreadable was found in it
        self.aborted: TransactionIndex | None = TransactionIndex() if create else None  # None: not loaded yet
        self.aborted_changed = False  # since the last checkpoint

    def append(self, batch: Buffer, base_offset: int, last_offset: int, max_timestamp: int, interval: int) -> None:
        """Writes one batch into the page cache. On OSError nothing has changed: the next append writes over it."""
        self.file.write((batch,), self.size)
        self.note(base_offset, last_offset, max_timestamp, len(batch), interval)

    def note(self, base_offset: int, last_offset: int, max_timestamp: int, size: int, interval: int) -> None:
        """Takes a batch that is in the file into the indexes."""
        if max_timestamp > self.max_timestamp:
            self.max_timestamp = max_timestamp
            self.max_timestamp_offset = last_offset
        if self.first_timestamp < 0:
            self.first_timestamp = max_timestamp
        if self.bytes_since_index_entry > interval:
            self.index.append(last_offset - self.base_offset, self.size)
            self.time_index.maybe_append(self.max_timestamp, self.max_timestamp_offset - self.base_offset)
            self.bytes_since_index_entry = 0
        self.bytes_since_index_entry += size
        self.size += size

    def aborted_transactions(self) -> TransactionIndex | None:
        """Those whose markers are here; None when the file is damaged and they have to be found anew."""
        if self.aborted is None:
            index = TransactionIndex()
            content = load_file(self.files, self.path + ".txnindex")
            if content is not None and not index.load(content):
                logger.warning("%s.txnindex is damaged: building it anew", self.path)
                return None
            self.aborted = index
        return self.aborted

    def note_aborted(self, aborted: AbortedTransaction) -> None:
        """Writes an aborted transaction, whose marker comes next. Raises OSError; then nothing has changed."""
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
        """Forgets the aborted transactions whose marker is at or behind `offset`; False when the file is damaged."""
        content = load_file(self.files, self.path + ".txnindex")
        self.aborted = TransactionIndex()
        if content is None:
            return True
        is_sound = self.aborted.load(content)
        self.aborted.truncate(offset)
        file = self.files.open(self.path + ".txnindex", create=True)
        file.truncate(len(self.aborted) * ABORTED_ENTRY.size)
        file.close()
        self.aborted_changed = True
        return is_sound

    def should_roll(self, size: int, last_offset: int, timestamp: int, config: LogConfig) -> bool:
        """Whether a batch of `size` bytes belongs into a new segment; time counts between records, as in Kafka."""
        return (
            self.size + size > config.segment_bytes
            or len(self.index.offsets) * 8 + 8 > config.segment_index_bytes
            or last_offset - self.base_offset > RELATIVE_OFFSET_MAX
            or (self.first_timestamp >= 0 and timestamp - self.first_timestamp > config.roll_ms)
        ) and self.size > 0

    def header_at(self, position: int, chunk: Buffer, chunk_at: int) -> tuple[BatchHeader, Buffer, int]:
        """The header at `position`, from `chunk` if it lies in it, else from the file; with the chunk it was in."""
        at = position - chunk_at
        if at < 0 or at + HEADER_BYTES > len(chunk):
            chunk, chunk_at, at = self.file.read(SCAN_BYTES, position), position, 0
            if len(chunk) < HEADER_BYTES:
                raise self.damaged_at(position)
        return read_header(chunk, at), chunk, chunk_at

    def locate(self, offset: int, limit: int) -> tuple[BatchHeader, int] | None:
        """The batch that holds `offset`, or the first one behind it, and its position; None if it starts at `limit`.

        Raises DamagedLogError, as everything does that meets bytes on its way which are no batch.
        """
        position = self.floor_position(offset, limit)
        chunk: Buffer = b""
        chunk_at = 0
        while position < limit:
            header, chunk, chunk_at = self.header_at(position, chunk, chunk_at)
            size = self.checked_size(header, position, limit)
            if header.base_offset + header.last_offset_delta >= offset:
                return header, position
            position += size
        return None

    def checked_size(self, header: BatchHeader, position: int, limit: int) -> int:
        size = header.length + LOG_OVERHEAD
        if not can_be_batch(header, limit - position):
            raise self.damaged_at(position)
        return size

    def damaged_at(self, position: int) -> DamagedLogError:
        """The error to raise where there is no sound batch; the first one is logged."""
        error = DamagedLogError(f"{self.path}.log is damaged at byte {position}: restore it from a copy")
        if not self.is_damaged:
            self.is_damaged = True
            logger.error("%s; what cannot be read is answered with KAFKA_STORAGE_ERROR", error)
        return error

    def floor_position(self, offset: int, limit: int) -> int:
        """Where to start looking for `offset`. An index that does not tell the truth is built anew."""
        entry = self.index.floor(offset - self.base_offset)
        if entry is None:
            return 0
        relative_offset, position = entry
        if position < limit and self.entry_is_true(relative_offset, position):
            return position
        if position >= limit:
            return self.position_below(limit)
        logger.warning("index of %s does not match its log: building it anew", self.path)
        self.rebuild_index(OffsetIndex(), 4096)
        entry = self.index.floor(offset - self.base_offset)
        return entry[1] if entry is not None else 0

    def entry_is_true(self, relative_offset: int, position: int) -> bool:
        data = self.file.read(HEADER_BYTES, position)
        if len(data) < HEADER_BYTES:
            return False
        header = HEADER.unpack(data)
        return bool(header[3] == 2 and header[0] + header[6] == self.base_offset + relative_offset)

    def position_below(self, limit: int) -> int:
        """The last indexed position before `limit` (the high watermark may lie below the newest entries)."""
        below = [p for p in self.index.positions[-64:] if p < limit]
        return below[-1] if below else 0

    def rebuild_index(self, index: OffsetIndex, interval: int) -> None:
        """Builds the indexes from the batches' headers, as far as they are whole."""
        size = self.size
        self.index, self.time_index = index, TimeIndex()
        self.size = self.bytes_since_index_entry = 0
        self.max_timestamp = self.max_timestamp_offset = self.first_timestamp = -1
        for header, _ in self.scan(0, size):
            self.note(header.base_offset, header.last_offset, header.max_timestamp, header.size_bytes, interval)
        self.size = size

    def scan(self, position: int, limit: int) -> Iterator[tuple[BatchHeader, int]]:
        """Each batch's header and position from `position` on; raises DamagedLogError where there is none."""
        chunk: Buffer = b""
        chunk_at = 0
        while position < limit:
            header, chunk, chunk_at = self.header_at(position, chunk, chunk_at)
            size = self.checked_size(header, position, limit)
            yield header, position
            position += size

    def read(self, position: int, size: int) -> bytes:
        return self.file.read(size, position)

    def read_batch(self, header: BatchHeader, position: int) -> bytes:
        """The whole batch at `position`."""
        return self.file.read(header.size_bytes, position)

    def offset_for_timestamp(self, timestamp: int, start_offset: int, limit: int) -> tuple[int, int] | None:
        """The first record at or after `start_offset` with at least this timestamp, as (timestamp, offset)."""
        from_offset = max(start_offset, self.base_offset + self.time_index.floor(timestamp))
        found = self.locate(from_offset, limit)
        if found is None:
            return None
        for header, position in self.scan(found[1], limit):
            if header.max_timestamp < timestamp or header.last_offset < start_offset:
                continue
            for record in self.records(header, position):
                if record.timestamp >= timestamp and record.offset >= start_offset:
                    return record.timestamp, record.offset
        return None

    def records(self, header: BatchHeader, position: int) -> Iterator[Record]:
        """The records of a batch. Raises DamagedLogError where they cannot be read."""
        try:
            yield from records(header, self.read_batch(header, position))
        except ProtocolError as error:
            raise self.damaged_at(position) from error

    def load_indexes(self) -> None:
        """Takes the index files; what is missing or unsound is built anew from the log."""
        if not self.take_index_files():
            logger.info("indexes of %s are missing or unsound: building them anew", self.path)
            self.rebuild_index(OffsetIndex(), 4096)

    def take_index_files(self) -> bool:
        """Takes the index files as they are; False, and empty indexes, when they are missing or cannot be sound."""
        self.index, self.time_index, self.index_loaded = OffsetIndex(), TimeIndex(), True
        content = load_file(self.files, self.path + ".index")
        times = load_file(self.files, self.path + ".timeindex")
        index, time_index = OffsetIndex(), TimeIndex()
        if content is None or times is None or not index.load(content, self.size):
            return False
        if not time_index.load(times, RELATIVE_OFFSET_MAX):
            return False
        self.index, self.time_index = index, time_index
        if time_index.timestamps:
            self.max_timestamp = time_index.timestamps[-1]
            self.max_timestamp_offset = self.base_offset + time_index.offsets[-1]
        if self.size >= HEADER_BYTES:
            self.first_timestamp = read_header(self.file.read(HEADER_BYTES, 0)).max_timestamp
        return True

    def recover(self, checked_below: int, interval: int) -> Iterator[BatchHeader]:
        """Takes the batches behind the last index entry, and yields them; the file ends behind the last sound one.

        Batches that begin at or above the offset `checked_below` may never have been synced: they are read whole and
        checked by their CRC, and so is their order. The rest of the file from the first bad byte on is cut off.
        """
        total = self.size
        self.take_index_files()
        start = self.recovery_start(checked_below)
        self.index.truncate(start)
        self.size, self.bytes_since_index_entry = start, interval + 1 if start else 0
        expected = -1
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
            if header.base_offset < max(expected, self.base_offset) or header.last_offset_delta < 0:
                break
            expected = header.next_offset
            self.note(header.base_offset, header.last_offset, header.max_timestamp, size, interval)
            yield header
        if self.size < total:
            logger.warning("%s.log: cut %d bytes that were never acknowledged", self.path, total - self.size)
            self.file.truncate(self.size)
            # What was cut must not come back under what is appended next, should a crash undo the cut.
            self.file.sync()

    def recovery_start(self, checked_below: int) -> int:
        """The position of the last batch that an index entry below `checked_below` truthfully names."""
        entry = self.index.floor(checked_below - 1 - self.base_offset) if checked_below > self.base_offset else None
        if entry is not None and entry[1] < self.size and self.entry_is_true(*entry):
            self.time_index.truncate(entry[0])
            if self.time_index.timestamps:
                self.max_timestamp = self.time_index.timestamps[-1]
                self.max_timestamp_offset = self.base_offset + self.time_index.offsets[-1]
            else:
                self.max_timestamp = self.max_timestamp_offset = -1
            return entry[1]
        self.time_index.truncate(0)
        self.max_timestamp = self.max_timestamp_offset = self.first_timestamp = -1
        return 0

    def index_writes(self) -> list[tuple[str, int, bytes]]:
        """What has to be written so that the index files are complete: (path, position, bytes)."""
        if self.max_timestamp_offset >= 0:
            self.time_index.maybe_append(self.max_timestamp, self.max_timestamp_offset - self.base_offset)
        return [
            (self.path + ".index", *self.index.unwritten()),
            (self.path + ".timeindex", *self.time_index.unwritten()),
        ]

    def write_indexes(self) -> None:
        for path, position, data in self.index_writes():
            file = self.files.open(path, create=True)
            file.truncate(position)
            file.write((data,), position)
            file.close()

    def unload_indexes(self) -> None:
        """Gives the memory of a sealed segment's indexes back; they are read again when needed."""
        self.index, self.time_index, self.index_loaded = OffsetIndex(), TimeIndex(), False

    def remove(self) -> None:
        self.file.close()
        for suffix in SEGMENT_SUFFIXES:
            if self.files.exists(self.path + suffix):
                self.files.remove(self.path + suffix)
