"""The settings of one log, as numbers: what the topic's configuration (Kafka's names) comes to."""

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
    log_append_time: bool = False  # message.timestamp.type is LogAppendTime
    max_message_bytes: int = 1048588
    timestamp_before_max_ms: int = (1 << 63) - 1
    timestamp_after_max_ms: int = 3_600_000
    compression_type: str = "producer"
