"""Mends a damaged segment: what was written is restored if the bytes allow it; otherwise its offsets are given up.

        a header     base offset, length, leader epoch and format are known from what is around a batch. If its CRC is right
                 with those values, they are put back, and nothing is lost.
    a bit        a CRC shows which single bit of a batch was flipped, so it is flipped back. Damage of more bits can look
                 like that of one, and the larger a batch is, the more likely that is. So this is done only in batches of up
                 to 16 KiB, and only if their records can be read afterwards.
    giving up    an empty batch replaces the damaged or missing part, and has its offsets. Consumers skip them, like those
                 that compaction has removed.

If anything moves to another place in the file, the indexes and the sums are wrong. They are removed, and rebuilt later.
"""

from typing import NamedTuple

from crc32c import crc32c

from headwater.effects.files import Files
from headwater.effects.overlay_files import OverlayFiles
from headwater.protocol.errors import ProtocolError
from headwater.protocol.records import (
    ABORT_MARKER,
    ATTRIBUTES_AT,
    CONTROL,
    HEADER,
    HEADER_BYTES,
    LOG_OVERHEAD,
    MAGIC,
    TRANSACTIONAL,
    BatchHeader,
    build_batch,
    control_record,
    read_header,
    records,
)
from headwater.storage.journal_entries import empty_batch
from headwater.storage.log import Log
from headwater.storage.segment import Segment, segment_name
from headwater.storage.soundness import OFFSET_MAX, DamagedPart
from headwater.storage.sums import SUMS_SUFFIX

BATCH_BYTES_MAX = 64 << 20  # the most that is examined to restore a batch
BIT_BYTES_MAX = 16 << 10
CRC_AT = 17
DELTA_MAX = (1 << 31) - 1
INDEX_SUFFIXES = (".index", ".timeindex", SUMS_SUFFIX)
TABLE = tuple(crc32c(bytes([byte])) ^ crc32c(b"\0") for byte in range(256))  # the CRC is linear except for a constant


class Mended(NamedTuple):
    """What was done: the file, the place, and a description. `is_lossless`: everything that was written is back."""

    path: str
    position: int
    words: str
    is_lossless: bool


def mend_part(
    files: OverlayFiles, log: Log, segment: Segment, part: DamagedPart, *, may_give_up: bool
) -> Mended | None:
    """Mends a damaged part of a segment; None if that is not possible. Raises OSError."""
    path = segment.path + ".log"
    size = part.end - part.position
    if size <= BATCH_BYTES_MAX:
        batch = brought_back(log, segment, part, segment.file.read(size, part.position))
        if batch is not None:
            file = files.open(path)
            file.write([batch], part.position)
            return Mended(path, part.position, "the damaged bits were put back: nothing is lost", is_lossless=True)
    if not may_give_up:
        return None
    end_offset = end_of(log, segment, part)
    layer = files.layer(path)
    if layer is None or end_offset <= part.start_offset:
        return None
    layer.replace(part.position, part.end, fillers(log, part.start_offset, end_offset))
    forget_indexes(files, segment.path)
    return Mended(path, part.position, describe_loss(part.start_offset, end_offset), is_lossless=False)


def mend_gap(files: OverlayFiles, log: Log, start: int, end: int) -> Mended | None:
    """Puts an empty batch in place of missing records. Raises OSError."""
    filler = fillers(log, start, end)
    before = [segment for segment in log.segments if segment.base_offset <= start]
    segment = before[-1] if before else None
    if segment is not None and (segment.base_offset == start or was_cut(segment)):
        if segment.size and segment.end_offset != start:
            return None
        path, position = segment.path + ".log", segment.size
        file = files.open(path, create=True)
        file.truncate(position)
        file.write([filler], position)
        forget_indexes(files, segment.path)
        return Mended(path, position, describe_loss(start, end), is_lossless=False)
    files.make_directory(log.directory)
    path = f"{log.directory}/{segment_name(start)}"
    forget_indexes(files, path)
    file = files.open(path + ".log", create=True)
    file.truncate(0)
    file.write([filler], 0)
    return Mended(path + ".log", 0, describe_loss(start, end), is_lossless=False)


def was_cut(segment: Segment) -> bool:
    """Whether a segment is smaller than it was, or only a part of it is sound."""
    sums = segment.known_sums()
    return segment.is_damaged or segment.file.size() != segment.size or (sums is not None and sums.size > segment.size)


def describe_loss(start: int, end: int) -> str:
    return f"an empty batch now has the offsets {start} to {end - 1}, and consumers skip them"


def end_of(log: Log, segment: Segment, part: DamagedPart) -> int:
    """The offset at which a damaged part ends."""
    at = log.base_offsets.index(segment.base_offset)
    following = log.base_offsets[at + 1] if at + 1 < len(log.base_offsets) else log.end_offset
    return min(part.end_offset, following) if part.end_offset < OFFSET_MAX else following


