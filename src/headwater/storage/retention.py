"""What a log's retention lets go, and why records are deleted from the beginning of a log.

Retention lets go whole segments, oldest first, up to the first that has to stay. A segment goes when its newest record is too
old, or when the log without it still has `retention_bytes`. So both reasons can apply to one log. Example: of the segments
A B C D, A and B are too old, and C is more than the size allows. Then TIME asks for the log to begin at C, and SIZE at D.

A segment that compaction has emptied goes with those before it, for no reason of its own.
"""

from collections.abc import Callable
from enum import Enum

from headwater.storage.log import Log


class Reason(Enum):
    """Why records are deleted."""

    TIME = "retention.ms"
    SIZE = "retention.bytes"
    REQUEST = "DeleteRecords"


Cleaned = Callable[[Log, Reason, int, int], object]  # a log, why, and how many offsets and bytes it lets go


def expired_offsets(log: Log, now_ms: int) -> dict[Reason | None, int]:
    """The log start offsets that retention asks for, each larger than the present one. None: compaction has left nothing."""
    found: dict[Reason | None, int] = {}
    config = log.config
    if not config.delete:
        return found
    surplus = log.size_bytes - config.retention_bytes if config.retention_bytes >= 0 else 0
    for position, segment in enumerate(log.segments):
        is_last = position == len(log.segments) - 1
        end = log.end_offset if is_last else log.segments[position + 1].base_offset
        log.ensure_index(segment)
        if segment.is_damaged:  # how old it is cannot be known, and somebody may want to rescue it
            break
        if not segment.size and not is_last:
            found[None] = end
            continue
        age_ms = now_ms - segment.max_timestamp if segment.max_timestamp >= 0 else -1
        too_old = config.retention_ms >= 0 and age_ms > config.retention_ms
        too_much = not is_last and surplus >= segment.size and surplus > 0
        if not (too_old or too_much) or end > log.high_watermark or not segment.size:
            break
        surplus -= segment.size
        found[Reason.TIME if too_old else Reason.SIZE] = end
    return {reason: offset for reason, offset in found.items() if offset > log.start_offset}


def bytes_let_go(log: Log, before: int, start: int) -> int:
    """The bytes of the segments that lie below a log's new start offset, and did not lie below the one before."""
    ends = [*log.base_offsets[1:], log.end_offset]
    return sum(segment.size for segment, end in zip(log.segments, ends, strict=True) if before < end <= start)
