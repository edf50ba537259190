"""AlterConfigs, 0 to 2: replaces all configurations of a topic; those that are not named go back to their defaults."""

from headwater.broker.core import BrokerCore
from headwater.broker.dispatch import Request
from headwater.broker.handlers.altering import TOPIC, Changes, alter_all
from headwater.effects.waits import Deferred
from headwater.protocol.messages.alter_configs import AlterConfigsRequest, AlterConfigsResponse


def handle(core: BrokerCore, request: Request) -> Deferred:
    return alter_all(core, request.body, AlterConfigsResponse(), wanted_changes)


def wanted_changes(core: BrokerCore, resource: AlterConfigsRequest.AlterConfigsResource) -> Changes:
    """The values that are named; all others that the topic has are removed."""
    changes: Changes = {config.name: config.value for config in resource.configs}
    topic = core.metadata.topics.get(resource.resource_name) if resource.resource_type == TOPIC else None
    return changes if topic is None else {**dict.fromkeys(topic.configs, None), **changes}
