"""Topic configurations: every key that Kafka knows, how it is checked, where its value comes from.

A topic's own value comes first, then the broker's setting of the synonymous key (`retention.ms` from
`log.retention.ms`, `.minutes` or `.hours`), then Kafka's default.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from functools import cache
from typing import Any, NamedTuple, TypeAlias

from headwater.broker.settings import HOUR_MS, kafka_configs
from headwater.storage.config import LogConfig

INT_MAX = 2**31 - 1
LONG_MAX = 2**63 - 1


class ConfigError(ValueError):
    """A configuration that is unknown or has a value that it cannot have: INVALID_CONFIG."""


class ConfigType(IntEnum):
    """As DescribeConfigs numbers them."""

    UNKNOWN = 0
    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9


class ConfigSource(IntEnum):
    """As DescribeConfigs numbers them."""

    UNKNOWN = 0
    TOPIC = 1
    DYNAMIC_BROKER = 2
    DYNAMIC_DEFAULT_BROKER = 3
    STATIC_BROKER = 4
    DEFAULT = 5
    DYNAMIC_BROKER_LOGGER = 6
    CLIENT_METRICS = 7
    GROUP = 8


Layers: TypeAlias = Sequence[tuple[Mapping[str, str], ConfigSource]]
"""The broker's configuration by where it comes from, the one that counts first."""


class ConfigValue(NamedTuple):
    """A value with where it comes from; `synonyms` are all the places it could, the one that counts first."""

    name: str
    value: str
    source: ConfigSource
    type: ConfigType
    synonyms: list[tuple[str, str, ConfigSource]]


def at_least(low: int, high: int = LONG_MAX) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        if not low <= value <= high:
            bound = f"at least {low}" if high in (INT_MAX, LONG_MAX) else f"{low} to {high}"
            raise ConfigError(f"Invalid value {value} for configuration {name}: Value must be {bound}")

    return check


def one_of(*allowed: str) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        for item in value if isinstance(value, list) else [value]:
            if item not in allowed:
                raise ConfigError(
                    f"Invalid value {item} for configuration {name}: String must be one of: {', '.join(allowed)}"
                )

    return check


def gzip_level(name: str, value: Any) -> None:
    if value != -1 and not 1 <= value <= 9:
        raise ConfigError(f"Invalid value {value} for configuration {name}: Value must be -1 or 1 to 9")


def throttled_replicas(name: str, value: Any) -> None:
    if value != ["*"] and any(part.count(":") != 1 for part in value):
        raise ConfigError(
            f"Invalid value {','.join(value)} for configuration {name}: "
            "must be the literal '*' or a list of partition:broker pairs"
        )


VALIDATORS: dict[str, Callable[[str, Any], None]] = {
    "cleanup.policy": one_of("compact", "delete"),
    "compression.gzip.level": gzip_level,
    "compression.lz4.level": at_least(1, 17),
    "compression.zstd.level": at_least(-131072, 22),
    "compression.type": one_of("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"),
    "delete.retention.ms": at_least(0),
    "file.delete.delay.ms": at_least(0),
    "flush.messages": at_least(1),
    "flush.ms": at_least(0),
    "follower.replication.throttled.replicas": throttled_replicas,
    "index.interval.bytes": at_least(0),
    "leader.replication.throttled.replicas": throttled_replicas,
    "local.retention.bytes": at_least(-2),
    "local.retention.ms": at_least(-2),
    "max.compaction.lag.ms": at_least(1),
    "max.message.bytes": at_least(0),
    "message.timestamp.after.max.ms": at_least(0),
    "message.timestamp.before.max.ms": at_least(0),
    "message.timestamp.type": one_of("CreateTime", "LogAppendTime"),
    "min.cleanable.dirty.ratio": at_least(0, 1),
    "min.compaction.lag.ms": at_least(0),
    "min.insync.replicas": at_least(1),
    "retention.bytes": at_least(-1),
    "retention.ms": at_least(-1),
    "segment.bytes": at_least(1024 * 1024),
    "segment.index.bytes": at_least(4),
    "segment.jitter.ms": at_least(0),
    "segment.ms": at_least(1),
}

