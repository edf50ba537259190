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

The owner calls `append` for each batch. When no sync is under way it calls `take`, then `write`, and syncs the file whose
number `write` returns, here (`sync`) or elsewhere. When that is done it calls `synced`. The driver decides when:
`broker/durability.py`. Between two syncs, a full file is exchanged for the other one. That one must have been erased by
then; until it is, `take` returns nothing. A failed sync is final.

A start after a crash needs the content of both files until a checkpoint is complete, which takes seconds if there are many
logs. So that no client has to wait for that, the journal continues in one of the spare files, which are otherwise empty.
Only if they are in use too, because several starts in a row were killed, a checkpoint comes first.
"""

import errno
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest

from crc32c import crc32c

from headwater.effects.buffers import Buffer
from headwater.effects.files import File, Files, free_name
from headwater.effects.logs import get_logger
from headwater.replay.sync_number import SyncNumber
from headwater.storage.journal_entries import (
    ENTRY,
    FILE_HEADER_BYTES,
    MARK_BYTES,
    EntryReader,
    JournalDamage,
    JournalEntry,
    entry_header,
    first_generation,
    sync_mark,
)

logger = get_logger(__name__)

ASIDE_SUFFIX = ".aside"
FILE_MAGIC, EARLIER_MAGIC = b"HWJRNL02", b"HWJRNL01"  # syncs in earlier files may have no marks
FILE_HEADER = struct.Struct(">8sQI")
FILL_STEP_BYTES = 1 << 20
FILES = 2
SPARE_FILES = 2  # used only at starts
FILES_MAX = FILES + SPARE_FILES
NONCE_BITS = 32
NONCE_MASK = (1 << NONCE_BITS) - 1


@dataclass(slots=True)
class Sync:
    """Batches that become durable with one sync. `marks` holds a value per log, for the owner to use when the sync is done."""

    number: SyncNumber
    generation: int
    buffers: list[Buffer] = field(default_factory=list)
    size_bytes: int = 0
    marks: dict[object, object] = field(default_factory=dict)


class JournalFile:
    """One recycled file: `filled` bytes exist on disk, `position` is where the next sync goes."""

    def __init__(
        self, files: Files, path: str, fill_step_bytes: int = FILL_STEP_BYTES, *, is_spare: bool = False
    ) -> None:
        self.files = files
        self.path = path
        self.is_spare = is_spare
        self.fill_step_bytes = fill_step_bytes
        self.was_missing = not files.exists(path)
        self.open()

    def open(self) -> None:
        self.file: File = self.files.open(self.path, create=True, pinned=True)
        self.filled = self.file.size()
        self.position = 0
        self.is_header_damaged = False
        self.has_marks = False  # whether its syncs are known to have marks
        self.generation = self.read_generation()

    def read_generation(self) -> int:
        header = self.file.read(FILE_HEADER.size, 0)
        if not any(header):
            return 0
        magic, generation, crc = FILE_HEADER.unpack(header.ljust(FILE_HEADER.size, b"\0"))
        if magic in (FILE_MAGIC, EARLIER_MAGIC) and crc == crc32c(header[:16]):
            self.has_marks = magic == FILE_MAGIC
            return int(generation)
        self.is_header_damaged = True
        return first_generation(self.file)

    def start(self, generation: int) -> None:
        """Begins to overwrite the file. The header goes to disk with the first sync."""
        head = FILE_MAGIC + struct.pack(">Q", generation)
        self.fill(FILE_HEADER_BYTES)
        self.file.write([head + struct.pack(">I", crc32c(head))], 0)
        self.generation, self.position, self.has_marks = generation, FILE_HEADER_BYTES, True

    def fill(self, size: int) -> None:
        """Makes the file at least `size` bytes large, in steps, with real zeros."""
        while self.filled < size:
            self.file.write([bytes(self.fill_step_bytes)], self.filled)
            self.filled += self.fill_step_bytes

    def erase(self) -> None:
        """Records on disk that the content is not needed: the next start does not read it. A spare file frees its space.

        This may run in another thread, because nobody writes to a file that is not current. It is synced: otherwise, after
        the next use of the file, a power cut could leave the old header with new content, which would look like damage.
        Raises OSError.
        """
        self.file.write([bytes(FILE_HEADER.size)], 0)
        if self.is_spare:
            self.file.truncate(0)
        self.file.sync()

    def release(self) -> None:
        """Marks the file, which was erased, as free."""
        self.generation = 0
        if self.is_spare:
            self.filled = 0

    def set_aside(self) -> None:
        """Keeps the file's content under another name, and begins an empty file. Raises OSError."""
        self.file.close()
        name = free_name(self.files, self.path + ASIDE_SUFFIX)
        self.files.rename(self.path, name)
        logger.error("%s is not a journal file: it is kept as %s; inspect it, and remove it", self.path, name)
        self.open()
        self.files.sync_directory(
            self.path.rpartition("/")[0]
        )  # makes the new name durable before anything relies on it

    def items(self, *, is_complete: bool, only: bytes | None = None) -> Iterator[JournalEntry | JournalDamage]:
        """Every sound entry, in order, and the damage between them; with `only`, those of the topic with that id."""
        if self.is_header_damaged:
            yield JournalDamage(self.path, 0, FILE_HEADER.size)
        if self.generation:
            reader = EntryReader(self.file, self.path, self.generation, is_complete=is_complete, only=only)
            reader.has_marks = self.has_marks
            yield from reader.items()


def items_of(journal_files: Iterable[JournalFile], only: bytes | None = None) -> Iterator[JournalEntry | JournalDamage]:
    """The entries in the files of a journal, oldest first, and the damage between them; with `only`, those of one topic."""
    files = sorted(journal_files, key=lambda f: f.generation)
    for file, later in zip_longest(files, files[1:]):
        # The same process continued in the other file, so everything that was written here was on disk.
        is_complete = later is not None and file.generation & NONCE_MASK == later.generation & NONCE_MASK
        yield from file.items(is_complete=is_complete, only=only)


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

    def begin_generation(self) -> None:
        """Closes the waiting sync: from now on batches go to the other file."""
        self.closed_syncs.append(self.pending)
        self.generation = self.next_generation()
        self.pending = Sync(SyncNumber(self.pending.number + 1), self.generation)
        self.bytes_in_file = FILE_HEADER_BYTES

    def take(self) -> Sync | None:
        """The waiting batches, as a sync to be written; None if there are none, or if no file is free for them."""
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
        return self.pending.number if self.pending.buffers else SyncNumber(self.pending.number - 1)

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
