"""The indexes of a segment, in Kafka's formats (OffsetIndex.java, TimeIndex.java, TransactionIndex.java).

    .index      entries of 8 bytes:  last offset of a batch less the segment's base (4), position of the batch (4)
    .timeindex  entries of 12 bytes: greatest timestamp so far (8), its offset less the segment's base (4)
    .txnindex   entries of 34 bytes: version 0 (2), producer id (8), first offset (8), last offset (8), last stable
                offset (8) of an aborted transaction whose marker is in the segment, by last offset

Entries are arrays in memory. The first two indexes are sparse, are written at checkpoints and when the segment is sealed,
and only speed up look-ups: the log is the truth. So whatever the segment's sums (`sums.py`) do not vouch for is rebuilt from
the log, and a look-up checks that the batch at the position is the one that the entry describes. An aborted transaction is
written when its marker is, and synced with the segment.
"""

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from crc32c import crc32c

from headwater.effects.files import Files, read_file
from headwater.storage.producers import AbortedTransaction

OFFSET_ENTRY_BYTES = 8
ABORTED_ENTRY = struct.Struct(">hqqqq")
ABORTED_VERSION = 0
TIME_ENTRY = struct.Struct(">qi")
LITTLE_ENDIAN = sys.byteorder == "little"


class OffsetIndex:
    """Maps an offset to the position of a batch at or before it."""

    __slots__ = ("crc", "entries_written", "offsets", "positions")

    def __init__(self) -> None:
        self.offsets = array("I")
        self.positions = array("I")
        self.entries_written = 0
        self.crc = 0  # of the entries in the file

    def append(self, relative_offset: int, position: int) -> None:
        self.offsets.append(relative_offset)
        self.positions.append(position)

    def floor(self, relative_offset: int) -> tuple[int, int] | None:
        """The last entry at or below `relative_offset`, as (relative last offset of the batch, its position)."""
        at = bisect_right(self.offsets, relative_offset) - 1
        return (self.offsets[at], self.positions[at]) if at >= 0 else None

    def first_from(self, position: int) -> int | None:
        """The relative offset of the first entry at or after `position`."""
        at = bisect_left(self.positions, position)
        return self.offsets[at] if at < len(self.offsets) else None

    def truncate(self, position: int) -> None:
        """Forgets the entries of batches at or after `position`."""
        at = bisect_left(self.positions, position)
        del self.offsets[at:], self.positions[at:]
        if at < self.entries_written:
            self.entries_written, self.crc = at, crc32c(self.entry_bytes(0, at))

    def unwritten(self) -> tuple[int, bytes]:
        """The entries that are not in the file yet: the position to write them at, and their bytes."""
        start = self.entries_written
        content = self.entry_bytes(start, len(self.offsets))
        self.crc = crc32c(content, self.crc)
        self.entries_written = len(self.offsets)
        return start * OFFSET_ENTRY_BYTES, content

    def entry_bytes(self, start: int, end: int) -> bytes:
        words = array("I", bytes(4 * 2 * (end - start)))
        words[0::2] = self.offsets[start:end]
        words[1::2] = self.positions[start:end]
        if LITTLE_ENDIAN:
            words.byteswap()
        return words.tobytes()

    def load(self, content: bytes) -> None:
        """Loads the entries of a file that the segment's sums vouch for."""
        words = array("I", content)
        if LITTLE_ENDIAN:
            words.byteswap()
        self.offsets, self.positions = words[0::2], words[1::2]
        self.entries_written, self.crc = len(self.offsets), crc32c(content)


