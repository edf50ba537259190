"""The settings of one log, as numbers, made from the topic's configuration (Kafka's names)."""

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class LogConfig:
    """Field names are Kafka's topic configurations with underscores; -1 stands for no limit."""

    segment_bytes: int = 1 << 30
    segment_ms: int = 7 * 24 * 3600 * 1000
    segment_index_bytes: int = 10 << 20
    index_interval_bytes: int = 4096
    retention_ms: int = 7 * 24 * 3600 * 1000
    retention_bytes: int = -1
    delete: bool = True  # cleanup.policy has "delete"
    compact: bool = False  # cleanup.policy has "compact"
    delete_retention_ms: int = (
        24 * 3600 * 1000
    )  # how long tombstones and markers stay after a compaction left them over
    min_compaction_lag_ms: int = 0
    max_compaction_lag_ms: int = (1 << 63) - 1
    min_cleanable_dirty_ratio: float = 0.5
    log_append_time: bool = False  # message.timestamp.type is LogAppendTime
    max_message_bytes: int = 1048588
    timestamp_before_max_ms: int = (1 << 63) - 1
    timestamp_after_max_ms: int = 3_600_000
    compression_type: str = "producer"

    @property
    def roll_ms(self) -> int:
        """After what time a segment is sealed; what must be compacted soon must be sealed soon."""
        return min(self.segment_ms, self.max_compaction_lag_ms) if self.compact else self.segment_ms
