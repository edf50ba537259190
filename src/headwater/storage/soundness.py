"""Checks whether the bytes of a segment are what was written, and finds the damaged parts.

A batch's CRC covers everything in it except its first 16 bytes: base offset, length and leader epoch. Those are checked
against the batch's neighbours. A batch begins where the one before ends, in the file and in the offsets. Only compaction
leaves gaps in the offsets, and a segment's sums say whether it may have some. Then the index, which the sums vouch for, has
the offset of each batch. A leader epoch must be the one that the log's epochs have for the offset.

What was written by this process was checked on its way in. What an earlier one left is checked when it is first read, and
not again. So a consumer that follows the end of a log pays nothing for it.

A damaged part goes from the first unsound byte to the next sound batch. If the length of the damaged batch still leads to a
sound one, that is the next. Otherwise the next one is searched for. It has to be sound, and the batches after it must lead
to one that the index knows, or to the segment's end: so nothing inside a record is mistaken for a batch.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from crc32c import crc32c

from headwater.effects.buffers import Buffer
from headwater.effects.files import File
from headwater.effects.logs import REBUILT, get_logger
from headwater.protocol.records import (
    ATTRIBUTES_AT,
    HEADER,
    HEADER_BYTES,
    LOG_OVERHEAD,
    MAGIC,
    BatchHeader,
    read_header,
)
from headwater.storage.epochs import LeaderEpochs
from headwater.storage.errors import DamagedLogError
from headwater.storage.index import OffsetIndex

logger = get_logger(__name__)

SCAN_BYTES = 4096 + HEADER_BYTES
SEARCH_BYTES = 1 << 20
CHUNK_BYTES = 1 << 20
CANDIDATES_MAX = 10_000  # places that look like a batch; a segment with more of them is given up
PARTS_MAX = 1000  # damaged parts per segment; with more, everything from there on is one part
EPOCH_UNKNOWN = -1
OFFSET_MAX = (1 << 63) - 1
RELATIVE_OFFSET_MAX = (1 << 31) - 1  # within a segment


class CheckedSegment(Protocol):
    """What the checks need from a segment: its bytes, its index and sums, and the known damage."""

    base_offset: int
    end_offset: int
    index: OffsetIndex
    may_have_gaps: bool
    parts: "DamagedParts"
    path: str
    size: int

    @property
    def file(self) -> File:
        """Its bytes."""

    def rebuild_index(self) -> None:
        """Rebuilds an index that does not match the log."""

    def damaged_at(self, position: int) -> DamagedLogError:
        """Records and logs damage; returns the error to raise for it."""


def can_be_batch(header: BatchHeader, room: int) -> bool:
    """Whether a header's format, length and offsets can be those of a batch in the next `room` bytes."""
    fits = header.magic == MAGIC and HEADER_BYTES <= header.length + LOG_OVERHEAD <= room
    return fits and header.base_offset >= 0 and header.last_offset_delta >= 0


class DamagedPart(NamedTuple):
    """Unsound bytes of a segment, and the offsets that were in them. Ends are exclusive."""

    position: int
    end: int
    start_offset: int
    end_offset: int

    def error(self, path: str) -> DamagedLogError:
        """The error for a reader of these offsets; `path` is the segment's."""
        last = "the segment's last" if self.end_offset == OFFSET_MAX else str(self.end_offset - 1)
        return DamagedLogError(
            f"{path}.log is damaged at byte {self.position}: the records at offsets {self.start_offset} to {last} "
            "cannot be read",
            start_offset=self.start_offset,
            end_offset=self.end_offset,
        )


