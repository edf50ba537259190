"""The process that waits for the disk.

A sync takes longer than handling a request. A thread for syncs would return from the disk thousands of times per second, and
each time get the interpreter lock from the loop: at full load that is four lock hand-overs per batch, a third of the
broker's time (docs/decisions/0002-sync-in-a-process.md). So the loop itself writes the journal into the page cache. A child
of a few MiB, which has inherited the journal's descriptors and runs only the loop below, syncs the file and reports back.
The page cache belongs to the file, not to the process, so the sync is the same.

    to the child    one byte, the index of the file
    from the child  four bytes, 0 or the errno

The child ends when the socket is closed, even if the broker is killed by SIGKILL. If the child is lost, that is a failed
sync.
"""

import asyncio
import contextlib
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence

from headwater.broker.shell.children import start_child
from headwater.effects.files import SyncError

CHILD = """
import os, sys
files = [int(number) for number in sys.argv[1:]]
sync = getattr(os, 'fdatasync', os.fsync)
try:
    while command := os.read(0, 1):
        try:
            sync(files[command[0]])
            answer = 0
        except OSError as error:
            answer = error.errno or 5
        os.write(0, answer.to_bytes(4, 'big'))
except ConnectionError:
    pass  # the broker was killed
"""
STOP_TIMEOUT_S = 5.0
KILL_TIMEOUT_S = 2.0


class Syncer:
    """Syncs one file at a time. Calls back in the loop with None, or the error."""

    def __init__(
        self,
        descriptors: Sequence[int],
        loop: asyncio.AbstractEventLoop,
        done: Callable[[OSError | None], None],
        paths: Sequence[str] = (),
    ) -> None:
        self.loop = loop
        self.done = done
        self.paths = paths  # the files' names, for error messages
        self.asked = 0
        self.socket, theirs = socket.socketpair()
        # -I -S: the child imports only what the interpreter itself needs.
        command = [sys.executable, "-I", "-S", "-c", CHILD, *map(str, descriptors)]
        self.process: subprocess.Popen[bytes] = start_child(command, stdin=theirs.fileno(), pass_fds=list(descriptors))
        theirs.close()
        self.socket.setblocking(False)
        loop.add_reader(self.socket.fileno(), self.read_answer)

    @property
    def process_id(self) -> int:
        return self.process.pid

    def sync(self, index: int) -> None:
        """Requests a sync of the file at `index` of the descriptors. Raises OSError if the child is gone."""
        self.asked = index
        os.write(self.socket.fileno(), bytes((index,)))

    def read_answer(self) -> None:
        try:
            answer = self.socket.recv(4)
        except BlockingIOError:
            return
        except OSError as error:
            answer, failure = b"", error
        else:
            failure = OSError(errno.EIO, "the process that syncs the journal has ended")
        if len(answer) < 4:
            self.loop.remove_reader(self.socket.fileno())
            self.done(failure)
            return
        code = int.from_bytes(answer, "big")
        self.done(SyncError(code, os.strerror(code), *self.paths[self.asked : self.asked + 1]) if code else None)

    def stop(self, *, is_stuck: bool = False) -> None:
        """Ends the child; at once if it is known to be stuck. A child that even SIGKILL cannot end is left behind."""
        self.loop.remove_reader(self.socket.fileno())
        with contextlib.suppress(OSError):  # its other end may be gone
            self.socket.shutdown(socket.SHUT_RDWR)  # a forked process may have inherited it
        self.socket.close()
        try:
            self.process.wait(0 if is_stuck else STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for the disk
                self.process.wait(KILL_TIMEOUT_S)
