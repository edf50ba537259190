"""Reads the entries of a journal file: every one that was acknowledged, past damage, but not beyond a torn tail.

    entry   magic (4), CRC-32C of the rest of this header (4), generation (8), batch bytes (4), partition (4),
            topic id (16), base offset (8), CRC-32C of the batch's first 21 bytes (4), then the batch
    gathered
            an entry with several batches of a log, which follow each other: another magic, the same fields, but the last
            CRC-32C covers all the batches, and is followed by the offset after them (8) and their leader epoch (4), which no
            CRC of their own covers
    mark    an entry before each sync's entries. Its topic id is `MARK_ID`, its partition is the size of that sync's entries
            in bytes, its base offset is the sync's number, and its batch has no records

A sync is written only when the one before is done. So after a power cut any part of the last sync may be missing. That is a
torn tail: it was never acknowledged, and is skipped silently. But an unsound place before the mark of a later sync was on
disk once, so it is damage. It is reported, and reading continues after it. If the header of an entry is sound, it says whose
batch is lost, and where the next entry begins. Otherwise the next entry is found by searching for the generation, which has
32 random bits. In a file that the same broker exchanged for the other one, every sync was completed.

A batch's own CRC, and the fields that it does not cover, are in its first 21 bytes. So the entry's header has a CRC of those
bytes, which says which batch follows. Without it, a power cut in the middle of a write could leave a new header before an
old batch of the same size, from an earlier use of the file, and each would be sound by itself.

Files of an earlier version may have no marks, and entries without that CRC. Their file headers and entries have other magic
numbers. Until a mark was found in such a file, any later sound entry shows that an unsound place is damage.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from crc32c import crc32c

from headwater.effects.buffers import Buffer
from headwater.effects.files import File
from headwater.protocol.errors import ProtocolError
from headwater.protocol.records import (
    HEADER,
    HEADER_BYTES,
    LOG_OVERHEAD,
    MAGIC,
    BatchHeader,
    check_batch,
    read_header,
    write_crc,
)

FILE_HEADER_BYTES = 4096
ENTRY, EARLIER_ENTRY = struct.Struct(">IIQii16sqI"), struct.Struct(">IIQii16sq")
GATHERED_ENTRY = struct.Struct(">IIQii16sqIqi")
ENTRY_MAGIC, EARLIER_ENTRY_MAGIC, GATHERED_MAGIC = 0x48574A46, 0x48574A45, 0x48574A47
LAYOUTS = {ENTRY_MAGIC: ENTRY, EARLIER_ENTRY_MAGIC: EARLIER_ENTRY, GATHERED_MAGIC: GATHERED_ENTRY}
HEAD_BYTES = 21  # of a batch, up to and including its CRC
GENERATION_AT = 8
READ_CHUNK_BYTES = 4 << 20
MARK_ID = b"headwater-group\0"
pack_entry_tail = struct.Struct(">Qii16sqI").pack
pack_gathered_tail = struct.Struct(">Qii16sqIqi").pack
pack_entry_head = struct.Struct(">II").pack


def empty_batch(base_offset: int = 0, last_offset_delta: int = 0, leader_epoch: int = 0) -> bytes:
    """A batch without records: readers skip its offsets."""
    batch = bytearray(HEADER_BYTES)
    length = HEADER_BYTES - LOG_OVERHEAD
    fields = (base_offset, length, leader_epoch, MAGIC, 0, 0, last_offset_delta, -1, -1, -1, -1, -1, 0)
    HEADER.pack_into(batch, 0, *fields)
    write_crc(batch)
    return bytes(batch)


MARK_BATCH = empty_batch()
MARK_BYTES = ENTRY.size + len(MARK_BATCH)


class JournalEntry(NamedTuple):
    """A batch found in the journal."""

    topic_id: bytes
    partition: int
    base_offset: int
    batch: memoryview


class JournalDamage(NamedTuple):
    """Bytes of the journal that were on disk once and are no longer sound.

    If the entry's header is sound, its topic id, partition and offsets are known. `end_offset` comes from the batch, as far
    as that can be believed, and is always greater than `base_offset`.
    """

    path: str
    position: int
    size_bytes: int
    topic_id: bytes | None = None
    partition: int = -1
    base_offset: int = -1
    end_offset: int = -1


class EntryHeader(NamedTuple):
    """The header of an entry, which comes before its batches."""

    magic: int
    crc: int
    generation: int
    size: int
    partition: int
    topic_id: bytes
    base_offset: int
    content_crc: int | None = None  # of the batch's first bytes, or of all gathered ones; an earlier version wrote none
    end_offset: int = -1  # of gathered batches, as is the epoch
    leader_epoch: int = -1

    @property
    def header_bytes(self) -> int:
        return LAYOUTS[self.magic].size

    @property
    def is_gathered(self) -> bool:
        return self.magic == GATHERED_MAGIC

    @property
    def size_bytes(self) -> int:
        """The size of the entry with its batches."""
        return self.header_bytes + self.size


def gathered_header(
    generation: int, partition: int, topic_id: bytes, offsets: tuple[int, int], leader_epoch: int, batches: bytes
) -> bytes:
    """The header of an entry that has several batches of a log: those from one offset to before another."""
    base, end = offsets
    crc = crc32c(batches)
    tail = pack_gathered_tail(generation, len(batches), partition, topic_id, base, crc, end, leader_epoch)
    return pack_entry_head(GATHERED_MAGIC, crc32c(tail)) + tail


def entry_header(generation: int, partition: int, topic_id: bytes, base_offset: int, batch: Buffer) -> bytes:
    """The header of an entry that has one batch."""
    tail = pack_entry_tail(generation, len(batch), partition, topic_id, base_offset, crc32c(batch[:HEAD_BYTES]))
    return pack_entry_head(ENTRY_MAGIC, crc32c(tail)) + tail


def sync_mark(generation: int, number: int, size_bytes: int) -> bytes:
    """The mark that comes before a sync of that size."""
    return entry_header(generation, size_bytes, MARK_ID, number, MARK_BATCH) + MARK_BATCH


@dataclass(slots=True)
class Window:
    """The part of a file that is in memory."""

    file: File
    at: int = 0
    chunk: memoryview = field(default_factory=lambda: memoryview(b""))

    def view(self, position: int, size: int) -> memoryview:
        """Up to `size` bytes at `position`; fewer at the end of the file."""
        start = position - self.at
        if start < 0 or start + size > len(self.chunk):
            self.at, start = position, 0
            self.chunk = memoryview(self.file.read(max(size, READ_CHUNK_BYTES), position))
        return self.chunk[start : start + size]


class EntryReader:
    """Reads one file's entries of one generation. `is_complete`: every sync in the file is known to have been on disk.

    With `only`, a topic's id, the batches of other topics are skipped unread.
    """

    def __init__(self, file: File, path: str, generation: int, *, is_complete: bool, only: bytes | None = None) -> None:
        self.only = only
        self.window = Window(file)
        self.file_bytes = file.size()
        self.path = path
        self.generation = generation
        self.is_complete = is_complete
        self.has_marks = False
        self.sync_end = FILE_HEADER_BYTES
        # Items from the first unsound place on, until a later sync proves that it is damage.
        self.unproved: list[JournalEntry | JournalDamage] = []

    def items(self) -> Iterator[JournalEntry | JournalDamage]:
        """Entries in order, and the damage between them."""
        position = FILE_HEADER_BYTES
        while position < self.file_bytes:
            header = self.header_at(position)
            if header is not None and self.is_passed_over(header):
                position += header.size_bytes
                continue
            entries = self.entries_at(position, header) if header is not None else None
            if header is None or entries is None:
                following = self.following(position, header)
                is_end = following is None and position >= self.sync_end
                if not is_end:
                    end = self.file_bytes if following is None else following
                    self.unproved += self.damage(position, end, header)
                if following is None:
                    break
                position = following
                continue
            position += header.size_bytes
            if header.topic_id == MARK_ID:
                self.has_marks, self.sync_end = True, position + header.partition
                yield from self.proven_entries()
                continue
            if not self.unproved:
                yield from entries
                continue
            self.unproved += entries
            if not self.has_marks:
                yield from self.proven_entries()
        if self.is_complete:
            yield from self.proven_entries()

    def is_passed_over(self, header: EntryHeader) -> bool:
        return self.only is not None and header.topic_id not in (self.only, MARK_ID)

    def proven_entries(self) -> list[JournalEntry | JournalDamage]:
        found, self.unproved = self.unproved, []
        return found

    def header_at(self, position: int) -> EntryHeader | None:
        """The entry's header at `position`, if a sound one of this generation is there."""
        view = self.window.view(position, GATHERED_ENTRY.size)
        header = sound_header(view)
        return header if header is not None and header.generation == self.generation else None

    def entries_at(self, position: int, header: EntryHeader) -> list[JournalEntry] | None:
        """The entry's batches, if they are sound."""
        content = self.window.view(position, header.size_bytes)[header.header_bytes :]
        if len(content) < header.size:
            return None
        if header.is_gathered:
            if crc32c(content) != header.content_crc:
                return None
            found = list(self.parts(position, header))
            sound = [part for part in found if isinstance(part, JournalEntry)]
            return sound if len(sound) == len(found) else None
        if header.content_crc not in (None, crc32c(content[:HEAD_BYTES])) or not is_sound_batch(content, header.size):
            return None
        return [JournalEntry(header.topic_id, header.partition, header.base_offset, content)]

    def parts(self, position: int, header: EntryHeader) -> Iterator[JournalEntry | JournalDamage]:
        """The sound batches of a gathered entry, and the damage between them.

        After an unsound batch the next one is where its length leads, if there is a batch with the right offset. If not, all
        the rest is damage: no offset of it may be used again.
        """
        at = position + header.header_bytes
        content, expected = self.window.view(at, header.size), header.base_offset
        start = 0
        while start < header.size:
            batch = header_in(content, start, expected)
            end = start + batch.size_bytes if batch is not None else header.size
            next_offset = batch.next_offset if batch is not None else header.end_offset
            view = content[start:end]
            has_epoch = batch is not None and batch.leader_epoch == header.leader_epoch
            if has_epoch and is_sound_batch(view, end - start):
                yield JournalEntry(header.topic_id, header.partition, expected, view)
            else:
                is_last = end == header.size and next_offset == header.end_offset
                if not is_last and header_in(content, end, next_offset) is None:
                    end, next_offset = header.size, header.end_offset
                place = (self.path, at + start, end - start)
                yield JournalDamage(*place, header.topic_id, header.partition, expected, next_offset)
            start, expected = end, next_offset

    def following(self, position: int, header: EntryHeader | None) -> int | None:
        """Where reading continues after an unsound place: at the end of that entry, or at the next sound header."""
        if header is not None:
            end = position + header.size_bytes
            return end if end < self.file_bytes else None
        wanted = self.generation.to_bytes(8, "big")
        position += 1
        while position < self.file_bytes:
            chunk = bytes(self.window.view(position, READ_CHUNK_BYTES))
            at = chunk.find(wanted)
            while at >= 0:
                if at >= GENERATION_AT and self.header_at(position + at - GENERATION_AT) is not None:
                    return position + at - GENERATION_AT
                at = chunk.find(wanted, at + 1)
            position += max(1, len(chunk) - ENTRY.size)
        return None

    def damage(self, position: int, end: int, header: EntryHeader | None) -> "list[JournalEntry | JournalDamage]":
        """What an unsound place was, as far as that can be known; for a gathered entry also the batches that are sound."""
        if header is None or header.topic_id == MARK_ID:
            return [JournalDamage(self.path, position, end - position)]
        if header.is_gathered:
            return list(self.parts(position, header))
        view = self.window.view(position + header.header_bytes, HEADER_BYTES)
        last_delta = 0
        if len(view) == HEADER_BYTES:
            batch = read_header(view)
            last_delta = batch.last_offset_delta if batch.records_count == batch.last_offset_delta + 1 else 0
        end_offset = header.base_offset + 1 + max(0, last_delta)
        place = (self.path, position, end - position)
        return [JournalDamage(*place, header.topic_id, header.partition, header.base_offset, end_offset)]


