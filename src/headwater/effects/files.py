"""Files, as the core sees them: positioned reads and writes, explicit syncs, and OSError for what fails.

A write is in the page cache when it returns and on disk when `sync` returns. A created, renamed or removed name is
durable when `sync_directory` of its directory returns. A sync that fails raises `SyncError` and is never retried. The
caller must not continue as if it had succeeded. A second sync that succeeds proves nothing, because Linux may have dropped
what it could not write (https://wiki.postgresql.org/wiki/Fsync_Errors).
"""

import errno
import fcntl
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

from headwater.effects.buffers import Buffer

LOCK_POLL_S = 0.01
FILE_MODE = 0o600  # users' data and their password hashes: for the broker's own user only
DIRECTORY_MODE = 0o700
IOV_MAX = 1024  # buffers that one pwritev accepts on Linux


SHORTAGES = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE))


class SyncError(OSError):
    """A sync has failed: what was written before it may be lost, even if a later sync succeeds."""


def is_shortage(error: OSError) -> bool:
    """Whether the system had no room or no descriptor left. Once it has, the same call can succeed."""
    return error.errno in SHORTAGES and not isinstance(error, SyncError)


def is_out_of_descriptors(error: OSError) -> bool:
    return error.errno in (errno.EMFILE, errno.ENFILE)


class File(Protocol):
    """An open file without a position of its own."""

    def read(self, size: int, position: int) -> bytes:
        """Up to `size` bytes at `position`; fewer at the end of the file."""
        ...

    def write(self, buffers: Sequence[Buffer], position: int) -> None:
        """Writes all the buffers, one after another, starting at `position`."""
        ...

    def sync(self) -> None:
        """Returns when the content is on disk (fdatasync). Raises SyncError."""
        ...

    def truncate(self, size: int) -> None:
        """Cuts the file to `size` bytes."""
        ...

    def size(self) -> int:
        """Bytes in the file."""
        ...

    def close(self) -> None:
        """Closes the file; what was written stays."""
        ...

    @property
    def descriptor(self) -> int:
        """The number under which a pinned file is open in this process; -1 in memory."""
        ...


class Files(Protocol):
    """A file system. Paths are text with slashes."""

    def open(self, path: str, *, create: bool = False, pinned: bool = False) -> File:
        """Opens for reading and writing; FileNotFoundError unless `create`.

        A `pinned` file keeps its descriptor until it is closed and may be used by another thread.
        """
        ...

    def sync_path(self, path: str) -> None:
        """As `File.sync`, for a file that another thread may be writing. Raises FileNotFoundError if it is gone.

        Raises SyncError when the sync fails, and another OSError when the file cannot be opened.
        """
        ...

    def exists(self, path: str) -> bool: ...

    def list_directory(self, path: str) -> list[str]:
        """The names in a directory. Raises FileNotFoundError if there is no such directory."""
        ...

    def make_directory(self, path: str) -> None:
        """Makes the directory and its parents. Does nothing if it is there already."""
        ...

    def rights_of_others(self, path: str) -> int:
        """The mode bits of a directory for its group and for all others; 0 in memory."""
        ...

    def restrict(self, path: str) -> None:
        """Lets only its owner use a directory."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Atomic; replaces a file at `target`."""
        ...

    def remove(self, path: str) -> None:
        """Removes a file or an empty directory."""
        ...

    def sync_directory(self, path: str) -> None: ...

    def stamp(self, path: str) -> tuple[int, ...]:
        """Which file is at a path, and its state. Two equal stamps mean that nothing was written in between.

        The first two numbers say which file it is, the third its size. Raises FileNotFoundError.
        """
        ...

    def lock(self, path: str, wait_ms: int = 0) -> "Lock":
        """Acquires the lock of this file. Raises BlockingIOError if another process holds it for longer than `wait_ms`."""
        ...


class Lock(Protocol):
    """A lock that is held."""

    def release(self) -> None: ...

    def is_in_place(self) -> bool:
        """Whether the file at its path is still the one that is locked. It is not if the directory was replaced."""
        ...