class TimeIndex:
    """Maps a timestamp to an offset; no record before that offset is as late."""

    __slots__ = ("crc", "entries_written", "offsets", "timestamps")

    def __init__(self) -> None:
        self.timestamps = array("q")
        self.offsets = array("I")
        self.entries_written = 0
        self.crc = 0  # of the entries in the file

    def maybe_append(self, timestamp: int, relative_offset: int) -> None:
        """Adds an entry if it is later than the last one."""
        if not self.timestamps or (timestamp > self.timestamps[-1] and relative_offset > self.offsets[-1]):
            self.timestamps.append(timestamp)
            self.offsets.append(relative_offset)

    def floor(self, timestamp: int) -> int:
        """The relative offset at which to start looking for a record at or after `timestamp`."""
        at = bisect_left(self.timestamps, timestamp) - 1
        return self.offsets[at] if at >= 0 else 0

    def truncate(self, relative_offset: int) -> None:
        """Forgets the entries at or after `relative_offset`."""
        at = bisect_left(self.offsets, relative_offset)
        del self.timestamps[at:], self.offsets[at:]
        if at < self.entries_written:
            self.entries_written, self.crc = at, crc32c(self.entry_bytes(0, at))

    def unwritten(self) -> tuple[int, bytes]:
        """The entries that are not in the file yet: the position to write them at, and their bytes."""
        start = self.entries_written
        content = self.entry_bytes(start, len(self.offsets))
        self.crc = crc32c(content, self.crc)
        self.entries_written = len(self.offsets)
        return start * TIME_ENTRY.size, content

    def entry_bytes(self, start: int, end: int) -> bytes:
        halves = array("I", self.timestamps[start:end].tobytes())
        words = array("I", bytes(TIME_ENTRY.size * (end - start)))
        words[0::3], words[1::3] = (halves[1::2], halves[0::2]) if LITTLE_ENDIAN else (halves[0::2], halves[1::2])
        words[2::3] = self.offsets[start:end]
        if LITTLE_ENDIAN:
            words.byteswap()
        return words.tobytes()

    def load(self, content: bytes) -> None:
        """Loads the entries of a file that the segment's sums vouch for, all at once, since there may be millions."""
        words = array("I", content)  # per entry: the timestamp's upper half, its lower half, the offset
        if LITTLE_ENDIAN:
            words.byteswap()
        halves = array("I", bytes(len(content) // 3 * 2))
        halves[0::2], halves[1::2] = (words[1::3], words[0::3]) if LITTLE_ENDIAN else (words[0::3], words[1::3])
        self.timestamps, self.offsets = array("q", halves.tobytes()), words[2::3]
        self.entries_written, self.crc = len(self.offsets), crc32c(content)


class TransactionIndex:
    """The aborted transactions whose markers lie in one segment."""

    __slots__ = ("columns", "crc")

    def __init__(self) -> None:
        self.crc = 0  # of all entries, as in the file
        self.columns = tuple(array("q") for _ in AbortedTransaction._fields)

    def __len__(self) -> int:
        return len(self.columns[0])

    def append(self, aborted: AbortedTransaction) -> None:
        self.crc = crc32c(ABORTED_ENTRY.pack(ABORTED_VERSION, *aborted), self.crc)
        for column, value in zip(self.columns, aborted, strict=True):
            column.append(value)

    def entry(self, at: int) -> AbortedTransaction:
        return AbortedTransaction(*(column[at] for column in self.columns))

    def ending_from(self, offset: int) -> Iterator[AbortedTransaction]:
        """The transactions whose markers are at or after `offset`."""
        for at in range(bisect_left(self.columns[2], offset), len(self)):
            yield self.entry(at)

    def truncate(self, offset: int) -> None:
        """Forgets the transactions whose markers are at or after `offset`."""
        at = bisect_left(self.columns[2], offset)
        if at < len(self):
            for column in self.columns:
                del column[at:]
            entries = (ABORTED_ENTRY.pack(ABORTED_VERSION, *self.entry(n)) for n in range(at))
            self.crc = crc32c(b"".join(entries))

    def load(self, content: bytes) -> bool:
        """Loads a file's entries up to the first that cannot be sound; False if there is one, or an incomplete one."""
        whole = len(content) - len(content) % ABORTED_ENTRY.size
        previous = -1
        for version, *fields in ABORTED_ENTRY.iter_unpack(content[:whole]):
            aborted = AbortedTransaction(*fields)
            is_later = previous < aborted.last_offset > aborted.first_offset
            if version != ABORTED_VERSION or not is_later:
                return False
            previous = aborted.last_offset
            self.append(aborted)
        return whole == len(content)


def possible_entries(content: bytes) -> Iterator[AbortedTransaction]:
    """The entries of a damaged `.txnindex` that may be what was written. Nothing vouches for them."""
    whole = len(content) - len(content) % ABORTED_ENTRY.size
    for version, *fields in ABORTED_ENTRY.iter_unpack(content[:whole]):
        aborted = AbortedTransaction(*fields)
        if version == ABORTED_VERSION and 0 <= aborted.first_offset < aborted.last_offset:
            yield aborted


def load_file(files: Files, path: str) -> bytes | None:
    """An index file's content; None if there is none."""
    try:
        return read_file(files, path)
    except FileNotFoundError:
        return None
