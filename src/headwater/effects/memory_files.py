"""Files in memory: a broker without a directory uses them, and storage tests crash them.

With `crashable=True` every write and every name that is not yet synced is remembered. `crash` then decides, from a seed,
what a power cut would have left:

- of a file, any subset of its unsynced writes, each whole, torn at a sector or absent (a skipped write leaves zeros, as on
  a file system that has already grown the file);
- of a directory, a prefix of its unsynced changes.

`fault` is called before every call, and may return the errno with which it fails.
"""

import errno
import os
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeAlias

from headwater.effects.buffers import Buffer
from headwater.effects.files import SyncError

SECTOR_BYTES = 512
Fault: TypeAlias = Callable[[str, str], int | None]


class Inode:
    """A file's content now and, if crashable, what is on disk and what came after."""

    __slots__ = ("changes", "content", "crashable", "durable", "has_lost", "number", "unsynced")

    def __init__(self, crashable: bool, number: int = 0) -> None:
        self.number = number
        self.changes = 0
        self.content = bytearray()
        self.crashable = crashable
        self.durable = b""
        self.unsynced: list[tuple[int, bytes | None]] = []  # (position, bytes), or (size, None) for a truncation
        self.has_lost = False  # what is on disk differs from the content in more than what is unsynced

    def write(self, data: Buffer, position: int) -> None:
        self.changes += 1
        apply_write(self.content, position, data)
        if self.crashable:
            self.unsynced.append((position, bytes(data)))

    def truncate(self, size: int) -> None:
        self.changes += 1
        apply_write(self.content, size, None)
        if self.crashable:
            self.unsynced.append((size, None))

    def sync(self) -> None:
        if not self.crashable:
            return
        if self.has_lost:
            durable = bytearray(self.durable)
            for position, data in self.unsynced:
                apply_write(durable, position, data)
            self.durable = bytes(durable)
        else:
            self.durable = bytes(self.content)
        self.unsynced.clear()

    def lose(self) -> None:
        """Fails a sync as Linux does: what it was to sync can still be read, but no later sync puts it on disk."""
        self.has_lost = self.has_lost or bool(self.unsynced)
        self.unsynced.clear()

    def crash(self, random: Random) -> None:
        content = bytearray(self.durable)
        keep = random.choice((0.0, 0.5, 0.9, 1.0))
        for position, data in self.unsynced:
            if random.random() >= keep:
                continue
            if data is not None and len(data) > SECTOR_BYTES and random.random() < 0.3:
                data = data[: random.randrange(0, len(data), SECTOR_BYTES)]
            apply_write(content, position, data)
        self.content, self.has_lost = content, False
        self.changes += 1
        self.sync()


def apply_write(content: bytearray, position: int, data: Buffer | None) -> None:
    """Puts `data` at `position`, after zeros where the content is shorter. None cuts or grows the content to `position`."""
    if data is None:
        del content[position:]
        content.extend(bytes(position - len(content)))
        return
    if position > len(content):
        content.extend(bytes(position - len(content)))
    content[position : position + len(data)] = data


class Directory:
    """Names in one directory, now and on disk, and the changes in between."""

    __slots__ = ("durable", "names", "unsynced")

    def __init__(self) -> None:
        self.names: dict[str, Inode | Directory] = {}
        self.durable: dict[str, Inode | Directory] = {}
        self.unsynced: list[dict[str, Inode | Directory | None]] = []  # each a change that happens whole or not at all

    def change(self, names: dict[str, "Inode | Directory | None"], crashable: bool) -> None:
        apply_names(self.names, names)
        if crashable:
            self.unsynced.append(names)

    def sync(self) -> None:
        self.durable = dict(self.names)
        self.unsynced.clear()

    def crash(self, random: Random) -> None:
        names = dict(self.durable)
        for change in self.unsynced[: random.randint(0, len(self.unsynced))]:
            apply_names(names, change)
        self.names = names
        self.sync()
        for entry in self.names.values():
            entry.crash(random)


def apply_names(
    names: "dict[str, Inode | Directory]",
    change: "dict[str, Inode | Directory | None]",
) -> None:
    for name, entry in change.items():
        if entry is None:
            names.pop(name, None)
        else:
            names[name] = entry


class MemoryFile:
    """An open in-memory file."""

    __slots__ = ("files", "inode", "path")

    def __init__(self, files: "MemoryFiles", path: str, inode: Inode) -> None:
        self.files = files
        self.path = path
        self.inode = inode

    def read(self, size: int, position: int) -> bytes:
        self.files.check("read", self.path)
        return bytes(memoryview(self.inode.content)[position : position + size])

    def write(self, buffers: Sequence[Buffer], position: int) -> None:
        self.files.check("write", self.path)
        for data in buffers:
            self.files.take_space(max(0, position + len(data) - len(self.inode.content)))
            self.inode.write(data, position)
            position += len(data)

    def sync(self) -> None:
        try:
            self.files.check("sync", self.path)
        except SyncError:
            self.inode.lose()
            raise
        self.inode.sync()

    def truncate(self, size: int) -> None:
        self.files.check("truncate", self.path)
        self.files.take_space(size - len(self.inode.content))
        self.inode.truncate(size)

    def size(self) -> int:
        return len(self.inode.content)

    def close(self) -> None:
        self.files.check("close", self.path)

    @property
    def descriptor(self) -> int:
        return -1


