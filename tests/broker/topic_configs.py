"""Configs of a topic that a test creates: as keyword arguments, with underscores for dots."""

from typing import TypedDict

from headwater.protocol.messages.create_topics import CreateTopicsRequest


class TopicConfigs(TypedDict, total=False):
    cleanup_policy: str
    compression_gzip_level: str
    compression_lz4_level: str
    compression_type: str
    compression_zstd_level: str
    delete_retention_ms: str
    index_interval_bytes: str
    max_compaction_lag_ms: str
    max_message_bytes: str
    message_timestamp_type: str
    min_cleanable_dirty_ratio: str
    min_compaction_lag_ms: str
    retention_ms: str
    segment_bytes: str


def creatable_configs(configs: TopicConfigs) -> list[CreateTopicsRequest.CreatableTopicConfig]:
    """As CreateTopics carries them."""
    return [
        CreateTopicsRequest.CreatableTopicConfig(name.replace("_", "."), str(value)) for name, value in configs.items()
    ]
