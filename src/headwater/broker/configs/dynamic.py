"""The broker's configuration at run time: what was given at the start, and what AlterConfigs laid over it (KIP-226).

Changes are kept in the metadata log, for all nodes ("") or for one, and are in force at once. Only what Kafka lets change
while it runs may change. Groups have configurations of their own (KIP-848), with the broker's as bounds.
"""

import re
from collections.abc import Mapping, Set
from functools import cache
from typing import TYPE_CHECKING

from headwater.broker.configs.catalog import ConfigError, ConfigType, definitions, shown
from headwater.broker.configs.setting_classes import LISTENER_SETTINGS, SettingClass, classes_of
from headwater.broker.configs.settings import (
    LISTENER_PREFIX,
    Settings,
    broker_keys,
    own_defaults,
    problems,
    without_effect,
)
from headwater.broker.configs.topic_configs import ConfigSource, Layers
from headwater.effects.logs import get_logger

if TYPE_CHECKING:
    from headwater.broker.core import BrokerCore

logger = get_logger(__name__)

KEYS_NAMED_MAX = 10
CUSTOM_KEYS_MAX = 100
CUSTOM_CHARACTERS_MAX = 10_000
DECIDE_WHO_CONNECTS = LISTENER_SETTINGS - {"max.connections"}
# Kafka applies these at run time; here they are read when the broker starts.
READ_ONCE = frozenset({"listeners", "listener.security.protocol.map", "log.cleaner.backoff.ms"})
MIN_IN_SYNC = "min.insync.replicas"
NODE_ID = re.compile(r"-?[0-9]{1,10}", re.ASCII)
SUPER_USERS = "super.users"
GROUP_SESSION = "consumer.session.timeout.ms"
GROUP_HEARTBEAT = "consumer.heartbeat.interval.ms"
Changes = Mapping[str, str | None]


class NotDynamicError(ConfigError):
    """A configuration that can only be set before the start: INVALID_REQUEST."""


class ClusterConfigError(ConfigError):
    """A change that Kafka's controller refuses, not its broker: INVALID_CONFIG."""


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
        (defaults_of_all_nodes(core), ConfigSource.DYNAMIC_DEFAULT_BROKER),
        (core.given, ConfigSource.STATIC_BROKER),
    )


def defaults_of_all_nodes(core: "BrokerCore") -> dict[str, str]:
    """What counts for every node unless the node has its own.

    A Kafka with eligible leader replicas (KIP-966) makes the cluster's min.insync.replicas such a default at its first
    start, from what was given; its tools show that as the source.
    """
    return {MIN_IN_SYNC: core.given.get(MIN_IN_SYNC, "1")} | sound(core.metadata.broker_configs.get("", {}))


def sound(stored: Mapping[str, str]) -> dict[str, str]:
    """What was stored without what cannot be served, such as what an earlier version accepted."""
    return {key: text for key, text in stored.items() if stored_problem(key, text) is None}


def stored_problem(key: str, text: str) -> str | None:
    """Why a stored configuration cannot be served; None where it can."""
    if key == SUPER_USERS or is_custom(key):  # `headwater user create` stores the super users
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
    if resource and not NODE_ID.fullmatch(resource):
        raise NotDynamicError(f"Node id must be an integer, but it is: {shown(resource)}")
    if resource and resource not in node_ids:
        raise NotDynamicError(f"Unexpected broker id, expected {' or '.join(node_ids)}, but received {resource}")
    # What an earlier version stored may be removed, but nobody removes the super users, and with them the authorizer.
    stored = core.metadata.broker_configs.get(resource, {}).keys() - {SUPER_USERS}
    fixed = sorted(
        k
        for k, text in changes.items()
        if k not in dynamic_keys() and not is_custom(k) and (text is not None or k not in stored)
    )
    if fixed:
        raise NotDynamicError(f"Cannot update these configs dynamically: {named(fixed)}")
    changed = without_custom({key: text for key, text in changes.items() if text is not None})
    found = problems(changed) or problems(without_custom(merged(own_layers(core))) | changed)
    if found:
        raise ConfigError("; ".join(found.values()))
    check_custom(stored, changes)
    if MIN_IN_SYNC in changes:
        check_min_in_sync(resource, changes[MIN_IN_SYNC])


def is_custom(key: str) -> bool:
    """Whether neither Kafka nor Headwater knows a key. Kafka keeps such keys for plug-ins; here they have no effect.

    None of a listener's keys is one: misspelt, it would leave open who may connect.
    """
    return key not in broker_keys() and not key.startswith(LISTENER_PREFIX)


def check_custom(stored: Set[str], changes: Changes) -> None:
    """Raises ConfigError where a resource would have too many custom keys, or one that is too long."""
    removed = {key for key, text in changes.items() if text is None}
    custom = {key for key in stored | changes.keys() if is_custom(key)} - removed
    if len(custom) > CUSTOM_KEYS_MAX:
        raise ConfigError(f"at most {CUSTOM_KEYS_MAX} keys that this broker does not know are kept for one resource")
    for key, text in changes.items():
        if is_custom(key) and len(key) + len(text or "") > CUSTOM_CHARACTERS_MAX:
            raise ConfigError(f"{shown(key)} is longer than {CUSTOM_CHARACTERS_MAX} characters with its value")


def without_custom(pairs: Mapping[str, str]) -> dict[str, str]:
    return {key: text for key, text in pairs.items() if not is_custom(key)}


def check_min_in_sync(resource: str, text: str | None) -> None:
    """Raises ClusterConfigError as a Kafka with eligible leader replicas does, whose controller has the only value."""
    if resource:
        raise ClusterConfigError(f"Broker-level {MIN_IN_SYNC} cannot be altered while ELR is enabled.")
    if text is None:
        raise ClusterConfigError(f"Cluster-level {MIN_IN_SYNC} cannot be removed while ELR is enabled.")


def named(keys: list[str]) -> str:
    """A list of keys that a client sent, of bounded length."""
    more = len(keys) - KEYS_NAMED_MAX
    return f"[{', '.join(map(shown, keys[:KEYS_NAMED_MAX]))}{f' and {more} more' if more > 0 else ''}]"


def apply(core: "BrokerCore") -> None:
    """Puts what the metadata has in force."""
    core.config_layers = own_layers(core)
    pairs = without_custom(merged(core.config_layers))
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