class DiskFile:
    """A file on disk. The pool opens its descriptor when needed, and may close it between uses."""

    __slots__ = ("path", "pool")

    def __init__(self, pool: "DescriptorPool | PinnedDescriptor", path: str) -> None:
        self.pool = pool
        self.path = path

    def read(self, size: int, position: int) -> bytes:
        try:
            return os.pread(self.pool.descriptor(self), size, position)
        except OSError as error:
            raise with_path(error, self.path) from error

    def write(self, buffers: Sequence[Buffer], position: int) -> None:
        try:
            descriptor = self.pool.descriptor(self)
            if len(buffers) == 1:
                rest = buffers[0]
                written = os.pwrite(descriptor, rest, position)
                if written < len(rest):
                    write_rest(descriptor, memoryview(rest)[written:], position + written)
                return
            for start in range(0, len(buffers), IOV_MAX):
                part = buffers[start : start + IOV_MAX]
                size = sum(map(len, part))
                written = os.pwritev(descriptor, part, position)
                if written < size:
                    write_rest(descriptor, memoryview(b"".join(part))[written:], position + written)
                position += size
        except OSError as error:
            raise with_path(error, self.path) from error

    def sync(self) -> None:
        sync_descriptor(os.fdatasync, self.pool.descriptor(self), self.path)

    def truncate(self, size: int) -> None:
        try:
            os.ftruncate(self.pool.descriptor(self), size)
        except OSError as error:
            raise with_path(error, self.path) from error

    def size(self) -> int:
        try:
            return os.fstat(self.pool.descriptor(self)).st_size
        except OSError as error:
            raise with_path(error, self.path) from error

    def close(self) -> None:
        self.pool.discard(self)

    @property
    def descriptor(self) -> int:
        return self.pool.descriptor(self)


def with_path(error: OSError, path: str) -> OSError:
    """The error, with the path of its file added: the system's calls on descriptors do not know the path."""
    return error if error.filename is not None else OSError(error.errno, error.strerror, path)


def sync_descriptor(sync: Callable[[int], None], descriptor: int, path: str) -> None:
    try:
        sync(descriptor)
    except OSError as error:
        raise SyncError(error.errno, error.strerror, path) from error


def write_rest(descriptor: int, rest: memoryview, position: int) -> None:
    """Writes what a short write has left over (on a full disk the next write fails with ENOSPC)."""
    while rest:
        written = os.pwrite(descriptor, rest, position)
        if written == 0:
            raise OSError(errno.EIO, "a write wrote nothing")
        rest, position = rest[written:], position + written


class DescriptorPool:
    """Open descriptors, at most `limit`. The least recently used one is closed to make room.

    Only the thread that made a pool may use it, so that no descriptor is closed during another thread's call. Closing a
    descriptor between a write and its sync loses nothing: Linux keeps dirty pages, and a write-back error, with the file.
    """

    def __init__(self, limit: int, access: int = os.O_RDWR) -> None:
        self.limit = limit
        self.access = access
        self.owner = threading.get_ident()
        self.open: OrderedDict[DiskFile, int] = OrderedDict()

    def descriptor(self, file: DiskFile) -> int:
        descriptor = self.open.get(file)
        if descriptor is not None:
            self.open.move_to_end(file)
            return descriptor
        descriptor = self.open_descriptor(file.path, self.access)
        self.adopt(file, descriptor)
        return descriptor

    def open_descriptor(self, path: str, flags: int) -> int:
        """A new descriptor. If the process has none left, the thread that owns the pool closes one of the pool's first."""
        while True:
            try:
                return os.open(path, flags | os.O_CLOEXEC, FILE_MODE)
            except OSError as error:
                if not is_out_of_descriptors(error) or not self.open or threading.get_ident() != self.owner:
                    raise
                os.close(self.open.popitem(last=False)[1])

    def adopt(self, file: DiskFile, descriptor: int) -> None:
        """Adds an open descriptor to the pool."""
        while len(self.open) >= self.limit:
            os.close(self.open.popitem(last=False)[1])
        self.open[file] = descriptor

    def discard(self, file: DiskFile) -> None:
        descriptor = self.open.pop(file, None)
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        while self.open:
            os.close(self.open.popitem()[1])


class PinnedDescriptor:
    """The pool of one file that keeps its descriptor."""

    def __init__(self, number: int) -> None:
        self.number = number

    def descriptor(self, file: DiskFile) -> int:
        return self.number

    def discard(self, file: DiskFile) -> None:
        if self.number >= 0:
            os.close(self.number)
        self.number = -1


