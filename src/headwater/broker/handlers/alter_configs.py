"""AlterConfigs, 0 to 2: replaces all configurations of a topic; those that are not named go back to their defaults."""

from headwater.broker.core import BrokerCore
from headwater.broker.dispatch import Request
from headwater.broker.handlers.altering import TOPIC, alter
from headwater.broker.metadata import MetadataError
from headwater.effects.waits import Deferred
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.alter_configs import AlterConfigsRequest, AlterConfigsResponse


def handle(core: BrokerCore, request: Request) -> AlterConfigsResponse | Deferred:
    body: AlterConfigsRequest = request.body
    response = AlterConfigsResponse()
    last_group = 0
    for resource in body.resources:
        kind, name = resource.resource_type, resource.resource_name
        result = AlterConfigsResponse.AlterConfigsResourceResponse(0, None, kind, name)
        response.responses.append(result)
        changes: dict[str, str | None] = {config.name: config.value for config in resource.configs}
        topic = core.metadata.topics.get(name) if kind == TOPIC else None
        if topic is not None:
            changes = {**dict.fromkeys(topic.configs, None), **changes}
        try:
            last_group = max(last_group, alter(core, kind, name, changes, validate_only=body.validate_only))
        except MetadataError as error:
            result.error_code, result.error_message = error.code, error.message
        except OSError as error:
            result.error_code, result.error_message = ErrorCode.KAFKA_STORAGE_ERROR, str(error)
    return core.answer_when_durable(last_group, response)