def fillers(log: Log, start: int, end: int) -> bytes:
    """Batches that fill these offsets: empty ones, and the markers of transactions that were aborted there.

    Without the marker, a consumer would discard everything that such a producer writes until the next one.
    """
    aborted = [
        *log.lost_aborted,
        *(entry for segment in log.segments for entry in log.aborted_in(segment).ending_from(0)),
    ]
    markers = {entry.last_offset: entry.producer_id for entry in aborted if start <= entry.last_offset < end}
    found = b""
    for offset in [*sorted(markers), end]:
        while start < offset:
            delta = min(offset - start - 1, DELTA_MAX)
            found += empty_batch(start, delta, epoch_at(log, start))
            start += delta + 1
        if offset < end:
            entry = log.producers.entries.get(markers[offset])
            found += build_batch(
                [control_record(ABORT_MARKER, 0, 0)],
                base_offset=offset,
                leader_epoch=epoch_at(log, offset),
                attributes=CONTROL | TRANSACTIONAL,
                producer_id=markers[offset],
                producer_epoch=entry.epoch if entry is not None else 0,
            )
            start = offset + 1
    return found


def epoch_at(log: Log, offset: int) -> int:
    epoch, _ = log.epochs.at(offset)
    return epoch if epoch >= 0 else max(0, log.epochs.last)


def forget_indexes(files: Files, path: str) -> None:
    for suffix in INDEX_SUFFIXES:
        if files.exists(path + suffix):
            files.remove(path + suffix)


# restoring a batch


def brought_back(log: Log, segment: Segment, part: DamagedPart, damaged: bytes) -> bytes | None:
    """The batch that was in place of a damaged part; None if the bytes do not show it."""
    if len(damaged) < HEADER_BYTES:
        return None
    batch = bytearray(damaged)
    header = read_header(batch)
    batch[:ATTRIBUTES_AT] = HEADER.pack(0, len(batch) - LOG_OVERHEAD, 0, MAGIC, *header[4:])[:ATTRIBUTES_AT]
    is_right = crc32c(memoryview(batch)[ATTRIBUTES_AT:]) == header.crc
    if not is_right and not flip_back(batch, header.crc):
        return None
    found = read_header(batch)
    base = base_of(segment, part, found, header.base_offset if not is_right else -1)
    epoch = log.epochs.at(base)[0] if log.compared_epochs is not None else -1
    found = found._replace(base_offset=base, leader_epoch=epoch if epoch >= 0 else header.leader_epoch)
    HEADER.pack_into(batch, 0, *found)
    return bytes(batch) if base >= 0 and fits(log, segment, part, found, batch) else None


def base_of(segment: Segment, part: DamagedPart, header: BatchHeader, stated: int) -> int:
    """The base offset of a batch. Normally it is the expected one. If there may be gaps, it is the one in the index, or else
    `stated`, the one in a batch that was damaged elsewhere. -1 if it is not known."""
    if not segment.may_have_gaps:
        return part.start_offset
    for relative, position in zip(segment.index.offsets, segment.index.positions, strict=True):
        if position == part.position:
            return segment.base_offset + relative - header.last_offset_delta
    return stated


def fits(log: Log, segment: Segment, part: DamagedPart, header: BatchHeader, batch: bytearray) -> bool:
    """Whether the batch fits between its neighbours, and its records can be read."""
    end_offset = end_of(log, segment, part)
    if header.base_offset < part.start_offset or header.last_offset_delta < 0 or header.next_offset > end_offset:
        return False
    if not segment.may_have_gaps and (header.base_offset != part.start_offset or header.next_offset != end_offset):
        return False
    try:
        return sum(1 for _ in records(header, batch)) == header.records_count
    except ProtocolError:
        return False


def flip_back(batch: bytearray, stored: int) -> bool:
    """Flips one bit back so that the batch and its CRC agree; False if there is no such bit."""
    wrong = crc32c(memoryview(batch)[ATTRIBUTES_AT:]) ^ stored
    if wrong.bit_count() == 1:  # the flipped bit is in the CRC itself
        batch[CRC_AT : CRC_AT + 4] = (stored ^ wrong).to_bytes(4, "big")
        return True
    if len(batch) > BIT_BYTES_MAX:
        return False
    changes = [TABLE[1 << bit] for bit in range(8)]  # how flipping each bit of a byte changes the CRC
    for at in range(len(batch) - 1, ATTRIBUTES_AT - 1, -1):
        if wrong in changes:
            batch[at] ^= 1 << changes.index(wrong)
            return True
        changes = [change >> 8 ^ TABLE[change & 0xFF] for change in changes]
    return False
