"""The simulated disk: in-memory files that fail, and that lose unsynced writes.

Power cuts. Any unsynced write of a file may be on disk or not, in any order. A write may also be torn: disks write whole
sectors, of 512 bytes or 4 KiB (the seed decides), so any subset of a large write's sectors may be there. A sector that was
not written keeps its old content: the old bytes of a recycled file, or zeros in a file that has grown. Of a directory, a
prefix of its unsynced changes is on disk. If a sync fails, nothing that it should have synced reaches the disk, as on
Linux. The power may be cut at any call on the files: `cut_after` says at which.

Faults. `fail` makes calls fail with EIO, EMFILE (no descriptor) or ENOSPC (no room). A write without enough room may still
write a part of its bytes, as a short write does. A write that has written all of its bytes does not fail.

Damage. `flip` changes bits that were synced long ago, while the broker is down.
"""

import errno
import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random

from headwater.effects.buffers import Buffer
from headwater.effects.files import SyncError
from headwater.effects.memory_files import Directory, Inode, MemoryFile, MemoryFiles, apply_names, apply_write
from headwater.testing.simulate.world import PowerCutError

SECTOR_SIZES = (512, 4096)
OPENING = ("open",)
GROWING = ("write", "open", "mkdir", "truncate", "rename")
KEEP_CHANCES = (0.0, 0.5, 0.9, 1.0)
TEAR_CHANCE = 0.3


class SimulatedFiles(MemoryFiles):
    """See the module's docstring."""

    def __init__(self, random: Random) -> None:
        super().__init__(crashable=True)
        self.random = random
        self.sector_bytes = random.choice(SECTOR_SIZES)
        self.cut_after: int | None = None  # calls until the power is cut
        self.is_off = False
        self.failing: Callable[[str, str], int | None] | None = None
        self.calls = 0
        self.faults_injected = 0

    def check(self, call: str, path: str) -> None:
        if self.is_off:
            raise PowerCutError
        self.calls += 1
        if self.cut_after is not None:
            self.cut_after -= 1
            if self.cut_after <= 0:
                self.is_off = True
                raise PowerCutError
        if self.failing is not None:
            number = self.failing(call, path)
            if number is not None:
                self.faults_injected += 1
                kind = SyncError if call in ("sync", "sync_directory") else OSError
                raise kind(number, os.strerror(number), path)

    def open(self, path: str, *, create: bool = False, pinned: bool = False) -> "SimulatedFile":
        file = super().open(path, create=create, pinned=pinned)
        return SimulatedFile(self, path, file.inode)

    def fail(self, number: int, share: float) -> None:
        """From now on each call that can fail with this errno does so with this probability."""
        calls: tuple[str, ...] = ("read", "write", "sync", "sync_directory", "open", "rename", "remove", "truncate")
        if number == errno.EMFILE:
            calls = OPENING
        elif number == errno.ENOSPC:
            calls = GROWING

        def failing(call: str, path: str) -> int | None:
            return number if call in calls and self.random.random() < share else None

        self.failing = failing

    def heal(self) -> None:
        self.failing = None

    def power_on(self) -> None:
        """After a power cut: only what is on disk is left."""
        self.cut_after, self.is_off = None, False
        self.locks.clear()
        crash_directory(self.root, self.random, self.sector_bytes)

    def forget_process(self) -> None:
        """The process was killed: the page cache outlives it, and so does every write."""
        self.cut_after, self.is_off = None, False
        self.locks.clear()

    def flip(self, path: str, position: int, mask: int) -> None:
        """Changes bits of a byte that is on disk."""
        inode = self.entry(path)
        assert isinstance(inode, Inode)
        inode.content[position] ^= mask
        inode.durable = bytes(inode.content)


class SimulatedFile(MemoryFile):
    """An open file. A write without enough room may write a part of its bytes."""

    __slots__ = ()

    def write(self, buffers: Sequence[Buffer], position: int) -> None:
        try:
            super().write(buffers, position)
        except OSError as error:
            files = self.files
            if error.errno == errno.ENOSPC and isinstance(files, SimulatedFiles):
                data = b"".join(buffers)
                self.inode.write(data[: files.random.randrange(max(1, len(data)))], position)
            raise


def crash_directory(directory: Directory, random: Random, sector_bytes: int) -> None:
    names = dict(directory.durable)
    for change in directory.unsynced[: random.randint(0, len(directory.unsynced))]:
        apply_names(names, change)
    directory.names = names
    directory.sync()
    for entry in names.values():
        if isinstance(entry, Directory):
            crash_directory(entry, random, sector_bytes)
        elif entry.unsynced or entry.has_lost:
            crash_file(entry, random, sector_bytes)


def crash_file(inode: Inode, random: Random, sector_bytes: int) -> None:
    content = bytearray(inode.durable)
    keep = random.choice(KEEP_CHANCES)
    for position, data in inode.unsynced:
        if random.random() >= keep:
            continue
        if data is None or len(data) <= sector_bytes // 8 or random.random() >= TEAR_CHANCE:
            apply_write(content, position, data)
            continue
        for start, end in sectors(position, len(data), sector_bytes):
            if random.random() < keep:
                apply_write(content, position + start, data[start:end])
    inode.content, inode.has_lost = content, False
    inode.sync()


def sectors(position: int, size: int, sector_bytes: int) -> list[tuple[int, int]]:
    """Splits a write of `size` bytes at `position` into parts that lie in one sector each."""
    borders = [0, *range(sector_bytes - position % sector_bytes, size, sector_bytes), size]
    return list(pairwise(borders))
