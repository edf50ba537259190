"""A block device whose power can be cut at any moment: a file system with one file in it, for a loop device to lie on.

A disk may keep what was written to it in a cache of its own until it gets a flush. So after a power cut

    everything that had been written when the last flush came is there
    of what was written later, any part may be there, in any order, in pieces of a sector

A copy of a file that lies below a loop device shows none of that: it has all writes, those that came during the copy too,
and a copy that takes time is of no one moment. So this process serves the file by itself, with the kernel's FUSE protocol
(linux/fuse.h): it sees each write and each flush that ext4 asks for, and makes the image of a cut between two of them.

    python -m tests.power.recorded_disk DIRECTORY BYTES [IMAGE]

mounts DIRECTORY, which then has a file `disk` of that size, with the content of the image if there is one, and says "ready".
Then each line on standard input, [path, seed, writes], asks for a cut after so many more writes, or when nobody has written
for a moment. It is answered, when the image is at that path, by a line, [moment, unflushed]: the time of the cut by the clock that
all processes share (`time.monotonic_ns`), and the number of writes since the last flush. It ends with standard input.

The process leaves the mount namespace that it has mounted DIRECTORY in. Else it could be the last one there: the kernel lets
the last one unmount what is left, ext4 would ask for a flush, and the only one to answer would be the process that waits.
"""

import ctypes
import errno
import json
import os
import select
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from headwater.effects.buffers import Buffer

IN_HEADER = struct.Struct("<IIQQIIIHH")
OUT_HEADER = struct.Struct("<IiQ")
ATTRIBUTES = struct.Struct("<6Q10I")
ENTRY_HEAD = struct.Struct("<QQQQII")
ATTRIBUTES_HEAD = struct.Struct("<QII")
OPENED = struct.Struct("<QII")
TRANSFER = struct.Struct("<QQIIQII")  # of a read and a write
WRITTEN = struct.Struct("<II")
STATISTICS = struct.Struct("<5Q10I")
STARTED = struct.Struct("<IIIIHHIIHHI28x")

LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE = 1, 2, 3, 4, 14, 15, 16, 17, 18
FSYNC, FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, ACCESS, DESTROY, BATCH_FORGET = 20, 25, 26, 27, 28, 29, 34, 38, 42
UNANSWERED = (FORGET, BATCH_FORGET)
SUCCESSFUL = (RELEASE, FLUSH, RELEASEDIR, ACCESS, DESTROY, READDIR)

ROOT, FILE = 1, 2  # node ids
FILE_NAME = "disk"
VERSION = (7, 31)
BIG_WRITES, MAX_PAGES = 1 << 5, 1 << 22
TRANSFER_BYTES_MAX = 1 << 20
PAGE_BYTES = 4096
DIRECT_IO = 1
FOREVER_S = 1 << 30
MS_NOSUID_NODEV = 6
CLONE_NEWNS = 0x20000
CHUNK_BYTES = 1 << 16  # of an image: those that nobody wrote stay holes
SECTOR_BYTES = 512
IDLE_MS = 300


class VolatileDisk:
    """The content, and what was written since the last flush."""

    def __init__(self, size: int) -> None:
        self.content = bytearray(size)
        self.touched: set[int] = set()  # chunks
        self.unflushed: list[tuple[int, bytes, bytes]] = []  # position, what was there, what is now

    def read(self, position: int, size: int) -> memoryview:
        return memoryview(self.content)[position : position + size]

    def write(self, position: int, data: memoryview) -> None:
        end = position + len(data)
        self.unflushed.append((position, bytes(self.content[position:end]), bytes(data)))
        self.content[position:end] = data
        self.touched.update(chunks_of(position, len(data)))

    def flush(self) -> None:
        self.unflushed.clear()

    def image(self, random: Random) -> Iterator[tuple[int, Buffer]]:
        """(position, bytes) of all that was ever written, after a power cut now.

        `random` says which part of the unflushed writes is there.
        """
        share = random.choice((0.0, 0.5, 0.9, 1.0))
        changed: dict[int, bytearray] = {}
        for position, before, _ in reversed(self.unflushed):
            for chunk in chunks_of(position, len(before)):
                if chunk not in changed:
                    changed[chunk] = self.content[chunk * CHUNK_BYTES : (chunk + 1) * CHUNK_BYTES]
            put(changed, position, before)
        for position, _, after in self.unflushed:  # in order: what one has replaced does not come back
            size = random.choice((SECTOR_BYTES, PAGE_BYTES, len(after)))
            for at in range(0, len(after), size):
                if random.random() < share:
                    put(changed, position + at, after[at : at + size])
        content = memoryview(self.content)
        for chunk in self.touched:
            position = chunk * CHUNK_BYTES
            yield position, changed.get(chunk, content[position : position + CHUNK_BYTES])

    def load(self, path: str) -> None:
        """Begins with an image that `save` wrote."""
        with open(path, "rb") as file:
            for chunk in chunks_of(0, len(self.content)):
                data = file.read(CHUNK_BYTES)
                if data.count(0) < len(data):
                    self.content[chunk * CHUNK_BYTES : chunk * CHUNK_BYTES + len(data)] = data
                    self.touched.add(chunk)


