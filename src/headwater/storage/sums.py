"""Checksums of a segment's other files, as of a checkpoint (`.sums`, Headwater's own format).

An index is written without waiting for the disk, so a power cut, or an interrupted copy, may leave only a part of it. A part
of a sound index looks like a sound index: retention then assumes that a segment is older than it is, and a look-up by time
skips records. So this file records how many entries the indexes of a segment had, their CRC-32C, and up to which byte of
the log they go. Whatever does not match is rebuilt from the log.

The file is written after the recovery point that covers it is on disk. So it is also a second witness of that point, and of
the segment's end: a shorter segment, or a gap before the next one, is damage. Gaps inside a segment come from compaction,
and are not damage.

    magic "HWS2", size of the log (8), offset at its end (8), greatest timestamp (8) and its offset (8); of `.index`,
        `.timeindex` and `.txnindex` the number of entries (4) and their CRC-32C (4); 1 if there may be gaps in the offsets
    of its batches, otherwise 0 (4); CRC-32C of all that (4)

"HWS1", of earlier versions, does not say whether there may be gaps.
"""

import struct
from typing import NamedTuple

from crc32c import crc32c

from headwater.effects.files import Files, read_file

SUMS_SUFFIX = ".sums"
SUMS_MAGIC, SUMS = b"HWS2", struct.Struct(">4sqqqqIIIIIII")
EARLIER_MAGIC, EARLIER_SUMS = b"HWS1", struct.Struct(">4sqqqqIIIIII")
CRC_BYTES = 4


class SegmentSums(NamedTuple):
    """See the module's docstring. Offsets and sizes are exclusive ends."""

    size: int
    end_offset: int
    max_timestamp: int
    max_timestamp_offset: int
    index_entries: int
    index_crc: int
    time_entries: int
    time_crc: int
    aborted_entries: int
    aborted_crc: int
    may_have_gaps: int = 1

    def content(self) -> bytes:
        head = SUMS.pack(SUMS_MAGIC, *self)
        return head + struct.pack(">I", crc32c(head))


def read_sums(files: Files, path: str, suffix: str = "") -> SegmentSums | None:
    """The sums of the segment at `path` (without a suffix); None if there are none, or they are damaged."""
    try:
        content = read_file(files, path + SUMS_SUFFIX + suffix)
    except FileNotFoundError:
        return None
    body = content[:-CRC_BYTES]
    if len(content) < CRC_BYTES or crc32c(body) != int.from_bytes(content[-CRC_BYTES:], "big"):
        return None
    for known, layout in ((SUMS_MAGIC, SUMS), (EARLIER_MAGIC, EARLIER_SUMS)):
        if len(body) == layout.size and body.startswith(known):
            return SegmentSums(*layout.unpack(body)[1:])
    return None
