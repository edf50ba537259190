"""The journal makes appends durable with one sync, whichever of thousands of logs they went to.

Every batch that is appended to a log also goes into the journal. Batches that arrive during a sync wait, and go into the
next one together (group commit). This needs no timer, and is as fast as the disk allows. When its sync is done, a batch is
acknowledged and becomes visible. Logs are synced later, at a checkpoint. After that the journal file that covered them may
be overwritten. A sync is cheap if it overwrites existing blocks, so files are recycled, and a new file is filled with
zeros a step ahead of its end.

    file    header block of 4096 bytes: magic, generation (8), CRC-32C of both; then syncs, one after the other
        sync    what goes to disk together: a mark, then one entry per batch (`journal_entries.py`)

A batch carries its own CRC, so its bytes are not summed twice. Reading ends at the first entry that is not whole, not of the
file's generation or not sound, unless a later sync proves that it was on disk once. A generation has a counter, which
grows with every use of a file, and 32 random bits, drawn at each start. So entries that an earlier process left in a file
are never mistaken for new ones, even if a crash has lost the counter. A header of zeros marks a file that is not needed. A
header that is neither zeros nor sound is damaged; then the first entry says which generation the file has.

The owner calls `append` for each batch, or `gather` for a small one: the batches of a log that were gathered become one entry.
When no sync is under way it calls `take`, then `write`, and syncs the file whose
number `write` returns, here (`sync`) or elsewhere. When that is done it calls `synced`. The driver decides when:
`broker/durability.py`. Between two syncs, a full file is exchanged for the other one. That one must have been erased by
then; until it is, `take` returns nothing. A failed sync is final.

A start after a crash needs the content of both files until a checkpoint is complete, which takes seconds if there are many
logs. So that no client has to wait for that, the journal continues in one of the spare files, which are otherwise empty.
Only if they are in use too, because several starts in a row were killed, a checkpoint comes first.
"""

import errno
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from headwater.effects.buffers import Buffer
from headwater.effects.files import Files
from headwater.replay.sync_number import SyncNumber
from headwater.storage.journal_entries import (
    ENTRY,
    FILE_HEADER_BYTES,
    GATHERED_ENTRY,
    MARK_BYTES,
    JournalDamage,
    JournalEntry,
    entry_header,
    gathered_header,
    sync_mark,
)
from headwater.storage.journal_file import FILL_STEP_BYTES, NONCE_BITS, JournalFile, items_of

PART_BYTES_MAX = 1 << 20
FILES = 2
SPARE_FILES = 2  # used only at starts
FILES_MAX = FILES + SPARE_FILES


class JournaledLog(Protocol):
    """What the journal needs of a log, to gather its batches."""

    topic_id: bytes
    partition: int
    end_offset: int
    leader_epoch: int

    def mark(self) -> object:
        """The log's end, to be kept in the sync's marks."""
        ...


@dataclass(slots=True)
class Part:
    """Batches of one log that become one entry."""

    base_offset: int
    buffers: list[Buffer] = field(default_factory=list)
    size_bytes: int = 0


@dataclass(slots=True)
class Sync:
    """Batches that become durable with one sync. `marks` holds a value per log, for the owner to use when the sync is done."""

    number: SyncNumber
    generation: int
    buffers: list[Buffer] = field(default_factory=list)
    size_bytes: int = 0
    marks: dict[object, object] = field(default_factory=dict)


