"""One of the journal's files: its header, its blocks on disk, and the entries in it (`journal.py` has the theory)."""

import struct
from collections.abc import Iterable, Iterator
from itertools import zip_longest

from crc32c import crc32c

from headwater.effects.files import File, Files, free_name
from headwater.effects.logs import get_logger
from headwater.storage.journal_entries import (
    FILE_HEADER_BYTES,
    EntryReader,
    JournalDamage,
    JournalEntry,
    first_generation,
)

logger = get_logger(__name__)

ASIDE_SUFFIX = ".aside"
FILE_MAGIC = b"HWJRNL03"
MARKED_MAGIC = b"HWJRNL02"  # of an earlier version, without gathered batches
EARLIEST_MAGIC = b"HWJRNL01"  # syncs in such a file may have no marks
FILE_HEADER = struct.Struct(">8sQI")
FILL_STEP_BYTES = 1 << 20
NONCE_BITS = 32
NONCE_MASK = (1 << NONCE_BITS) - 1


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
        if magic in (FILE_MAGIC, MARKED_MAGIC, EARLIEST_MAGIC) and crc == crc32c(header[:16]):
            self.has_marks = magic != EARLIEST_MAGIC
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
