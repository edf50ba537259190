"""The broker's configuration at run time: what was given at the start, overridden by AlterConfigs (KIP-226).

A key's value comes from the first of these layers that has the key:

1. what AlterConfigs set for this node;
2. what AlterConfigs set for all nodes, whose resource has the name "";
3. what was given before the start;
4. Kafka's default.

Example: the start sets `log.retention.ms=1000`. AlterConfigs sets 2000 for all nodes, then 3000 for node 1: 3000 is in
force. It removes the one of node 1: 2000 is in force.

The first two layers are stored in the metadata log, and a change takes effect at once. Only keys that Kafka can change at
run time can be changed. An earlier version, or a start with other settings, may have stored something that is not supported
now: it is logged and ignored, but stays stored, so that it can be removed.

Groups have configurations of their own (KIP-848), with the broker's as bounds.
"""

import re
from collections.abc import Mapping, Sequence, Set
from enum import IntEnum
from functools import cache
from itertools import dropwhile
from typing import TypeAlias

from headwater.broker.configs.catalog import ConfigError, ConfigType, definitions, shorten
from headwater.broker.configs.setting_classes import LISTENER_SETTINGS, SettingClass, classes_of
from headwater.broker.configs.settings import (
    LISTENER_PREFIX,
    Settings,
    broker_keys,
    own_defaults,
    problems,
    without_effect,
)
from headwater.effects.logs import get_logger

logger = get_logger(__name__)

KEYS_NAMED_MAX = 10
CUSTOM_KEYS_MAX = 100
CUSTOM_CHARACTERS_MAX = 10_000
DECIDE_WHO_CONNECTS = LISTENER_SETTINGS - {"max.connections", "max.connection.creation.rate"}
# Kafka applies these at run time; Headwater reads them at the start.
READ_ONCE = frozenset({"listeners", "listener.security.protocol.map", "log.cleaner.backoff.ms"})
TLS_FILES = ("ssl.keystore.location", "ssl.truststore.location")  # perhaps after a listener's prefix
MIN_IN_SYNC = "min.insync.replicas"
NODE_ID = re.compile(r"-?[0-9]{1,10}", re.ASCII)
SUPER_USERS = "super.users"
GROUP_SESSION = "consumer.session.timeout.ms"
GROUP_HEARTBEAT = "consumer.heartbeat.interval.ms"
GROUP_ASSIGNMENT = "consumer.assignment.interval.ms"
Changes: TypeAlias = Mapping[str, str | None]
"""Values by key; None removes a key."""


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
"""The broker's configuration by source, in order of precedence."""


class NotDynamicError(ConfigError):
    """A configuration that can only be set before the start: INVALID_REQUEST."""


class ClusterConfigError(ConfigError):
    """A change that Kafka's controller refuses, not its broker: INVALID_CONFIG."""