class Journal:
    """See the module's docstring."""

    def __init__(self, files: Files, directory: str, file_bytes: int, nonce: int) -> None:
        files.make_directory(directory)
        self.nonce = nonce
        self.file_bytes = file_bytes
        step = min(FILL_STEP_BYTES, file_bytes)
        self.files = [
            JournalFile(files, f"{directory}/{n}.journal", step, is_spare=n >= FILES) for n in range(FILES_MAX)
        ]
        self.generation = max(file.generation for file in self.files)
        self.current = 0
        self.pending = Sync(SyncNumber(1), self.generation)
        self.closed_syncs: deque[Sync] = deque()
        self.waiting_bytes = 0
        self.bytes_in_file = 0
        self.blocks_end = 0  # where the current file's blocks for the next sync end; 0 if that sync goes elsewhere
        self.parts: dict[JournaledLog, Part] = {}  # what was gathered for the next sync
        self.has_full_file = False  # whether there are `full_files`

    def recover(self, only: bytes | None = None) -> Iterator[JournalEntry | JournalDamage]:
        """The entries of the journal, oldest first, and the damage between them. Read them before `start`.

        With `only`, a topic's id, yields the entries of that topic; damage elsewhere may go unnoticed.
        """
        yield from items_of(self.files, only)

    def sync_recovered(self) -> None:
        """Syncs whatever an earlier process has written. Raises SyncError."""
        for file in self.files:
            if file.generation or file.is_header_damaged:
                file.file.sync()

    def set_foreign_aside(self) -> None:
        """Sets files aside that no broker has written, before they are used. Raises OSError."""
        for file in self.files:
            if file.is_header_damaged and not file.generation:
                file.set_aside()

    @property
    def has_free_file(self) -> bool:
        return any(file.generation == 0 for file in self.files)

    def free_file(self) -> int:
        """The number of a free file; a spare one only if there is no other."""
        return next(n for n, file in enumerate(self.files) if file.generation == 0)

    def start(self) -> None:
        """Begins a new generation in a free file. The content of the others is needed until the next checkpoint."""
        self.generation = self.next_generation()
        self.pending.generation = self.generation
        self.current = self.free_file()
        self.files[self.current].start(self.generation)
        self.has_full_file = bool(self.full_files)
        self.bytes_in_file = FILE_HEADER_BYTES
        self.find_blocks()

    def find_blocks(self) -> None:
        """Finds out how far the current file has blocks for the next sync."""
        file = self.files[self.current]
        is_next = self.pending.generation == file.generation and not self.closed_syncs
        self.blocks_end = min(file.filled, self.file_bytes) if is_next else 0

    def has_blocks_for(self, size: int) -> bool:
        """Whether the next sync can be written even if the disk is full, with a batch of that size more."""
        return self.bytes_in_file + size + GATHERED_ENTRY.size + MARK_BYTES <= self.blocks_end

    def next_generation(self) -> int:
        return (self.generation >> NONCE_BITS) + 1 << NONCE_BITS | self.nonce

    def retire_all(self) -> None:
        """Records that every log is synced: the next start has nothing to read here."""
        needed = [file for file in self.files if file.generation]
        for file in needed:
            file.erase()
        self.release(needed)

    def release(self, files: Iterable[JournalFile]) -> None:
        """Marks these files, which were erased, as free."""
        for file in files:
            file.release()
        self.has_full_file = bool(self.full_files)

    def append(
        self, mark: object, value: object, topic_id: bytes, partition: int, base_offset: int, batch: Buffer
    ) -> SyncNumber:
        """Accepts a batch and returns the number of the sync that will make it durable.

        `value` is kept in the sync's marks under `mark`. If there are several, the last one counts.
        """
        if self.parts:
            self.seal()
        size = len(batch) + ENTRY.size
        if self.bytes_in_file + size > self.file_bytes and self.bytes_in_file > FILE_HEADER_BYTES:
            self.begin_generation()
        self.bytes_in_file += size
        self.waiting_bytes += size
        sync = self.pending
        sync.buffers.append(entry_header(sync.generation, partition, topic_id, base_offset, batch))
        sync.buffers.append(batch)
        sync.size_bytes += size
        sync.marks[mark] = value
        return sync.number

    def gather(self, log: JournaledLog, base_offset: int, batch: Buffer) -> SyncNumber:
        """As `append`, for a batch for which there are blocks. Batches of a log become one entry, so `batch` must not change.

        The log's mark is that of the moment when the entry is made: before anything else is appended to the log.
        """
        size = len(batch)
        part = self.parts.get(log)
        if part is None or part.size_bytes > PART_BYTES_MAX:
            if part is not None:
                self.seal()
            part = self.parts[log] = Part(base_offset)
            size += GATHERED_ENTRY.size
        part.buffers.append(batch)
        part.size_bytes += size
        sync = self.pending
        sync.size_bytes += size
        self.bytes_in_file += size
        self.waiting_bytes += size
        return sync.number

    def seal(self) -> None:
        """Makes entries of what was gathered: whatever is appended next comes after it."""
        sync = self.pending
        for log, part in self.parts.items():
            content = b"".join(part.buffers)
            sync.buffers.append(
                gathered_header(
                    sync.generation,
                    log.partition,
                    log.topic_id,
                    (part.base_offset, log.end_offset),
                    log.leader_epoch,
                    content,
                )
            )
            sync.buffers.append(content)
            sync.marks[log] = log.mark()
        self.parts = {}

    def begin_generation(self) -> None:
        """Closes the waiting sync: from now on batches go to the other file."""
        self.closed_syncs.append(self.pending)
        self.generation = self.next_generation()
        self.pending = Sync(SyncNumber(self.pending.number + 1), self.generation)
        self.bytes_in_file = FILE_HEADER_BYTES
        self.blocks_end = 0

    def take(self) -> Sync | None:
        """The waiting batches, as a sync to be written; None if there are none, or if no file is free for them."""
        if self.parts:
            self.seal()
        sync = self.closed_syncs[0] if self.closed_syncs else self.pending
        if sync.generation != self.files[self.current].generation and self.has_full_file:
            return None
        if self.closed_syncs:
            sync = self.closed_syncs.popleft()
            return sync if sync.buffers else self.take()
        if not sync.buffers:
            return None
        self.pending = Sync(SyncNumber(sync.number + 1), sync.generation)
        self.bytes_in_file += MARK_BYTES
        return sync

    @property
    def newest_sync(self) -> SyncNumber:
        """The newest sync that has content. When it is durable, everything that was appended until now is durable."""
        return self.pending.number if self.pending.size_bytes else SyncNumber(self.pending.number - 1)

    @property
    def full_files(self) -> list[JournalFile]:
        """Files that were left for another one. A checkpoint of their content erases them."""
        return [file for n, file in enumerate(self.files) if file.generation and n != self.current]

    def write(self, sync: Sync) -> int:
        """Writes a sync into the page cache; returns the number of the file that has to be synced now. Raises OSError."""
        if sync.generation != self.files[self.current].generation:
            free = self.free_file()
            self.files[free].start(sync.generation)
            self.current = free
            self.has_full_file = bool(self.full_files)
        file = self.files[self.current]
        mark = sync_mark(sync.generation, sync.number, sync.size_bytes)
        size = MARK_BYTES + sync.size_bytes
        file.fill(file.position + size)
        file.file.write([mark, *sync.buffers], file.position)
        file.position += size
        self.find_blocks()
        return self.current

    def sync(self, file: int) -> None:
        """Returns when what was written to that file is on disk. Raises SyncError."""
        self.files[file].file.sync()

    def synced(self, sync: Sync) -> None:
        """Call this in the owner's thread when `write` has returned."""
        self.waiting_bytes -= sync.size_bytes

    @property
    def descriptors(self) -> list[int]:
        """This process's descriptors of the files, in the order of `files`; only if they are on disk."""
        return [file.file.descriptor for file in self.files]

    def close(self) -> None:
        for file in self.files:
            file.file.close()


def is_disk_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