def is_sound_batch(batch: memoryview, size: int) -> bool:
    """Whether these bytes are one sound batch of that size."""
    try:
        return check_batch(batch).size_bytes == size
    except ProtocolError:
        return False


def header_in(content: memoryview, at: int, base_offset: int) -> BatchHeader | None:
    """The header of the batch at a place of a gathered entry, if one with that offset can be there."""
    if len(content) - at < HEADER_BYTES:
        return None
    header = read_header(content, at)
    fits = header.magic == MAGIC and HEADER_BYTES <= header.size_bytes <= len(content) - at
    return header if fits and header.base_offset == base_offset and header.last_offset_delta >= 0 else None


def sound_header(view: memoryview) -> EntryHeader | None:
    """The header of an entry that `view` begins with, if it is sound."""
    layout = LAYOUTS.get(int.from_bytes(view[:4], "big"))
    if layout is None or len(view) < layout.size:
        return None
    header = EntryHeader(*layout.unpack_from(view))
    is_sound = header.crc == crc32c(view[GENERATION_AT : layout.size]) and header.size >= 0
    return header if is_sound else None


def first_generation(file: File) -> int:
    """The generation of the first entry that has a sound header; 0 if none has."""
    window, position = Window(file), FILE_HEADER_BYTES
    magics = re.compile(b"|".join(re.escape(magic.to_bytes(4, "big")) for magic in LAYOUTS))
    size = file.size()
    while position < size:
        chunk = bytes(window.view(position, READ_CHUNK_BYTES))
        for match in magics.finditer(chunk):
            header = sound_header(window.view(position + match.start(), GATHERED_ENTRY.size))
            if header is not None:
                return header.generation
        position += max(1, len(chunk) - ENTRY.size)
    return 0
