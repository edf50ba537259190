"""The journal: what makes an append durable, whichever of thousands of logs it went to, with one sync.

Every batch that is appended to a log also goes into the journal. Batches that come while a sync is under way wait and
go together into the next one (group commit): no timer, as fast as the disk allows. A batch is acknowledged and becomes
visible when its group is synced. Logs are synced later, at a checkpoint; then the journal file that covered them is
free to be written over. Writing over blocks that exist is what makes a sync cheap, so files are recycled, and a new one
is filled with zeros a step ahead of its end.

    file    header block of 4096 bytes: magic, generation (8), CRC-32C of both; then entries, one behind the other
    entry   magic (4), CRC-32C of the rest of this header (4), generation (8), batch bytes (4), partition (4),
            topic id (16), base offset (8), then the batch

A batch carries its own CRC, so its bytes are not summed twice. Reading ends at the first entry that is not whole, not
of its file's generation or not sound: everything behind it was never acknowledged. A generation is a count, which grows
with every use of a file, and 32 random bits of this start: entries that an earlier life left behind in a file are never
taken for new ones, even where a crash has lost the count. Generation 0 marks a file that nobody needs.

The owner calls `append` for each batch, `take` when no group is being synced, then `write`, syncs the file that it
returns, elsewhere if it likes, and when that is done calls `synced`. A file that is full is left for the other one at a group's border; the
other one must have been retired by then, or `take` has nothing to give until it is. A failed sync is final.
"""

import errno
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from crc32c import crc32c

from headwater.effects.buffers import Buffer
from headwater.effects.files import File, Files
from headwater.protocol.records import CorruptBatchError, check_batch

FILE_MAGIC = b"HWJRNL01"
FILE_HEADER = struct.Struct(">8sQI")
FILE_HEADER_BYTES = 4096
ENTRY = struct.Struct(">IIQii16sq")
ENTRY_MAGIC = 0x48574A45
FILL_STEP_BYTES = 1 << 20
READ_CHUNK_BYTES = 4 << 20
FILES_MAX = 2
NONCE_BITS = 32
pack_entry_tail = struct.Struct(">Qii16sq").pack
pack_entry_head = struct.Struct(">II").pack


class JournalEntry(NamedTuple):
    """A batch found in the journal."""

    topic_id: bytes
    partition: int
    base_offset: int
    batch: memoryview


@dataclass(slots=True)
class Group:
    """Batches that become durable with one sync. `marks` has what the appender wants to know of each log then."""

    number: int
    generation: int
    buffers: list[Buffer] = field(default_factory=list)
    size_bytes: int = 0
    marks: dict[object, object] = field(default_factory=dict)


class JournalFile:
    """One recycled file: `filled` bytes exist on disk, `position` is where the next group goes."""

    def __init__(self, files: Files, path: str, fill_step_bytes: int = FILL_STEP_BYTES) -> None:
        self.path = path
        self.fill_step_bytes = fill_step_bytes
        self.file: File = files.open(path, create=True, pinned=True)
        self.filled = self.file.size()
        self.position = 0
        self.generation = self.read_generation()

    def read_generation(self) -> int:
        header = self.file.read(FILE_HEADER.size, 0)
        if len(header) < FILE_HEADER.size:
            return 0
        magic, generation, crc = FILE_HEADER.unpack(header)
        return int(generation) if magic == FILE_MAGIC and crc == crc32c(header[:16]) else 0

    def start(self, generation: int) -> None:
        """Begins to write over the file. The header goes to disk with the first group's sync."""
        head = FILE_MAGIC + struct.pack(">Q", generation)
        self.fill(FILE_HEADER_BYTES)
        self.file.write([head + struct.pack(">I", crc32c(head))], 0)
        self.generation, self.position = generation, FILE_HEADER_BYTES

    def fill(self, size: int) -> None:
        """Makes the file at least `size` bytes large, in steps, with real zeros."""
        while self.filled < size:
            self.file.write([bytes(self.fill_step_bytes)], self.filled)
            self.filled += self.fill_step_bytes

    def retire(self) -> None:
        """Says that nobody needs the content: the next start does not read it."""
        self.file.write([bytes(FILE_HEADER.size)], 0)
        self.generation = 0

    def entries(self) -> Iterator[JournalEntry]:
        """Every sound entry, in order."""
        chunk, chunk_at, position = memoryview(b""), 0, FILE_HEADER_BYTES
        while True:
            at = position - chunk_at
            if at + ENTRY.size > len(chunk):
                chunk, chunk_at, at = memoryview(self.file.read(READ_CHUNK_BYTES, position)), position, 0
                if len(chunk) < ENTRY.size:
                    return
            magic, crc, generation, size, partition, topic_id, base_offset = ENTRY.unpack_from(chunk, at)
            if magic != ENTRY_MAGIC or generation != self.generation or crc != crc32c(chunk[at + 8 : at + ENTRY.size]):
                return
            end = at + ENTRY.size + size
            if end > len(chunk):
                wanted = max(READ_CHUNK_BYTES, ENTRY.size + size)
                chunk, chunk_at, at = memoryview(self.file.read(wanted, position)), position, 0
                end = ENTRY.size + size
            batch = chunk[at + ENTRY.size : end]
            try:
                check_batch(batch)
            except CorruptBatchError:
                return
            yield JournalEntry(topic_id, partition, base_offset, batch)
            position = chunk_at + end