class DynamicConfigs:
    """The configuration in force: `layers`, in order of precedence, and the `settings` that result from them."""

    def __init__(self, settings: Settings, node_ids: Sequence[int], stored: Mapping[str, Mapping[str, str]]) -> None:
        """`settings` were given at the start. `stored` is the metadata's mapping, by node id or "", which changes later.

        What is stored takes effect with `apply`.
        """
        self.given = settings.given
        self.node_ids = [str(node_id) for node_id in node_ids]
        self.stored = stored
        self.layers: Layers = ((self.given, ConfigSource.STATIC_BROKER),)
        self.settings = settings

    def apply(self) -> None:
        """Puts what is stored now in force."""
        self.layers = self.stored_layers()
        pairs = without_custom(merge_layers(self.layers))
        if problems(pairs):  # each is valid by itself, but they contradict what was given at this start
            logger.warning("stored configurations are ignored: %s", "; ".join(problems(pairs).values()))
            self.layers = self.layers[-1:]
            pairs = dict(self.given)
        self.settings = Settings.parsed(pairs)

    def stored_layers(self) -> Layers:
        """The layers with everything that is stored and supported."""
        return (
            (sound(self.stored.get(self.node_ids[0], {})), ConfigSource.DYNAMIC_BROKER),
            (self.defaults_of_all_nodes(), ConfigSource.DYNAMIC_DEFAULT_BROKER),
            (self.given, ConfigSource.STATIC_BROKER),
        )

    def defaults_of_all_nodes(self) -> dict[str, str]:
        """The values that apply to every node unless it has its own.

        A Kafka with eligible leader replicas (KIP-966) makes the cluster's min.insync.replicas such a default at its
        first start, from what was given; its tools show that as the source.
        """
        return {MIN_IN_SYNC: self.given.get(MIN_IN_SYNC, "1")} | sound(self.stored.get("", {}))

    def super_users(self) -> frozenset[str]:
        """The principals that may do everything: the given ones, and those that `headwater user create` stored."""
        texts = [own.get(SUPER_USERS, "") for own in (self.given, *self.stored.values())]
        return frozenset(name.strip() for text in texts for name in text.split(";") if name.strip())

    def warn_of_unserved(self) -> None:
        """Logs, once at the start, settings without effect, and stored ones that are not supported."""
        for reason, keys in without_effect(self.given).items():
            logger.warning("settings without effect: %s (%s)", ", ".join(keys), reason)
        for stored in self.stored.values():
            for key, text in stored.items():
                problem = stored_problem(key, text)
                if problem is not None:
                    logger.warning("a stored configuration is ignored: %s", problem)

    def check_node(self, resource: str) -> None:
        """Raises NotDynamicError for a resource that is not one of this broker's nodes."""
        if not NODE_ID.fullmatch(resource):
            raise NotDynamicError(f"Node id must be an integer, but it is: {shorten(resource)}")
        if resource not in self.node_ids:
            expected = " or ".join(self.node_ids)
            raise NotDynamicError(f"Unexpected broker id, expected {expected}, but received {resource}")

    def check_broker(self, resource: str, changes: Changes) -> None:
        """Raises ConfigError for a change that is not possible while the broker runs."""
        if resource:
            self.check_node(resource)
        # What an earlier version stored may be removed, but not the super users, and with them the authorizer.
        stored = self.stored.get(resource, {}).keys() - {SUPER_USERS}
        changes = self.without_files(resource, changes)
        fixed = sorted(
            key
            for key, text in changes.items()
            if key not in dynamic_keys() and not is_custom(key) and (text is not None or key not in stored)
        )
        if fixed:
            raise NotDynamicError(f"Cannot update these configs dynamically: {join_keys(fixed)}")
        changed = without_custom({key: text for key, text in changes.items() if text is not None})
        found = problems(changed) or problems(without_custom(merge_layers(self.stored_layers())) | changed)
        if found:
            raise ConfigError("; ".join(found.values()))
        check_custom(stored, changes)
        if MIN_IN_SYNC in changes:
            check_min_in_sync(resource, changes[MIN_IN_SYNC])

    def without_files(self, resource: str, changes: Changes) -> Changes:
        """The changes without those that name a node's TLS files as they were given: these ask for the files to be read again.

        They are not stored. Otherwise they would override the files that are given at the next start.
        """
        files = {key: text for key, text in self.given.items() if resource and key.endswith(TLS_FILES)}
        return {
            key: text for key, text in changes.items() if key not in files or text is None or text.strip() != files[key]
        }

    def check_group(self, changes: Changes) -> None:
        """Raises ConfigError for a group's configuration that is unknown or outside the broker's bounds."""
        settings = self.settings
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
            GROUP_ASSIGNMENT: (
                settings.group_consumer_min_assignment_interval_ms,
                settings.group_consumer_max_assignment_interval_ms,
                "assignment.interval.ms",
            ),
        }
        for key, text in changes.items():
            if key not in definitions("group"):
                raise ConfigError(f"Unknown group config name: {shorten(key)}")
            if text is None:
                continue
            value = definitions("group")[key].parse(text)
            if key in bounds:
                low, high, name = bounds[key]
                if value < low:
                    raise ConfigError(f"{key} must be greater than or equal to group.consumer.min.{name}")
                if value > high:
                    raise ConfigError(f"{key} must be less than or equal to group.consumer.max.{name}")


def broker_types() -> dict[str, ConfigType]:
    return {name: definition.type for name, definition in definitions("broker").items()}


