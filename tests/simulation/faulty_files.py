"""In-memory files of which one call fails, once or from then on, the way that call fails on Linux.

EIO      any call, but for the write that notes a failed sync: its one byte is in the page cache (`failed_syncs.py`)
ENOSPC   what needs room: a write, which may have written a part, and what makes a name
EMFILE   what needs a descriptor: opening a file, listing or syncing a directory
"""

import errno
import os
from collections.abc import Sequence
from typing import NamedTuple

from headwater.effects.buffers import Buffer
from headwater.effects.files import SyncError
from headwater.effects.memory_files import MemoryFile, MemoryFiles
from headwater.storage.failed_syncs import FILE_NAME

OPENING = frozenset(("open", "list", "sync_directory", "lock"))
GROWING = frozenset(("write", "open", "mkdir", "rename", "truncate"))
SYNCS = frozenset(("sync", "sync_directory"))


class Fault(NamedTuple):
    """How a call fails. `is_short`: a write writes a part before. `lasts`: every later call that can fails too."""

    number: int
    is_short: bool = False
    lasts: bool = False

    def can_fail(self, call: str) -> bool:
        if self.is_short and not self.lasts:
            return call == "write"
        if self.number == errno.EMFILE:
            return call in OPENING
        return self.number != errno.ENOSPC or call in GROWING

    def __str__(self) -> str:
        return errno.errorcode[self.number] + " short" * self.is_short + " from then on" * self.lasts


class FaultyFiles(MemoryFiles):
    """See the module's docstring. `calls` are all that were made; the one with the number `failing` (from 1) fails."""

    def __init__(self, fault: Fault | None = None, failing: int = 0) -> None:
        super().__init__(crashable=True)
        self.planned, self.failing = fault, failing
        self.calls: list[tuple[str, str]] = []
        self.hits: list[tuple[str, str]] = []

    def heal(self) -> None:
        """From now on no call fails."""
        self.planned = None

    def check(self, call: str, path: str) -> None:
        self.calls.append((call, path))
        fault, made = self.planned, len(self.calls)
        if fault is None or made < self.failing or (made > self.failing and not fault.lasts):
            return
        if fault.can_fail(call) and (call != "write" or not path.endswith(FILE_NAME)):
            self.hits.append((call, path))
            is_sync = call in SYNCS and fault.number != errno.EMFILE
            raise (SyncError if is_sync else OSError)(fault.number, os.strerror(fault.number), path)

    def open(self, path: str, *, create: bool = False, pinned: bool = False) -> "FaultyFile":
        file = super().open(path, create=create, pinned=pinned)
        return FaultyFile(self, path, file.inode)


class FaultyFile(MemoryFile):
    """An open file of those."""

    __slots__ = ()

    def write(self, buffers: Sequence[Buffer], position: int) -> None:
        try:
            super().write(buffers, position)
        except OSError:
            files = self.files
            if isinstance(files, FaultyFiles) and files.planned is not None and files.planned.is_short:
                data = b"".join(buffers)
                self.inode.write(data[: len(data) * 2 // 3], position)
            raise
