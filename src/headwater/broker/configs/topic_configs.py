"""Topic configurations: every key that Kafka knows, how its value is checked, and where it comes from.

A topic's own value comes first, then the broker's setting with the corresponding key (`log.retention.ms`, `.minutes` or
`.hours` for `retention.ms`), then Kafka's default.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from headwater.broker.configs.catalog import (
    INT_MAX,
    LONG_MAX,
    ConfigError,
    ConfigType,
    definitions,
    shorten,
    topic_entries,
    units_of,
)
from headwater.broker.configs.dynamic import ConfigSource, Layers, broker_synonyms
from headwater.storage.config import LogConfig

RECORD_LIMIT = "max.decompressed.message.bytes"
HAVE_LEVELS = frozenset({"gzip", "lz4", "zstd"})
THROTTLED_REPLICA = re.compile(r"[0-9]+:[0-9]+", re.ASCII)


class ConfigValue(NamedTuple):
    """A value and its source. `synonyms` are all possible sources, in order of precedence."""

    name: str
    value: str
    source: ConfigSource
    type: ConfigType
    synonyms: list[tuple[str, str | None, ConfigSource]]


def check_throttled_replicas(name: str, value: list[str]) -> None:
    if value != ["*"] and not all(THROTTLED_REPLICA.fullmatch(part) for part in value):
        raise ConfigError(
            f"Invalid value {shorten(','.join(value))} for configuration {name}: "
            "must be the literal '*' or a list of partition:broker pairs"
        )


def parse(name: str, text: str) -> Any:
    """Parses a topic's value. Raises ConfigError if Kafka would refuse it."""
    value = definitions("topic")[name].parse(text)
    if name.endswith("replication.throttled.replicas"):
        check_throttled_replicas(name, value)
    return value


def validate(configs: Mapping[str, str | None]) -> None:
    """Raises ConfigError for the first configuration of a topic that is unknown or not allowed."""
    values = {}
    for name, text in configs.items():
        if name not in definitions("topic"):
            raise ConfigError(f"Unknown topic config name: {shorten(name)}")
        if text is None:
            raise ConfigError(f"Null value not supported for topic configs: {name}")
        values[name] = parse(name, text)
    if values.get("remote.storage.enable"):
        raise ConfigError("Tiered storage functionality is disabled in the broker.")
    limit = values.get(RECORD_LIMIT, INT_MAX)
    if limit < int(definitions("topic")[RECORD_LIMIT].default or 0):
        raise ConfigError(f"{RECORD_LIMIT} is not supported; max.message.bytes limits the decompressed size of a batch")
    least, most = values.get("min.compaction.lag.ms", 0), values.get("max.compaction.lag.ms", LONG_MAX)
    if least > most:
        raise ConfigError(
            f"conflict topic config setting min.compaction.lag.ms ({least}) > max.compaction.lag.ms ({most})"
        )


def refuse_flushes(configs: Mapping[str, str | None]) -> None:
    """Raises ConfigError for a topic whose writes must be flushed, which only the journal can do."""
    for name in ("flush.messages", "flush.ms"):
        text = configs.get(name)
        if text is not None and not definitions("topic")[name].is_default(text):
            raise ConfigError(f"{name} is not supported with headwater.durability=page-cache")


def in_milliseconds(text: str, factor: int) -> str:
    """Converts a time to ms. Every negative time is -1, which means no limit, as in Kafka."""
    return str(max(-1, int(text) * factor))


def effective(name: str, own: Mapping[str, str], layers: Layers) -> ConfigValue:
    """A topic's configuration and its source."""
    keys = [key for key, _ in units_of(name)]
    synonyms = broker_synonyms(keys[0], keys, layers, {}) if keys else []
    if name in own:
        synonyms.insert(0, (name, own[name], ConfigSource.TOPIC))
    source = synonyms[0][2] if synonyms else ConfigSource.DEFAULT
    type_ = ConfigType(topic_entries()[name]["type"])
    return ConfigValue(name, value_of(name, own, layers), source, type_, synonyms)


def value_of(name: str, own: Mapping[str, str], layers: Layers) -> str:
    """The value of a topic's configuration: its own, the broker's (from the first layer that has it) or the default."""
    if name in own:
        return own[name]
    for given, _ in layers:
        for key, factor in units_of(name):
            if key in given:
                return given[key] if factor == 1 else in_milliseconds(given[key], factor)
    return str(topic_entries()[name]["default"])


def log_config(own: Mapping[str, str], layers: Layers) -> LogConfig:
    """The settings of a topic's logs, from its configuration."""
    prefixes = ("log.", "message.", "compression.")
    if not own and not any(key.startswith(prefixes) for given, _ in layers for key in given):
        return LogConfig()

    def get(name: str) -> Any:
        return parse(name, value_of(name, own, layers))

    levels: dict[str, int] = {codec: get(f"compression.{codec}.level") for codec in HAVE_LEVELS}
    compression = get("compression.type")
    return LogConfig(
        segment_bytes=get("segment.bytes"),
        segment_ms=get("segment.ms"),
        segment_jitter_ms=get("segment.jitter.ms"),
        segment_index_bytes=get("segment.index.bytes"),
        index_interval_bytes=get("index.interval.bytes"),
        retention_ms=get("retention.ms"),
        retention_bytes=get("retention.bytes"),
        delete="delete" in get("cleanup.policy"),
        compact="compact" in get("cleanup.policy"),
        delete_retention_ms=get("delete.retention.ms"),
        min_compaction_lag_ms=get("min.compaction.lag.ms"),
        max_compaction_lag_ms=get("max.compaction.lag.ms"),
        min_cleanable_dirty_ratio=get("min.cleanable.dirty.ratio"),
        log_append_time=get("message.timestamp.type") == "LogAppendTime",
        max_message_bytes=get("max.message.bytes"),
        timestamp_before_max_ms=get("message.timestamp.before.max.ms"),
        timestamp_after_max_ms=get("message.timestamp.after.max.ms"),
        compression_type=compression,
        compression_level=levels.get(compression, -1),
    )