@cache
def dynamic_keys() -> frozenset[str]:
    """All keys that may change while the broker runs.

    These are Kafka's dynamic ones, except those that decide who may connect, so that nobody can be locked out, and except
    those that are read only once.
    """
    own = frozenset(own_defaults())
    return frozenset(
        name
        for name, definition in definitions("broker").items()
        if definition.is_dynamic
        and name not in DECIDE_WHO_CONNECTS | READ_ONCE
        and SettingClass.REFUSED not in classes_of(name, own)
    )


def sound(stored: Mapping[str, str]) -> dict[str, str]:
    """The stored configurations that are supported; an earlier version may have accepted others."""
    return {key: text for key, text in stored.items() if stored_problem(key, text) is None}


def stored_problem(key: str, text: str) -> str | None:
    """Why a stored configuration is not supported; None if it is."""
    if key == SUPER_USERS or is_custom(key):  # `headwater user create` stores the super users
        return None
    if key not in dynamic_keys():
        return f"{key} can only be set before the start"
    return problems({key: text}).get(key)


def merge_layers(layers: Layers) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for layer, _ in reversed(layers):
        pairs.update(layer)
    return pairs


def is_custom(key: str) -> bool:
    """Whether neither Kafka nor Headwater knows a key. Kafka keeps such keys for plug-ins; here they have no effect.

    A listener's keys never count as such: a misspelt one could leave a listener open.
    """
    return key not in broker_keys() and not key.startswith(LISTENER_PREFIX)


def check_custom(stored: Set[str], changes: Changes) -> None:
    """Raises ConfigError if a resource would have too many custom keys, or one that is too long."""
    removed = {key for key, text in changes.items() if text is None}
    custom = {key for key in stored | changes.keys() if is_custom(key)} - removed
    if len(custom) > CUSTOM_KEYS_MAX:
        raise ConfigError(f"at most {CUSTOM_KEYS_MAX} keys that this broker does not know are kept for one resource")
    for key, text in changes.items():
        if is_custom(key) and len(key) + len(text or "") > CUSTOM_CHARACTERS_MAX:
            raise ConfigError(f"{shorten(key)} is longer than {CUSTOM_CHARACTERS_MAX} characters with its value")


def without_custom(pairs: Mapping[str, str]) -> dict[str, str]:
    return {key: text for key, text in pairs.items() if not is_custom(key)}


def check_min_in_sync(resource: str, text: str | None) -> None:
    """Raises ClusterConfigError as a Kafka with eligible leader replicas does, in which only the controller has a value."""
    if resource:
        raise ClusterConfigError(f"Broker-level {MIN_IN_SYNC} cannot be altered while ELR is enabled.")
    if text is None:
        raise ClusterConfigError(f"Cluster-level {MIN_IN_SYNC} cannot be removed while ELR is enabled.")


def join_keys(keys: list[str]) -> str:
    """Lists keys that a client sent, with bounded length."""
    more = len(keys) - KEYS_NAMED_MAX
    return f"[{', '.join(map(shorten, keys[:KEYS_NAMED_MAX]))}{f' and {more} more' if more > 0 else ''}]"


def broker_synonyms(
    name: str, keys: Sequence[str], layers: Layers, own_defaults: Mapping[str, str]
) -> list[tuple[str, str | None, ConfigSource]]:
    """The possible sources of a broker's configuration, as Kafka lists them, in order of precedence.

    Other keys only count after the key itself: if that is not set anywhere, the list is empty.
    """
    found: list[tuple[str, str | None, ConfigSource]] = []
    found += [(key, given[key], source) for given, source in layers for key in keys if key in given]
    kafkas = definitions("broker")
    for key in keys:
        default = own_defaults.get(key) or (kafkas[key].default if key in kafkas else None)
        if default is not None:
            found.append((key, default, ConfigSource.DEFAULT))
    return list(dropwhile(lambda synonym: synonym[0] != name, found))


def described_settings() -> dict[str, str]:
    """The values that have an effect here, before anything is set."""
    defaults = Settings()
    return {key: text for key, text in defaults.effective_values().items() if key in own_defaults()}
