"""The settings of one log, as numbers, made from the topic's configuration (Kafka's names)."""

import zlib
from dataclasses import dataclass, field

NO_LIMIT_MS = (1 << 63) - 1


@dataclass(slots=True, frozen=True)
class LogConfig:
    """Field names are Kafka's topic configurations, with underscores. -1 means no limit."""

    segment_bytes: int = 1 << 30
    segment_ms: int = 7 * 24 * 3600 * 1000
    segment_jitter_ms: int = 0
    segment_index_bytes: int = 10 << 20
    index_interval_bytes: int = 4096
    retention_ms: int = 7 * 24 * 3600 * 1000
    retention_bytes: int = -1
    delete: bool = True  # cleanup.policy has "delete"
    compact: bool = False  # cleanup.policy has "compact"
    delete_retention_ms: int = (
        24 * 3600 * 1000
    )  # how long tombstones and markers stay after the first compaction that kept them
    min_compaction_lag_ms: int = 0
    max_compaction_lag_ms: int = NO_LIMIT_MS
    min_cleanable_dirty_ratio: float = 0.5
    log_append_time: bool = False  # message.timestamp.type is LogAppendTime
    max_message_bytes: int = 1048588
    timestamp_before_max_ms: int = NO_LIMIT_MS
    timestamp_after_max_ms: int = 3_600_000
    compression_type: str = "producer"
    compression_level: int = -1  # that of compression.type, if it names a compression that has levels

    # What follows from these: attributes, since every append asks for it.
    # The least age at which a segment may be sealed.
    earliest_roll_ms: int = field(init=False, repr=False, compare=False)
    # Whether no setting asks for a look at single records, or for a change of batches.
    takes_batches_whole: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "earliest_roll_ms", self.latest_roll_ms - self.jitter_bound_ms)
        wants_more = self.compact or self.log_append_time or self.timestamp_before_max_ms != NO_LIMIT_MS
        object.__setattr__(self, "takes_batches_whole", not wants_more and self.compression_type == "producer")

    @property
    def latest_roll_ms(self) -> int:
        """The age at which a segment without jitter is sealed. A record can only be compacted when its segment is sealed."""
        return min(self.segment_ms, self.max_compaction_lag_ms) if self.compact else self.segment_ms

    @property
    def jitter_bound_ms(self) -> int:
        return min(self.segment_jitter_ms, self.latest_roll_ms)

    def roll_ms(self, segment: str) -> int:
        """The age at which a segment is sealed, by its path.

        With jitter, the segments of many partitions that were filled alike are not all sealed at the same moment. A
        segment's jitter depends on its path alone, so it is the same after a restart.
        """
        bound_ms = self.jitter_bound_ms
        return self.latest_roll_ms - (zlib.crc32(segment.encode()) % bound_ms if bound_ms else 0)
