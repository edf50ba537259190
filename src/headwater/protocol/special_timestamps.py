"""The timestamps in ListOffsets that do not stand for a time. Source: ListOffsetsRequest.java."""

from enum import IntEnum


class SpecialTimestamp(IntEnum):
    """The offset that is requested, in place of one for a time."""

    LATEST = -1  # the high watermark, or the last stable offset
    EARLIEST = -2
    MAX_TIMESTAMP = -3  # the offset of the record with the greatest timestamp (KIP-734)
    EARLIEST_LOCAL = -4  # KIP-405
    LATEST_TIERED = -5
    EARLIEST_PENDING_UPLOAD = -6