def chunks_of(position: int, size: int) -> range:
    return range(position // CHUNK_BYTES, (position + size - 1) // CHUNK_BYTES + 1)


def put(chunks: dict[int, bytearray], position: int, data: bytes) -> None:
    at = 0
    while at < len(data):
        chunk, start = divmod(position + at, CHUNK_BYTES)
        size = min(CHUNK_BYTES - start, len(data) - at)
        chunks[chunk][start : start + size] = data[at : at + size]
        at += size


def save(parts: Iterable[tuple[int, Buffer]], size: int, path: str) -> None:
    """Writes an image as a sparse file."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.ftruncate(descriptor, size)
        for position, data in parts:
            os.pwrite(descriptor, data, position)
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class Wanted:
    """A cut that was asked for."""

    path: str
    seed: int
    writes: int


class Server:
    """Answers the kernel, one request after the other."""

    def __init__(self, directory: str, disk: VolatileDisk) -> None:
        self.disk = disk
        self.wanted: Wanted | None = None
        self.device = os.open("/dev/fuse", os.O_RDWR)
        self.buffer = bytearray(TRANSFER_BYTES_MAX + (1 << 16))
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"fd={self.device},rootmode=40000,user_id=0,group_id=0".encode()
        if libc.mount(b"recorded-disk", directory.encode(), b"fuse", MS_NOSUID_NODEV, options) or libc.unshare(
            CLONE_NEWNS
        ):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), directory)

    def serve(self) -> None:
        """Returns when standard input has ended, or the directory was unmounted."""
        poll = select.poll()
        poll.register(self.device, select.POLLIN)
        poll.register(0, select.POLLIN)
        print("ready", flush=True)
        while True:
            ready = [descriptor for descriptor, _ in poll.poll(IDLE_MS if self.wanted else None)]
            if 0 in ready:
                line = sys.stdin.readline()
                if not line:
                    return
                self.wanted = Wanted(*json.loads(line))
            if self.device in ready and not self.answer_next():
                return
            if self.wanted and (not ready or self.wanted.writes <= 0):
                self.cut(self.wanted)
                self.wanted = None

    def cut(self, wanted: "Wanted") -> None:
        moment = time.monotonic_ns()  # nothing is written from here on until the image is there
        save(self.disk.image(Random(wanted.seed)), len(self.disk.content), wanted.path)
        print(json.dumps([moment, len(self.disk.unflushed)]), flush=True)

    def answer_next(self) -> bool:
        try:
            size = os.readv(self.device, [self.buffer])
        except OSError as error:
            # Of a request that was interrupted; ENODEV says that the directory was unmounted.
            return error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN)
        _, opcode, unique, node, *_ = IN_HEADER.unpack_from(self.buffer)
        body = memoryview(self.buffer)[IN_HEADER.size : size]
        if opcode in UNANSWERED:
            return True
        answer = self.answer(opcode, node, body)
        if isinstance(answer, int):
            os.write(self.device, OUT_HEADER.pack(OUT_HEADER.size, -answer, unique))
        else:
            parts = [OUT_HEADER.pack(OUT_HEADER.size + len(answer), 0, unique), answer]
            os.writev(self.device, parts if len(answer) else parts[:1])
        return True

    def answer(self, opcode: int, node: int, body: memoryview) -> bytes | memoryview | int:
        """The answer's body, or an errno."""
        if opcode == WRITE:
            _, position, size, *_ = TRANSFER.unpack_from(body)
            self.disk.write(position, body[TRANSFER.size : TRANSFER.size + size])
            if self.wanted:
                self.wanted.writes -= 1
            return WRITTEN.pack(size, 0)
        if opcode == READ:
            _, position, size, *_ = TRANSFER.unpack_from(body)
            return self.disk.read(position, size)
        if opcode == FSYNC:
            self.disk.flush()
            return b""
        if opcode == INIT:
            flags = BIG_WRITES | MAX_PAGES
            return STARTED.pack(
                *VERSION, 0, flags, 16, 12, TRANSFER_BYTES_MAX, 1, TRANSFER_BYTES_MAX // PAGE_BYTES, 0, 0
            )
        if opcode == LOOKUP:
            if bytes(body).rstrip(b"\0").decode() != FILE_NAME:
                return errno.ENOENT
            return ENTRY_HEAD.pack(FILE, 0, FOREVER_S, FOREVER_S, 0, 0) + self.attributes(FILE)
        if opcode in (GETATTR, SETATTR):
            return ATTRIBUTES_HEAD.pack(FOREVER_S, 0, 0) + self.attributes(node)
        if opcode in (OPEN, OPENDIR):
            return OPENED.pack(0, DIRECT_IO if opcode == OPEN else 0, 0)
        if opcode == STATFS:
            return STATISTICS.pack(0, 0, 0, 2, 0, PAGE_BYTES, 255, PAGE_BYTES, *[0] * 7)
        return b"" if opcode in SUCCESSFUL else errno.ENOSYS

    def attributes(self, node: int) -> bytes:
        mode = stat.S_IFDIR | 0o700 if node == ROOT else stat.S_IFREG | 0o600
        size = 0 if node == ROOT else len(self.disk.content)
        return ATTRIBUTES.pack(node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, PAGE_BYTES, 0)


class RecordedDisk:
    """The process, and its file at `path`."""

    def __init__(self, directory: Path, size: int, image: Path | None = None) -> None:
        directory.mkdir()
        self.path = directory / FILE_NAME
        command = [sys.executable, "-m", "tests.power.recorded_disk", str(directory), str(size)]
        command += [str(image)] if image is not None else []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.line() == "ready"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def cut(self, image: Path, seed: int, writes: int) -> list[int]:
        """Cuts the power after so many more writes; returns when that was, and how many were not flushed."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([str(image), seed, writes]) + "\n")
        self.process.stdin.flush()
        answer: list[int] = json.loads(self.line())
        return answer

    def stop(self) -> None:
        self.process.communicate()


def main() -> None:
    directory, size, *images = sys.argv[1:]
    disk = VolatileDisk(int(size))
    for image in images:
        disk.load(image)
    Server(directory, disk).serve()


if __name__ == "__main__":
    main()
