"""The sound batches after the place where a log is torn, above its recovery point.

A start cuts them off, because the journal has what was acknowledged of them. But what was acknowledged while the disk was
full is only in its log. So these batches are kept in memory until the journal has been read. Only the last ones can matter,
and few are written while a disk is full: at most SIZE_BYTES_MAX is kept per log.
"""

from collections import deque

from headwater.protocol.records import BatchHeader
from headwater.storage.segment import Segment
from headwater.storage.soundness import header_if_sound, next_sound

SIZE_BYTES_MAX = 4 << 20


class Remains:
    """See the module's docstring."""

    def __init__(self) -> None:
        self.found: deque[tuple[BatchHeader, memoryview]] = deque()
        self.size_bytes = 0

    def add(self, segment: Segment, position: int) -> None:
        """Keeps the sound batches that follow each other, from the first one at or after `position`. Raises OSError."""
        limit = segment.file.size()
        header = header_if_sound(segment, position, limit)
        if header is None:
            position, _ = next_sound(segment, position, limit, segment.end_offset)
            header = header_if_sound(segment, position, limit)
        while header is not None:
            self.keep(header, segment.read_batch(header, position))
            position, expected = position + header.size_bytes, header.next_offset
            header = header_if_sound(segment, position, limit)
            if header is not None and header.base_offset != expected:
                return

    def keep(self, header: BatchHeader, batch: bytes) -> None:
        self.found.append((header, memoryview(batch)))
        self.size_bytes += len(batch)
        while self.size_bytes > SIZE_BYTES_MAX:
            self.size_bytes -= len(self.found.popleft()[1])

    def take(self) -> list[tuple[BatchHeader, memoryview]]:
        """Returns all of them, in the order of their offsets, and forgets them."""
        found = sorted(self.found, key=lambda kept: kept[0].base_offset)
        self.found.clear()
        self.size_bytes = 0
        return found