# Keys of the broker that give a topic's default in other units.
UNIT_SYNONYMS: dict[str, tuple[tuple[str, int], ...]] = {
    "retention.ms": (("log.retention.ms", 1), ("log.retention.minutes", 60_000), ("log.retention.hours", HOUR_MS)),
    "segment.ms": (("log.roll.ms", 1), ("log.roll.hours", HOUR_MS)),
    "segment.jitter.ms": (("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", HOUR_MS)),
    "flush.ms": (("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)),
}


@cache
def topic_entries() -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in kafka_configs()["topic"]}


def parse(name: str, text: str) -> Any:
    """A topic's value by its configuration's type; raises ConfigError."""
    return parse_as(topic_entries()[name]["type"], name, text)


def parse_as(type_: int, name: str, text: str) -> Any:
    """A value of that type; raises ConfigError."""
    text = text.strip()
    try:
        if type_ == ConfigType.BOOLEAN:
            if text.lower() not in ("true", "false"):
                raise ValueError
            return text.lower() == "true"
        if type_ in (ConfigType.INT, ConfigType.LONG):
            number = int(text)
            bound = INT_MAX if type_ == ConfigType.INT else LONG_MAX
            if not -bound - 1 <= number <= bound:
                raise ValueError
            return number
        if type_ == ConfigType.DOUBLE:
            value = float(text)
            if not math.isfinite(value):
                raise ValueError
            return value
    except ValueError:
        kind = ConfigType(type_).name
        raise ConfigError(f"Invalid value {text} for configuration {name}: Not a number of type {kind}") from None
    if type_ == ConfigType.LIST:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def validate(configs: Mapping[str, str | None]) -> None:
    """Raises ConfigError for the first configuration of a topic that is unknown or not allowed."""
    for name, text in configs.items():
        if name not in topic_entries():
            raise ConfigError(f"Unknown topic config name: {name}")
        if text is None:
            raise ConfigError(f"Null value not supported for topic configs: {name}")
        value = parse(name, text)
        if name in VALIDATORS:
            VALIDATORS[name](name, value)
    if (configs.get("remote.storage.enable") or "").lower() == "true":
        raise ConfigError("Tiered storage functionality is disabled in the broker.")


def effective(name: str, own: Mapping[str, str], layers: Layers) -> ConfigValue:
    """The value of a topic's configuration: its own, the broker's (the first layer that has it) or the default."""
    entry = topic_entries()[name]
    synonyms: list[tuple[str, str, ConfigSource]] = []
    if name in own:
        synonyms.append((name, own[name], ConfigSource.TOPIC))
    keys = UNIT_SYNONYMS.get(name, tuple((key, 1) for key in entry["synonyms"]))
    for given, source in layers:
        for key, factor in keys:
            if key in given:
                value = given[key] if factor == 1 else str(int(given[key]) * factor)
                synonyms.append((key, value, source))
    default_key = entry["synonyms"][0] if entry["synonyms"] else None
    if default_key is not None:
        synonyms.append((default_key, entry["default"], ConfigSource.DEFAULT))
    first = synonyms[0] if synonyms else (name, entry["default"], ConfigSource.DEFAULT)
    return ConfigValue(name, first[1], first[2], ConfigType(entry["type"]), synonyms)


def log_config(own: Mapping[str, str], layers: Layers) -> LogConfig:
    """What a topic's configuration means for its logs."""
    prefixes = ("log.", "message.", "compression.")
    if not own and not any(key.startswith(prefixes) for given, _ in layers for key in given):
        return LogConfig()

    def get(name: str) -> Any:
        return parse(name, effective(name, own, layers).value)

    return LogConfig(
        segment_bytes=get("segment.bytes"),
        segment_ms=get("segment.ms"),
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
        compression_type=get("compression.type"),
    )