class DamagedParts:
    """The damaged parts of a segment that were found, in order."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: list[DamagedPart] = []

    def at(self, position: int) -> DamagedPart | None:
        """The damaged part that contains `position`."""
        return next((part for part in self.found if part.position <= position < part.end), None)

    def add(self, segment: CheckedSegment, position: int) -> DamagedPart:
        """Finds the damaged part that `position` is in or right after."""
        part = find_part(segment, position, max(segment.size, position + 1)) or force_part(segment, position)
        if len(self.found) >= PARTS_MAX:
            part = part._replace(end=max(part.end, segment.size), end_offset=max(part.end_offset, segment.end_offset))
        self.found = sorted([*self.found, part])
        return part


class Trust:
    """The part of a segment that this process has written or checked: from `begins_at` on, and from `start` to `end`."""

    __slots__ = ("begins_at", "end", "next_offset", "start")

    def __init__(self, begins_at: int, base_offset: int) -> None:
        self.begins_at = begins_at
        self.start = self.end = 0
        self.next_offset = base_offset  # at `end`

    def covers(self, position: int, size: int) -> bool:
        return position >= self.begins_at or (self.start <= position and position + size <= self.end)

    def check(
        self, data: bytes, segment: CheckedSegment, position: int, base_offset: int, epochs: LeaderEpochs | None
    ) -> int:
        """How many bytes of `data` come before the first damage; -1 if there is none."""
        if self.covers(position, len(data)):
            return -1
        is_inside = self.start <= position < self.end
        skipped, expected = (self.end - position, self.next_offset) if is_inside else (0, base_offset)
        found = check(data, skipped, segment, position, expected, epochs)
        sound = skipped + found.size
        end = position + sound
        if position > self.end or self.start > end:  # not adjacent to what was checked before
            self.start, self.end, self.next_offset = position, end, found.next_offset
        else:
            self.start = min(self.start, position)
            if end >= self.end:
                self.end, self.next_offset = end, found.next_offset
        if self.end >= self.begins_at:
            self.begins_at = min(self.begins_at, self.start)
        return -1 if found.is_sound else sound


class Checked(NamedTuple):
    """The result of checking some bytes: how many of them are whole and sound batches, and the offset after them."""

    size: int
    next_offset: int
    is_sound: bool  # at most an incomplete batch follows them


def check(
    data: Buffer, start: int, segment: CheckedSegment, position: int, expected: int, epochs: LeaderEpochs | None
) -> Checked:
    """Checks the batches in `data` from `start` on. `data` was read at `position`; `expected` is their first offset."""
    view, at, size = memoryview(data), start, len(data)
    unpack, has_gaps = HEADER.unpack_from, segment.may_have_gaps
    epoch, epoch_ends_at = EPOCH_UNKNOWN, -1
    while at + HEADER_BYTES <= size:
        base, length, batch_epoch, magic, crc, _, last_delta, *_ = unpack(view, at)
        end = at + length + LOG_OVERHEAD
        if magic != MAGIC or end < at + HEADER_BYTES:
            return Checked(at - start, expected, False)
        if end > size:
            break
        if has_gaps:
            if not is_next(segment, read_header(view, at), position + at, expected):
                return Checked(at - start, expected, False)
        elif base != expected:
            return Checked(at - start, expected, False)
        if crc32c(view[at + ATTRIBUTES_AT : end]) != crc:
            return Checked(at - start, expected, False)
        if epochs is not None:
            if base >= epoch_ends_at:
                epoch, epoch_ends_at = epochs.at(base)
            if batch_epoch != epoch and EPOCH_UNKNOWN not in (batch_epoch, epoch):
                return Checked(at - start, expected, False)
        expected = base + last_delta + 1
        at = end
    return Checked(at - start, expected, True)


def agrees_with_index(segment: CheckedSegment, position: int, last_offset: int) -> bool:
    """Whether the index agrees about the batch at `position`, or does not know it."""
    index = segment.index
    at = bisect_left(index.positions, position)
    if at >= len(index.positions) or index.positions[at] != position:
        return True
    return index.offsets[at] == last_offset - segment.base_offset


def header_if_sound(segment: CheckedSegment, position: int, limit: int) -> BatchHeader | None:
    """The header of the batch at `position`, if its CRC and its length confirm it."""
    head = segment.file.read(HEADER_BYTES, position)
    if len(head) < HEADER_BYTES:
        return None
    header = read_header(head)
    if not can_be_batch(header, limit - position):
        return None
    crc = 0
    at, end = position + ATTRIBUTES_AT, position + header.size_bytes
    while at < end:
        chunk = segment.file.read(min(CHUNK_BYTES, end - at), at)
        if not chunk:
            return None
        crc = crc32c(chunk, crc)
        at += len(chunk)
    return header if crc == header.crc else None


def is_next(segment: CheckedSegment, header: BatchHeader, position: int, expected: int) -> bool:
    """Whether a batch may follow if `expected` is the next offset."""
    if header.base_offset == expected:
        return True
    if not segment.may_have_gaps or not expected < header.base_offset <= segment.base_offset + RELATIVE_OFFSET_MAX:
        return False
    is_within = header.next_offset <= segment.end_offset or segment.end_offset == segment.base_offset
    return is_within and agrees_with_index(segment, position, header.last_offset)


def start_of_search(segment: CheckedSegment, offset: int, limit: int) -> tuple[int, Buffer]:
    """Where to start looking for `offset`, and what was read there. A wrong index is rebuilt.

    If the log is wrong instead of the index, the search starts before that place.
    """
    index = segment.index
    at = bisect_right(index.offsets, offset - segment.base_offset) - 1
    if at >= 0 and index.positions[at] >= limit:  # the high watermark may lie below the newest entries
        at = bisect_left(index.positions, limit) - 1
    while at >= 0:
        position = index.positions[at]
        chunk = segment.file.read(SCAN_BYTES, position)
        if entry_is_true(segment, index.offsets[at], chunk):
            return position, chunk
        if segment.parts.at(position) is None:
            if find_part(segment, position, max(segment.size, position + 1)) is None:
                logger.warning("%s.index does not match its log: rebuilding it", segment.path, extra=REBUILT)
                segment.rebuild_index()
                return start_of_search(segment, offset, limit)
            segment.damaged_at(position)
        at -= 1
    return 0, b""


def entry_is_true(segment: CheckedSegment, relative_offset: int, data: Buffer) -> bool:
    """Whether `data`, read where an index entry points, begins with the batch that the entry describes."""
    if len(data) < HEADER_BYTES:
        return False
    header = HEADER.unpack_from(data)
    return bool(header[3] == MAGIC and header[0] + header[6] == segment.base_offset + relative_offset)


def find_part(segment: CheckedSegment, position: int, limit: int) -> DamagedPart | None:
    """The first damaged part up to `position` that is not known yet; None if all of it is sound."""
    at, expected = start_of_chain(segment, position)
    while at <= position:
        header = header_if_sound(segment, at, limit)
        if header is None or not is_next(segment, header, at, expected):
            return DamagedPart(at, *following(segment, at, limit, expected))
        at, expected = at + header.size_bytes, header.next_offset
    return None


def force_part(segment: CheckedSegment, position: int) -> DamagedPart:
    """Treats the batch at `position` as a damaged part: its CRC and place are sound, but something else about it is not."""
    limit = max(segment.size, position + 1)
    head = segment.file.read(HEADER_BYTES, position)
    expected = read_header(head).base_offset if len(head) == HEADER_BYTES else segment.base_offset
    return DamagedPart(position, *following(segment, position, limit, expected))


def start_of_chain(segment: CheckedSegment, position: int) -> tuple[int, int]:
    """Where the last batch before `position` that is known to be sound begins or ends, and the offset there."""
    start, expected = 0, segment.base_offset
    for part in segment.parts.found:
        if start < part.end <= position:
            start, expected = part.end, part.end_offset
    index = segment.index
    for at in range(bisect_left(index.positions, position) - 1, -1, -1):
        found = index.positions[at]
        if found <= start:
            break
        header = header_if_sound(segment, found, segment.size)
        if header is not None and header.last_offset == segment.base_offset + index.offsets[at]:
            return found, header.base_offset
    return start, expected


def following(segment: CheckedSegment, position: int, limit: int, expected: int) -> tuple[int, int, int]:
    """Where the next sound batch is, after an unsound one; the offset expected there, and its first offset."""
    end, end_offset = next_sound(segment, position, limit, expected)
    return end, expected, end_offset


def next_sound(segment: CheckedSegment, position: int, limit: int, expected: int) -> tuple[int, int]:
    """Where the next sound batch is, after an unsound one, and its first offset; the end if there is none."""
    head = segment.file.read(HEADER_BYTES, position)
    if len(head) == HEADER_BYTES:
        header = read_header(head)
        after = position + header.size_bytes
        if header.magic == MAGIC and header.size_bytes >= HEADER_BYTES and after <= limit:
            if after == limit:
                return limit, end_of(segment, expected)
            found = header_if_sound(segment, after, limit)
            if found is not None and leads_on(segment, found, after, limit, expected):
                return after, found.base_offset
    start = position + 1
    for anchor in [*anchors(segment, position, limit), limit]:
        for candidate in candidates(segment, start, anchor):
            found = header_if_sound(segment, candidate, limit)
            if found is not None and leads_on(segment, found, candidate, limit, expected):
                return candidate, found.base_offset
        if anchor < limit:
            found = header_if_sound(segment, anchor, limit)
            if found is not None and found.base_offset > expected:
                return anchor, found.base_offset
        start = anchor
    return limit, end_of(segment, expected)


def end_of(segment: CheckedSegment, expected: int) -> int:
    """The offset at the segment's end. Damage costs at least one record."""
    return max(segment.end_offset, expected + 1)


