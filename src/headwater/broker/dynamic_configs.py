"""The broker's configuration at run time: what was given at the start, and what AlterConfigs laid over it (KIP-226).

Changes are kept in the metadata log, for all nodes ("") or for one, and are in force at once. Only what Kafka lets change
while it runs may change. Groups have configurations of their own (KIP-848), with the broker's as bounds.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from headwater.broker.configs import ConfigError, ConfigSource, ConfigType, Layers, parse_as
from headwater.broker.settings import Settings, SettingsError, kafka_configs, own_defaults

if TYPE_CHECKING:
    from headwater.broker.core import BrokerCore

GROUP_SESSION = "consumer.session.timeout.ms"
GROUP_HEARTBEAT = "consumer.heartbeat.interval.ms"
Changes = Mapping[str, str | None]


class NotDynamicError(ConfigError):
    """A configuration that can only be set before the start: INVALID_REQUEST."""


def broker_types() -> dict[str, ConfigType]:
    return {entry["name"]: ConfigType(entry["type"]) for entry in kafka_configs()["broker"]}


def dynamic_keys() -> frozenset[str]:
    """Every key that may change while the broker runs."""
    return frozenset(e["name"] for e in kafka_configs()["broker"] if e.get("dynamic")) | {"log.retention.ms"}


def own_layers(core: "BrokerCore") -> Layers:
    """The broker's configuration by where it comes from, the one that counts first."""
    dynamic = core.metadata.broker_configs
    return (
        (dynamic.get(str(core.cluster.node_ids[0]), {}), ConfigSource.DYNAMIC_BROKER),
        (dynamic.get("", {}), ConfigSource.DYNAMIC_DEFAULT_BROKER),
        (core.given, ConfigSource.STATIC_BROKER),
    )


def merged(layers: Layers) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for layer, _ in reversed(layers):
        pairs.update(layer)
    return pairs


def check_broker(core: "BrokerCore", resource: str, changes: Changes) -> None:
    """Raises ConfigError for a change that cannot be made while the broker runs."""
    node_ids = [str(node_id) for node_id in core.cluster.node_ids]
    if resource and resource not in node_ids:
        raise NotDynamicError(f"Unexpected broker id, expected {' or '.join(node_ids)}, but received {resource}")
    keys, types = dynamic_keys(), broker_types()
    fixed = sorted(key for key in changes if key not in keys)
    if fixed:
        raise NotDynamicError(f"Cannot update these configs dynamically: [{', '.join(fixed)}]")
    for key, text in changes.items():
        if text is not None and key in types:
            parse_as(types[key], key, text)
    after = merged(own_layers(core)) | {key: text for key, text in changes.items() if text is not None}
    try:
        Settings.from_pairs(after)
    except SettingsError as error:
        raise ConfigError(str(error)) from error


def apply(core: "BrokerCore") -> None:
    """Puts what the metadata has in force."""
    core.config_layers = own_layers(core)
    core.settings = Settings.from_pairs(merged(core.config_layers))
    core.topic_log_configs.clear()
    for topic in core.metadata.topics.values():
        core.config_changed(topic)
    core.apply_security()


def check_group(core: "BrokerCore", changes: Changes) -> None:
    """Raises ConfigError for a group's configuration that is unknown or out of bounds."""
    types = {entry["name"]: ConfigType(entry["type"]) for entry in kafka_configs()["group"]}
    settings = core.settings
    bounds = {
        GROUP_SESSION: (
            settings.group_consumer_min_session_timeout_ms,
            settings.group_consumer_max_session_timeout_ms,
            "session.timeout.ms",
        ),
        GROUP_HEARTBEAT: (
            settings.group_consumer_min_heartbeat_interval_ms,
            settings.group_consumer_max_heartbeat_interval_ms,
            "heartbeat.interval.ms",
        ),
    }
    for key, text in changes.items():
        if key not in types:
            raise ConfigError(f"Unknown group config name: {key}")
        if text is None:
            continue
        value = parse_as(types[key], key, text)
        if key in bounds:
            low, high, name = bounds[key]
            if value < low:
                raise ConfigError(f"{key} must be greater than or equal to group.consumer.min.{name}")
            if value > high:
                raise ConfigError(f"{key} must be less than or equal to group.consumer.max.{name}")


def described_settings(core: "BrokerCore") -> dict[str, str]:
    """The values that have an effect here, before anything was given."""
    defaults = Settings()
    return {key: text for key, text in defaults.described().items() if key in own_defaults()}
