"""IncrementalAlterConfigs, 0 to 1: sets, deletes, appends to and subtracts from configurations of a
topic, a broker or a group (KIP-339).
"""

from headwater.broker.configs.changes import increments, own_configs
from headwater.broker.configs.dynamic import Changes
from headwater.broker.connection import Request
from headwater.broker.core import BrokerCore
from headwater.broker.handlers.alter_configs import alter_all
from headwater.effects.work import Steps
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
        raise ApiError(ErrorCode.INVALID_REQUEST, "Error due to duplicate config keys")
    kind = resource.resource_type
    own = own_configs(core.metadata, kind, resource.resource_name)
    operations = [(config.name, config.config_operation, config.value) for config in resource.configs]
    return increments(own, core.dynamic_configs.layers, kind, operations)
