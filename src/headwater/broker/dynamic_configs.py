"""The broker's configuration at run time: what was given at the start, and what AlterConfigs laid over it (KIP-226).

Changes are kept in the metadata log, for all nodes ("") or for one, and are in force at once. Only what Kafka lets change
while it runs may change. Groups have configurations of their own (KIP-848), with the broker's as bounds.
"""

import logging
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from headwater.broker.configs import ConfigSource, Layers
from headwater.broker.definitions import ConfigError, ConfigType, definitions, shown
from headwater.broker.setting_classes import LISTENER_SETTINGS, SettingClass, classes_of
from headwater.broker.settings import Settings, own_defaults, problems, without_effect

if TYPE_CHECKING:
    from headwater.broker.core import BrokerCore

logger = logging.getLogger(__name__)

KEYS_NAMED_MAX = 10
DECIDE_WHO_CONNECTS = LISTENER_SETTINGS - {"max.connections"}
# Kafka applies these at run time; here they are read when the broker starts.
READ_ONCE = frozenset({"listeners", "listener.security.protocol.map", "log.cleaner.backoff.ms"})
SUPER_USERS = "super.users"
GROUP_SESSION = "consumer.session.timeout.ms"
GROUP_HEARTBEAT = "consumer.heartbeat.interval.ms"
Changes = Mapping[str, str | None]


class NotDynamicError(ConfigError):
    """A configuration that can only be set before the start: INVALID_REQUEST."""


def broker_types() -> dict[str, ConfigType]:
    return {name: definition.type for name, definition in definitions("broker").items()}


@cache
def dynamic_keys() -> frozenset[str]:
    """Every key that may change while the broker runs.

    These are Kafka's dynamic ones, without those that decide who may connect, so that nobody can be locked out, and
    without those that are read once.
    """
    own = frozenset(own_defaults())
    return frozenset(
        name
        for name, definition in definitions("broker").items()
        if definition.is_dynamic
        and name not in DECIDE_WHO_CONNECTS | READ_ONCE
        and SettingClass.REFUSED not in classes_of(name, own)
    )


def own_layers(core: "BrokerCore") -> Layers:
    """The broker's configuration by where it comes from, the one that counts first."""
    dynamic = core.metadata.broker_configs
    return (
        (sound(dynamic.get(str(core.cluster.node_ids[0]), {})), ConfigSource.DYNAMIC_BROKER),
        (sound(dynamic.get("", {})), ConfigSource.DYNAMIC_DEFAULT_BROKER),
        (core.given, ConfigSource.STATIC_BROKER),
    )


def sound(stored: Mapping[str, str]) -> dict[str, str]:
    """What was stored without what cannot be served, such as what an earlier version accepted."""
    return {key: text for key, text in stored.items() if stored_problem(key, text) is None}


def stored_problem(key: str, text: str) -> str | None:
    """Why a stored configuration cannot be served; None where it can."""
    if key == SUPER_USERS:  # `headwater user create` stores it
        return None
    if key not in dynamic_keys():
        return f"{key} can only be set before the start"
    return problems({key: text}).get(key)


def warn_of_unserved(core: "BrokerCore") -> None:
    """Names, once at the start, what is set without effect, and what is stored and cannot be served."""
    for reason, keys in without_effect(core.given).items():
        logger.warning("set without effect: %s (%s)", ", ".join(keys), reason)
    for stored in core.metadata.broker_configs.values():
        for key, text in stored.items():
            problem = stored_problem(key, text)
            if problem is not None:
                logger.warning("a stored configuration is ignored: %s", problem)


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
    stored = core.metadata.broker_configs.get(resource, {})
    fixed = sorted(
        k for k, text in changes.items() if k not in dynamic_keys() and (text is not None or k not in stored)
    )
    if fixed:
        raise NotDynamicError(f"Cannot update these configs dynamically: {named(fixed)}")
    changed = {key: text for key, text in changes.items() if text is not None}
    found = problems(changed) or problems(merged(own_layers(core)) | changed)
    if found:
        raise ConfigError("; ".join(found.values()))


def named(keys: list[str]) -> str:
    """A list of keys that a client sent, of bounded length."""
    more = len(keys) - KEYS_NAMED_MAX
    return f"[{', '.join(map(shown, keys[:KEYS_NAMED_MAX]))}{f' and {more} more' if more > 0 else ''}]"


def apply(core: "BrokerCore") -> None:
    """Puts what the metadata has in force."""
    core.config_layers = own_layers(core)
    pairs = merged(core.config_layers)
    if problems(pairs):  # each is sound alone, but they do not go together with what was given at this start
        logger.warning("stored configurations are ignored: %s", "; ".join(problems(pairs).values()))
        core.config_layers = core.config_layers[-1:]
        pairs = dict(core.given)
    core.settings = Settings.parsed(pairs)
    core.topic_log_configs.clear()
    for topic in core.metadata.topics.values():
        core.config_changed(topic)
    core.apply_security()


def check_group(core: "BrokerCore", changes: Changes) -> None:
    """Raises ConfigError for a group's configuration that is unknown or out of bounds."""
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
        if key not in definitions("group"):
            raise ConfigError(f"Unknown group config name: {shown(key)}")
        if text is None:
            continue
        value = definitions("group")[key].parse(text)
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