class DiskLock:
    """An flock on a file. The kernel releases it when the process ends, however it ends."""

    def __init__(self, path: str, wait_ms: int = 0) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        deadline = time.monotonic() + wait_ms / 1000
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(self.descriptor)
                    raise
                time.sleep(LOCK_POLL_S)
            except OSError:
                os.close(self.descriptor)
                raise
            else:
                return

    def release(self) -> None:
        """Releases the lock, even if a forked child has a copy of the descriptor."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        self.leave_to_child()

    def is_in_place(self) -> bool:
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(self.descriptor))

    def leave_to_child(self) -> None:
        """Leaves the lock to a child that was started with its descriptor: the child holds it until it ends."""
        descriptor, self.descriptor = self.descriptor, -1
        os.close(descriptor)


class DiskFiles:
    """The machine's file system, with a bound on open descriptors. A `read_only` one fails to write, with EBADF."""

    def __init__(self, descriptors_max: int = 1024, *, read_only: bool = False) -> None:
        self.pool = DescriptorPool(descriptors_max, os.O_RDONLY if read_only else os.O_RDWR)

    def open(self, path: str, *, create: bool = False, pinned: bool = False) -> DiskFile:
        flags = self.pool.access | (os.O_CREAT if create else 0)
        descriptor = self.pool.open_descriptor(path, flags)
        if pinned:
            return DiskFile(PinnedDescriptor(descriptor), path)
        file = DiskFile(self.pool, path)
        self.pool.adopt(file, descriptor)
        return file

    def sync_path(self, path: str) -> None:
        descriptor = self.pool.open_descriptor(path, os.O_RDWR)
        try:
            sync_descriptor(os.fdatasync, descriptor, path)
        finally:
            os.close(descriptor)

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def list_directory(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def make_directory(self, path: str) -> None:
        os.makedirs(path, DIRECTORY_MODE, exist_ok=True)

    def rights_of_others(self, path: str) -> int:
        return os.stat(path).st_mode & 0o077

    def restrict(self, path: str) -> None:
        os.chmod(path, DIRECTORY_MODE)

    def rename(self, source: str, target: str) -> None:
        os.replace(source, target)

    def remove(self, path: str) -> None:
        if os.path.isdir(path):
            os.rmdir(path)
        else:
            os.remove(path)

    def sync_directory(self, path: str) -> None:
        descriptor = self.pool.open_descriptor(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            sync_descriptor(os.fsync, descriptor, path)
        finally:
            os.close(descriptor)

    def stamp(self, path: str) -> tuple[int, ...]:
        status = os.stat(path)
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def lock(self, path: str, wait_ms: int = 0) -> DiskLock:
        return DiskLock(path, wait_ms)

    def close(self) -> None:
        self.pool.close()


def read_file(files: Files, path: str) -> bytes:
    """The whole content of a small file. Raises FileNotFoundError."""
    file = files.open(path)
    try:
        return file.read(file.size(), 0)
    finally:
        file.close()


def file_size(files: Files, path: str) -> int:
    """How many bytes are in a file. Raises FileNotFoundError."""
    file = files.open(path)
    try:
        return file.size()
    finally:
        file.close()


def replace_file(
    files: Files, path: str, content: bytes, *, copy: str = "", sync: bool = True, suffix: str = ".tmp"
) -> None:
    """Replaces a small file as a whole, so that a crash leaves the old or the new one. Any thread may call this.

    With `copy`, another file in the same directory gets the content first. Threads that may replace the same file at the
    same time must use different `suffix`es for the temporary file that is renamed.
    """
    paths = (copy, path) if copy else (path,)
    for name in paths:
        file = files.open(name + suffix, create=True, pinned=True)
        try:
            file.truncate(0)
            file.write([content], 0)
            if sync:
                file.sync()
        finally:
            file.close()
    for name in paths:
        files.rename(name + suffix, name)
    if sync:
        files.sync_directory(path.rpartition("/")[0])


def write_file(files: Files, path: str, content: bytes) -> None:
    """Writes a small file that readers can do without: a crash may leave it damaged."""
    file = files.open(path, create=True)
    try:
        file.truncate(0)
        file.write([content], 0)
    finally:
        file.close()


def free_name(files: Files, path: str) -> str:
    """`path` if no file has that name, or else `path` with a number appended."""
    name, number = path, 0
    while files.exists(name):
        number += 1
        name = f"{path}{number}"
    return name


def remove_tree(files: Files, path: str) -> None:
    """Removes a directory of files."""
    for name in files.list_directory(path):
        files.remove(f"{path}/{name}")
    files.remove(path)
