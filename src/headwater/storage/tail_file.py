"""A segment's file whose last bytes may still be in memory.

Small batches are not written one by one. They are gathered here, and written together when the journal's next sync begins
(`store.py`): many batches, one write. Readers see one file, wherever the border is.

    written │ gathered          `gather` adds a batch; `flush` moves the border to the end
            └ `written_bytes`

If a flush fails, for example because the disk is full, what was gathered stays in memory, and the file is *overdue*: nothing
more is gathered until a flush succeeds, so the next append is refused if it cannot be written either.
"""

from collections.abc import Sequence

from headwater.effects.buffers import Buffer
from headwater.effects.files import File


class TailFile:
    """See the module's docstring. It writes only at its end, except during a start, when nothing is gathered."""

    __slots__ = ("file", "gathered", "gathered_bytes", "is_overdue", "written_bytes")

    def __init__(self, file: File) -> None:
        self.file = file
        self.written_bytes = file.size()
        self.gathered: list[Buffer] = []
        self.gathered_bytes = 0
        self.is_overdue = False

    def gather(self, batch: Buffer, size: int) -> None:
        """Adds a batch at the end. It is in memory until `flush`, and must not change."""
        self.gathered.append(batch)
        self.gathered_bytes += size

    def flush(self) -> None:
        """Writes what was gathered. Raises OSError; then it stays in memory, and can still be read."""
        if self.gathered_bytes:
            self.is_overdue = True
            self.file.write((b"".join(self.gathered),), self.written_bytes)
            self.written_bytes += self.gathered_bytes
            self.gathered, self.gathered_bytes = [], 0
        self.is_overdue = False

    def read(self, size: int, position: int) -> bytes:
        """Up to `size` bytes at `position`; fewer at the end."""
        if not self.gathered_bytes or position + size <= self.written_bytes:
            return self.file.read(size, position)
        content = b"".join(self.gathered)
        at = position - self.written_bytes
        if at >= 0:
            return content[at : at + size]
        return self.file.read(-at, position) + content[: size + at]

    def write(self, buffers: Sequence[Buffer], position: int) -> None:
        """Writes at once, together with what was gathered before `position`. On OSError nothing has changed."""
        if self.gathered_bytes:
            self.flush()
        self.file.write(buffers, position)
        self.written_bytes = max(self.written_bytes, position + sum(map(len, buffers)))

    def sync(self) -> None:
        """Returns when all of it is on disk. Raises OSError and SyncError."""
        self.flush()
        self.file.sync()

    def truncate(self, size: int) -> None:
        """Cuts the file to `size` bytes. Raises OSError."""
        self.flush()
        self.file.truncate(size)
        self.written_bytes = size

    def size(self) -> int:
        """Bytes in the file and in memory."""
        return self.written_bytes + self.gathered_bytes

    def close(self) -> None:
        """Closes the file. What was gathered is not written: it is in the journal, or nobody was promised it."""
        self.file.close()

    @property
    def descriptor(self) -> int:
        """As `File.descriptor`."""
        return self.file.descriptor
