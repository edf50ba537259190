"""The timestamps of ListOffsets that are no time. Source: ListOffsetsRequest.java."""

from enum import IntEnum


class SpecialTimestamp(IntEnum):
    """Which offset is asked for where no time is given."""

    LATEST = -1  # the high watermark, or the last stable offset
    EARLIEST = -2
    MAX_TIMESTAMP = -3  # of the record with the greatest timestamp (KIP-734)
    EARLIEST_LOCAL = -4  # KIP-405
    LATEST_TIERED = -5
    EARLIEST_PENDING_UPLOAD = -6
