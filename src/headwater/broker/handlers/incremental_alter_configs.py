"""IncrementalAlterConfigs, 0 to 1: sets, deletes, appends to and subtracts from configurations of a topic, a broker or a
group (KIP-339).
"""

from headwater.broker.configs.changes import increments, own_configs
from headwater.broker.configs.dynamic import Changes
from headwater.broker.connection import Request
from headwater.broker.handlers.alter_configs import alter_all
from headwater.broker.parts import ConfigChangeParts
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.protocol.messages.incremental_alter_configs import (
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from headwater.replay.deferred import Deferred


def handle(broker: ConfigChangeParts, request: Request) -> Steps[Deferred[IncrementalAlterConfigsResponse]]:
    return alter_all(broker, request, IncrementalAlterConfigsResponse(), wanted_changes)


def wanted_changes(broker: ConfigChangeParts, resource: IncrementalAlterConfigsRequest.AlterConfigsResource) -> Changes:
    """The values after the operations. Raises ApiError."""
    names = [config.name for config in resource.configs]
    if len(names) != len(set(names)):
        raise ApiError(ErrorCode.INVALID_REQUEST, "Error due to duplicate config keys")
    kind = resource.resource_type
    own = own_configs(broker.metadata, kind, resource.resource_name)
    operations = [(config.name, config.config_operation, config.value) for config in resource.configs]
    return increments(own, broker.dynamic_configs.layers, kind, operations)
