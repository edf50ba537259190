"""What AlterConfigs and IncrementalAlterConfigs ask for, and the records that carry it out.

Both requests result in the same thing: changes, a value per key, where None removes the key. AlterConfigs names all keys
that the resource should have, so all others are removed. IncrementalAlterConfigs has one operation per key (KIP-339).

Example: a topic has `{"retention.ms": "5", "cleanup.policy": "compact"}`. Replacing that by `{"retention.ms": "7"}` becomes
`{"cleanup.policy": None, "retention.ms": "7"}`. Appending "delete" to its `cleanup.policy` becomes
`{"cleanup.policy": "compact,delete"}`.

`records_of` decides, and changes nothing: the caller appends the records, and replaying them changes the metadata.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from headwater.broker.configs import topic_configs
from headwater.broker.configs.catalog import SCOPES, ConfigError, ConfigType, definitions, parse_as, shorten
from headwater.broker.configs.dynamic import (
    SUPER_USERS,
    Changes,
    ClusterConfigError,
    DynamicConfigs,
    Layers,
    NotDynamicError,
    merge_layers,
)
from headwater.protocol.config_resources import AlterConfigOp, ConfigResourceType
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError


class ConfiguredTopic(Protocol):
    """A topic, as far as its configuration is concerned."""

    @property
    def configs(self) -> Mapping[str, str]: ...


class ConfigStore(Protocol):
    """The metadata, as far as configurations are concerned: what is stored, and the records that change it."""

    @property
    def topics(self) -> Mapping[str, ConfiguredTopic]: ...

    @property
    def broker_configs(self) -> Mapping[str, Mapping[str, str]]: ...

    @property
    def group_configs(self) -> Mapping[str, Mapping[str, str]]: ...

    def change_configs(self, name: str, changes: Changes, /) -> list[Any]:
        """The records of a change to a topic. Raises ApiError if the topic does not exist, or a value is wrong."""
        ...

    def config_records(self, resource: str, values: Changes, resource_type: int, /) -> list[Any]:
        """The records of a change that has been checked."""
        ...


def records_of(store: ConfigStore, dynamic: DynamicConfigs, kind: int, name: str, changes: Changes) -> list[Any]:
    """The records that change a resource's configurations. Raises ApiError if the change is not possible."""
    try:
        match kind:
            case ConfigResourceType.TOPIC if not name:
                raise ApiError(ErrorCode.INVALID_REQUEST, "Default topic resources are not allowed.")
            case ConfigResourceType.TOPIC:
                return store.change_configs(name, changes)
            case ConfigResourceType.BROKER:
                dynamic.check_broker(name, changes)
                changes = dynamic.without_files(name, changes)
            case ConfigResourceType.GROUP if name:
                dynamic.check_group(changes)
            case ConfigResourceType.GROUP:
                raise ApiError(ErrorCode.INVALID_REQUEST, "Default group resources are not allowed.")
            case ConfigResourceType.CLIENT_METRICS:
                raise ApiError(ErrorCode.INVALID_REQUEST, "this broker has no such resources to configure")
            case _:
                raise ApiError(ErrorCode.INVALID_REQUEST, f"Unknown resource type {kind}")
    except NotDynamicError as error:
        raise ApiError(ErrorCode.INVALID_REQUEST, str(error)) from error
    except ConfigError as error:
        is_of_broker = kind == ConfigResourceType.BROKER and not isinstance(error, ClusterConfigError)
        code = ErrorCode.INVALID_REQUEST if is_of_broker else ErrorCode.INVALID_CONFIG
        raise ApiError(code, str(error)) from error
    return store.config_records(name, changes, kind)


def own_configs(store: ConfigStore, kind: int, name: str) -> Mapping[str, str]:
    """A resource's own configurations that clients may change. The super users, which `user create` stores there, are not included."""
    match kind:
        case ConfigResourceType.TOPIC:
            topic = store.topics.get(name)
            return topic.configs if topic is not None else {}
        case ConfigResourceType.BROKER:
            stored = store.broker_configs.get(name, {})
            return {key: text for key, text in stored.items() if key != SUPER_USERS}
        case ConfigResourceType.GROUP:
            return store.group_configs.get(name, {})
        case _:
            return {}


def replacement(own: Mapping[str, str], wanted: Iterable[tuple[str, str | None]]) -> Changes:
    """The changes of AlterConfigs: the wanted keys are set, all others that the resource has are removed. Raises ApiError."""
    return {**dict.fromkeys(own, None), **{key: require_value(key, text) for key, text in wanted}}


def increments(
    own: Mapping[str, str], layers: Layers, kind: int, operations: Iterable[tuple[str, int, str | None]]
) -> Changes:
    """The changes of IncrementalAlterConfigs, from (key, operation, value). `layers` are the broker's. Raises ApiError."""
    changes: dict[str, str | None] = {}
    for key, operation, text in operations:
        match operation:
            case AlterConfigOp.SET:
                changes[key] = require_value(key, text)
            case AlterConfigOp.DELETE:
                changes[key] = None
            case AlterConfigOp.APPEND:
                current, items = list_of(own, layers, kind, key, "append"), parse_as(ConfigType.LIST, key, text or "")
                changes[key] = ",".join([*current, *(item for item in items if item not in current)])
            case AlterConfigOp.SUBTRACT:
                current, items = list_of(own, layers, kind, key, "subtract"), parse_as(ConfigType.LIST, key, text or "")
                changes[key] = ",".join(item for item in current if item not in items)
            case _:
                raise ApiError(ErrorCode.INVALID_REQUEST, f"Unsupported config operation {operation}")
    return changes


def require_value(key: str, text: str | None) -> str:
    """A value to be set. Raises ApiError for null, which does not remove a configuration."""
    if text is None:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"Null value not supported for : {key}")
    return text


def list_of(own: Mapping[str, str], layers: Layers, kind: int, key: str, verb: str) -> list[str]:
    """The items of a list in force, which may be the default. Raises ApiError."""
    scope = SCOPES.get(kind)
    definition = definitions(scope).get(key) if scope is not None else None
    if definition is None:
        raise ApiError(ErrorCode.INVALID_CONFIG, f"Unknown config name: {shorten(key)}")
    if definition.type != ConfigType.LIST:
        message = f"Can't {verb} to key {shorten(key)} because its type is not LIST."
        raise ApiError(ErrorCode.INVALID_CONFIG, message)
    if kind == ConfigResourceType.TOPIC:
        text = topic_configs.value_of(key, own, layers)
    else:
        text = own.get(key, merge_layers(layers).get(key, definition.default or ""))
    return list(parse_as(ConfigType.LIST, key, text))
