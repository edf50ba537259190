"""IncrementalAlterConfigs, 0 to 1: sets, deletes, appends to and subtracts from configurations of a topic, a broker or a
group (KIP-339), and sets the levels of a broker's loggers (KIP-412).
"""

from headwater.broker.configs import loggers
from headwater.broker.configs.changes import increments, own_configs
from headwater.broker.configs.dynamic import NotDynamicError
from headwater.broker.connection import Request
from headwater.broker.handlers.alter_configs import alter, alter_all
from headwater.broker.parts import ConfigChangeParts
from headwater.effects.work import Steps
from headwater.protocol.config_resources import ConfigResourceType
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.protocol.messages.incremental_alter_configs import (
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from headwater.replay.deferred import Deferred
from headwater.replay.sync_number import NO_SYNC, SyncNumber


def handle(broker: ConfigChangeParts, request: Request) -> Steps[Deferred[IncrementalAlterConfigsResponse]]:
    return alter_all(broker, request, IncrementalAlterConfigsResponse(), change_configs)


def change_configs(
    broker: ConfigChangeParts, resource: IncrementalAlterConfigsRequest.AlterConfigsResource, *, validate_only: bool
) -> SyncNumber:
    """Carries out the operations. Raises ApiError and OSError."""
    names = [config.name for config in resource.configs]
    if len(names) != len(set(names)):
        raise ApiError(ErrorCode.INVALID_REQUEST, "Error due to duplicate config keys")
    kind, name = resource.resource_type, resource.resource_name
    operations = [(config.name, config.config_operation, config.value) for config in resource.configs]
    if kind == ConfigResourceType.BROKER_LOGGER:
        change_levels(broker, name, operations, validate_only=validate_only)
        return NO_SYNC
    changes = increments(own_configs(broker.metadata, kind, name), broker.dynamic_configs.layers, kind, operations)
    return alter(broker, kind, name, changes, validate_only=validate_only)


def change_levels(
    broker: ConfigChangeParts, name: str, operations: list[tuple[str, int, str | None]], *, validate_only: bool
) -> None:
    """Changes the levels of the broker's loggers. Raises ApiError."""
    try:
        broker.dynamic_configs.check_node(name)
    except NotDynamicError as error:
        raise ApiError(ErrorCode.INVALID_REQUEST, str(error)) from error
    changes = loggers.checked_levels(operations)
    if not validate_only:
        loggers.apply_levels(changes)
