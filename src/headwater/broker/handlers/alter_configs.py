"""AlterConfigs, 0 to 2: replaces all configurations of a topic, a broker or a group; those that are not named go back to
their defaults.
"""

from headwater.broker.connection import Request
from headwater.broker.core import BrokerCore
from headwater.broker.handlers.altering import Changes, alter_all, present, value_of
from headwater.effects.work import Steps
from headwater.protocol.messages.alter_configs import AlterConfigsRequest, AlterConfigsResponse
from headwater.replay.deferred import Deferred


def handle(core: BrokerCore, request: Request) -> Steps[Deferred[AlterConfigsResponse]]:
    return alter_all(core, request, AlterConfigsResponse(), wanted_changes)


def wanted_changes(core: BrokerCore, resource: AlterConfigsRequest.AlterConfigsResource) -> Changes:
    """The values that are named; all others that the resource has are removed. Raises ApiError."""
    changes: Changes = {config.name: value_of(config.name, config.value) for config in resource.configs}
    own = present(core, resource.resource_type, resource.resource_name)
    return {**dict.fromkeys(own, None), **changes}
