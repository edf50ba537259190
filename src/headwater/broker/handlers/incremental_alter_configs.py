"""IncrementalAlterConfigs, 0 to 1: sets, deletes, appends to and subtracts from configurations of a
topic, a broker or a group (KIP-339).
"""

from headwater.broker.configs import topic_configs
from headwater.broker.configs.catalog import ConfigType, definitions, parse_as, shown
from headwater.broker.configs.dynamic import merged
from headwater.broker.connection import Request
from headwater.broker.core import BrokerCore
from headwater.broker.handlers.altering import Changes, alter_all, present, value_of
from headwater.effects.work import Steps
from headwater.protocol.config_resources import AlterConfigOp
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.protocol.messages.incremental_alter_configs import (
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from headwater.replay.deferred import Deferred


def handle(core: BrokerCore, request: Request) -> Steps[Deferred[IncrementalAlterConfigsResponse]]:
    return alter_all(core, request, IncrementalAlterConfigsResponse(), wanted_changes)


def wanted_changes(core: BrokerCore, resource: IncrementalAlterConfigsRequest.AlterConfigsResource) -> Changes:
    """The values after the operations. Raises ApiError."""
    names = [config.name for config in resource.configs]
    if len(names) != len(set(names)):
        message = "Error due to duplicate config keys"
        raise ApiError(ErrorCode.INVALID_REQUEST, message)
    own = present(core, resource.resource_type, resource.resource_name)
    changes: Changes = {}
    for config in resource.configs:
        match config.config_operation:
            case AlterConfigOp.SET:
                changes[config.name] = value_of(config.name, config.value)
            case AlterConfigOp.DELETE:
                changes[config.name] = None
            case AlterConfigOp.APPEND | AlterConfigOp.SUBTRACT:
                changes[config.name] = changed_list(core, own, config, resource.resource_type)
            case _:
                message = f"Unsupported config operation {config.config_operation}"
                raise ApiError(ErrorCode.INVALID_REQUEST, message)
    return changes


def changed_list(
    core: BrokerCore, own: dict[str, str], config: IncrementalAlterConfigsRequest.AlterableConfig, kind: int
) -> str:
    scope = topic_configs.SCOPES.get(kind)
    entry = definitions(scope).get(config.name) if scope is not None else None
    if entry is None:
        raise ApiError(ErrorCode.INVALID_CONFIG, f"Unknown config name: {shown(config.name)}")
    if entry.type != ConfigType.LIST:
        message = f"Can't {'append' if config.config_operation == AlterConfigOp.APPEND else 'subtract'} to key {shown(config.name)}"
        raise ApiError(ErrorCode.INVALID_CONFIG, f"{message} because its type is not LIST.")
    if scope == "topic":
        text = topic_configs.value_of(config.name, own, core.config_layers)
    else:
        text = own.get(config.name, merged(core.config_layers).get(config.name, entry.default or ""))
    current = parse_as(ConfigType.LIST, config.name, text)
    items = parse_as(ConfigType.LIST, config.name, config.value or "")
    if config.config_operation == AlterConfigOp.APPEND:
        return ",".join([*current, *(item for item in items if item not in current)])
    return ",".join(item for item in current if item not in items)