class MemoryLock:
    """A lock between brokers on the same in-memory files."""

    def __init__(self, held: set[str], path: str) -> None:
        if path in held:
            raise BlockingIOError(errno.EWOULDBLOCK, "the lock is held", path)
        self.held = held
        self.path = path
        held.add(path)

    def release(self) -> None:
        self.held.discard(self.path)

    def is_in_place(self) -> bool:
        return self.path in self.held


class MemoryFiles:
    """A file system in memory. A write that would make it larger than `capacity_bytes` fails with ENOSPC."""

    def __init__(self, capacity_bytes: int = 4 << 30, *, crashable: bool = False, fault: Fault | None = None) -> None:
        self.root = Directory()
        self.free_bytes = capacity_bytes
        self.crashable = crashable
        self.fault = fault
        self.locks: set[str] = set()
        self.inodes = 0  # how many were made

    def check(self, call: str, path: str) -> None:
        if self.fault is not None:
            number = self.fault(call, path)
            if number is not None:
                kind = SyncError if call in ("sync", "sync_directory") else OSError
                raise kind(number, os.strerror(number), path)

    def take_space(self, size: int) -> None:
        if size > self.free_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.free_bytes -= size

    def walk(self, path: str) -> tuple[Directory, str]:
        """The directory that holds the last name of `path`, and that name."""
        *parents, name = [part for part in path.split("/") if part]
        directory = self.root
        for parent in parents:
            entry = directory.names.get(parent)
            if not isinstance(entry, Directory):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            directory = entry
        return directory, name

    def entry(self, path: str) -> Inode | Directory | None:
        if not path.strip("/."):
            return self.root
        try:
            directory, name = self.walk(path)
        except FileNotFoundError:
            return None
        return directory.names.get(name)

    def open(self, path: str, *, create: bool = False, pinned: bool = False) -> MemoryFile:
        self.check("open", path)
        directory, name = self.walk(path)
        inode = directory.names.get(name)
        if inode is None and create:
            self.inodes += 1
            inode = Inode(self.crashable, self.inodes)
            directory.change({name: inode}, self.crashable)
        if not isinstance(inode, Inode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return MemoryFile(self, path, inode)

    def sync_path(self, path: str) -> None:
        self.open(path).sync()

    def exists(self, path: str) -> bool:
        return self.entry(path) is not None

    def list_directory(self, path: str) -> list[str]:
        self.check("list", path)
        directory = self.entry(path)
        if not isinstance(directory, Directory):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return sorted(directory.names)

    def make_directory(self, path: str) -> None:
        self.check("mkdir", path)
        directory = self.root
        for name in filter(None, path.split("/")):
            entry = directory.names.get(name)
            if entry is None:
                entry = Directory()
                directory.change({name: entry}, self.crashable)
            if not isinstance(entry, Directory):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            directory = entry

    def rights_of_others(self, path: str) -> int:
        return 0

    def restrict(self, path: str) -> None:
        """Does nothing: no other user can see this memory."""

    def rename(self, source: str, target: str) -> None:
        self.check("rename", source)
        directory, name = self.walk(source)
        target_directory, target_name = self.walk(target)
        entry = directory.names.get(name)
        if entry is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source)
        self.give_back(target_directory.names.get(target_name))
        if directory is target_directory:
            directory.change({name: None, target_name: entry}, self.crashable)
        else:
            target_directory.change({target_name: entry}, self.crashable)
            directory.change({name: None}, self.crashable)

    def remove(self, path: str) -> None:
        self.check("remove", path)
        directory, name = self.walk(path)
        entry = directory.names.get(name)
        if entry is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if isinstance(entry, Directory) and entry.names:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        self.give_back(entry)
        directory.change({name: None}, self.crashable)

    def give_back(self, entry: Inode | Directory | None) -> None:
        if isinstance(entry, Inode):
            self.free_bytes += len(entry.content)

    def sync_directory(self, path: str) -> None:
        self.check("sync_directory", path)
        directory = self.entry(path)
        if not isinstance(directory, Directory):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        directory.sync()

    def stamp(self, path: str) -> tuple[int, ...]:
        entry = self.entry(path)
        if not isinstance(entry, Inode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return 0, entry.number, len(entry.content), entry.changes, 0

    def lock(self, path: str, wait_ms: int = 0) -> MemoryLock:
        self.check("lock", path)
        return MemoryLock(self.locks, path)

    def crash(self, random: Random) -> None:
        """A power cut: what was not synced is dropped, torn or kept, as `random` decides. All locks are released."""
        self.locks.clear()
        self.root.crash(random)