def anchors(segment: CheckedSegment, position: int, limit: int) -> Iterator[int]:
    """The positions after `position` at which batches begin according to the index."""
    positions = segment.index.positions
    for at in range(bisect_right(positions, position), len(positions)):
        if positions[at] >= limit:
            return
        yield positions[at]


def leads_on(segment: CheckedSegment, header: BatchHeader, position: int, limit: int, expected: int) -> bool:
    """Whether the batches from this one on lead to one that the index knows, or to the end."""
    end_offset = segment.end_offset if segment.end_offset > expected else OFFSET_MAX
    if not expected < header.base_offset or header.last_offset >= end_offset:
        return False
    positions = segment.index.positions
    at = bisect_left(positions, position)
    anchor = positions[at] if at < len(positions) and positions[at] < limit else limit
    at, next_offset = position + header.size_bytes, header.next_offset
    while at < anchor:
        head = segment.file.read(HEADER_BYTES, at)
        if len(head) < HEADER_BYTES:
            return False
        later = read_header(head)
        if later.magic != MAGIC or later.size_bytes < HEADER_BYTES:
            return False
        if later.base_offset < next_offset or later.last_offset >= end_offset:
            return True  # that one is damaged too, but its length leads on
        at, next_offset = at + later.size_bytes, later.next_offset
    return at == anchor


def candidates(segment: CheckedSegment, start: int, end: int) -> Iterator[int]:
    """Positions at which bytes look like the header of a batch of this segment."""
    upper = segment.base_offset >> 32
    starts = b"|".join(re.escape(word.to_bytes(4, "big")) for word in (upper, upper + 1))
    pattern = re.compile(b"(?=(?:" + starts + rb").{4}[\x00-\x7f].{7}\x02)", re.DOTALL)
    found = 0
    while start < end:
        chunk = segment.file.read(min(SEARCH_BYTES, end - start) + HEADER_BYTES, start)
        for match in pattern.finditer(chunk):
            if start + match.start() >= end:
                break
            length = int.from_bytes(chunk[match.start() + 8 : match.start() + 12], "big")
            if length + LOG_OVERHEAD < HEADER_BYTES:
                continue
            found += 1
            if found > CANDIDATES_MAX:
                return
            yield start + match.start()
        start += SEARCH_BYTES
