"""Looking up records by time in one step."""

from headwater.effects.work import at_once
from headwater.storage.log import Log
from headwater.storage.lookups import TimestampOffset, find_max_timestamp, find_timestamp


def offset_for_timestamp(log: Log, timestamp: int) -> TimestampOffset:
    """The first visible record at or after `timestamp` (ms)."""
    return at_once(find_timestamp(log, timestamp))


def max_timestamp(log: Log) -> TimestampOffset:
    """The latest record by its timestamp, the first of equals."""
    return at_once(find_max_timestamp(log))