class Journal:
    """See the module's text."""

    def __init__(self, files: Files, directory: str, file_bytes: int, nonce: int) -> None:
        files.make_directory(directory)
        self.nonce = nonce
        self.file_bytes = file_bytes
        step = min(FILL_STEP_BYTES, file_bytes)
        self.files = [JournalFile(files, f"{directory}/{n}.journal", step) for n in range(FILES_MAX)]
        self.generation = max(file.generation for file in self.files)
        self.current = 0
        self.pending = Group(1, self.generation)
        self.closed_groups: deque[Group] = deque()
        self.waiting_bytes = 0
        self.bytes_in_file = 0

    def recovered(self) -> Iterator[JournalEntry]:
        """What the journal holds, oldest first. To be read before `start`."""
        for file in sorted(self.files, key=lambda f: f.generation):
            if file.generation:
                yield from file.entries()

    @property
    def has_free_file(self) -> bool:
        return any(file.generation == 0 for file in self.files)

    def start(self) -> None:
        """Begins a new generation in a free file. What the other one holds is needed until the next checkpoint."""
        self.generation = self.next_generation()
        self.pending.generation = self.generation
        self.current = next(n for n, file in enumerate(self.files) if file.generation == 0)
        self.files[self.current].start(self.generation)
        self.bytes_in_file = FILE_HEADER_BYTES

    def next_generation(self) -> int:
        return (self.generation >> NONCE_BITS) + 1 << NONCE_BITS | self.nonce

    def retire_all(self) -> None:
        """Says that every log is synced: the next start has nothing to read here."""
        for file in self.files:
            if file.generation:
                file.retire()

    def append(
        self, mark: object, value: object, topic_id: bytes, partition: int, base_offset: int, batch: Buffer
    ) -> int:
        """Takes a batch and returns the number of the group that will make it durable.

        `value` is kept under `mark` in the group's marks: of several under the same mark the last.
        """
        size = len(batch) + ENTRY.size
        if self.bytes_in_file + size > self.file_bytes and self.bytes_in_file > FILE_HEADER_BYTES:
            self.begin_generation()
        self.bytes_in_file += size
        self.waiting_bytes += size
        group = self.pending
        tail = pack_entry_tail(group.generation, size - ENTRY.size, partition, topic_id, base_offset)
        group.buffers.append(pack_entry_head(ENTRY_MAGIC, crc32c(tail)) + tail)
        group.buffers.append(batch)
        group.size_bytes += size
        group.marks[mark] = value
        return group.number

    def begin_generation(self) -> None:
        """Closes the group that waits: what comes from now on goes to the other file."""
        self.closed_groups.append(self.pending)
        self.generation = self.next_generation()
        self.pending = Group(self.pending.number + 1, self.generation)
        self.bytes_in_file = FILE_HEADER_BYTES

    def take(self) -> Group | None:
        """The batches that wait, as a group to be written; None when there are none, or no file is free for them."""
        group = self.closed_groups[0] if self.closed_groups else self.pending
        if group.generation != self.files[self.current].generation:
            other = self.files[1 - self.current]
            if other.generation:
                return None
            other.start(group.generation)
            self.current = 1 - self.current
        if self.closed_groups:
            group = self.closed_groups.popleft()
            return group if group.buffers else self.take()
        if not group.buffers:
            return None
        self.pending = Group(group.number + 1, group.generation)
        return group

    @property
    def newest_group(self) -> int:
        """The newest group that has content: when it is durable, so is all that was appended until now."""
        return self.pending.number if self.pending.buffers else self.pending.number - 1

    @property
    def full_file(self) -> JournalFile | None:
        """The file that was left when the other one began: to be retired after a checkpoint of what it holds."""
        other = self.files[1 - self.current]
        return other if other.generation else None

    def write(self, group: Group) -> JournalFile:
        """Puts the group into the page cache; returns the file that has to be synced now. Raises OSError."""
        file = self.files[self.current]
        file.fill(file.position + group.size_bytes)
        file.file.write(group.buffers, file.position)
        file.position += group.size_bytes
        return file

    def synced(self, group: Group) -> None:
        """To be called in the owner's thread when `write` has returned."""
        self.waiting_bytes -= group.size_bytes

    @property
    def descriptors(self) -> list[int]:
        """The numbers under which this process has the files open, in the order of `files`; on disk only."""
        return [file.file.descriptor for file in self.files]

    def close(self) -> None:
        for file in self.files:
            file.file.close()


def is_disk_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
