"""AlterConfigs, 0 to 2: replaces all configurations of a topic, a broker or a group; those that are not named are reset to
their defaults.

`alter_all` also answers IncrementalAlterConfigs, which differs only in how it describes the changes.
"""

from collections import Counter
from typing import Any, Protocol

from headwater.broker.authorization import config_refusal
from headwater.broker.configs.changes import own_configs, records_of, replacement
from headwater.broker.configs.dynamic import Changes
from headwater.broker.connection import Request
from headwater.broker.parts import ConfigChangeParts
from headwater.effects.work import Steps
from headwater.protocol.config_resources import ConfigResourceType
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.protocol.messages.alter_configs import AlterConfigsRequest, AlterConfigsResponse
from headwater.replay.deferred import Deferred
from headwater.replay.sync_number import NO_SYNC, SyncNumber
from headwater.security.acls import Operation
from headwater.security.cipher_suites import TlsError


def handle(broker: ConfigChangeParts, request: Request) -> Steps[Deferred[AlterConfigsResponse]]:
    return alter_all(broker, request, AlterConfigsResponse(), replace_configs)


def replace_configs(
    broker: ConfigChangeParts, resource: AlterConfigsRequest.AlterConfigsResource, *, validate_only: bool
) -> SyncNumber:
    """Sets the named values, and removes all others that the resource has. Raises ApiError and OSError."""
    kind, name = resource.resource_type, resource.resource_name
    own = own_configs(broker.metadata, kind, name)
    changes = replacement(own, [(config.name, config.value) for config in resource.configs])
    return alter(broker, kind, name, changes, validate_only=validate_only)


class Change(Protocol):
    """Makes the changes of one resource; returns the sync that makes them durable. Raises ApiError and OSError."""

    def __call__(self, broker: ConfigChangeParts, resource: Any, /, *, validate_only: bool) -> SyncNumber: ...


def alter_all(broker: ConfigChangeParts, request: Request, response: Any, change: Change) -> Steps[Deferred[Any]]:
    """Answers either request. `change` makes the changes of a resource."""
    body, last_sync = request.body, NO_SYNC
    times = Counter((resource.resource_type, resource.resource_name) for resource in body.resources)
    for resource in body.resources:
        yield
        kind, name = resource.resource_type, resource.resource_name
        result = response.AlterConfigsResourceResponse(0, None, kind, name)
        response.responses.append(result)
        result.error_code = config_refusal(broker, request, Operation.ALTER_CONFIGS, resource)
        if result.error_code:
            continue
        try:
            if times[kind, name] > 1:
                raise ApiError(ErrorCode.INVALID_REQUEST, "Each resource must appear at most once.")
            last_sync = max(last_sync, change(broker, resource, validate_only=body.validate_only))
        except ApiError as error:
            result.error_code, result.error_message = error.code, error.message
        except OSError as error:
            result.error_code, result.error_message = ErrorCode.KAFKA_STORAGE_ERROR, str(error)
    return broker.answer_when_durable(last_sync, response)


def reload_certificates(broker: ConfigChangeParts) -> None:
    """Raises ApiError if a file cannot be used."""
    try:
        broker.reload_certificates()
    except TlsError as error:
        raise ApiError(ErrorCode.INVALID_REQUEST, str(error)) from error


def alter(broker: ConfigChangeParts, kind: int, name: str, changes: Changes, *, validate_only: bool) -> SyncNumber:
    """Changes a resource's configurations and puts them in force; returns the sync that makes the change durable.

    Raises ApiError and OSError.
    """
    records = records_of(broker.metadata, broker.dynamic_configs, kind, name, changes)
    if validate_only:
        return NO_SYNC
    if kind == ConfigResourceType.BROKER and broker.dynamic_configs.without_files(name, changes) != changes:
        reload_certificates(broker)
    if not records:
        return NO_SYNC
    sync = broker.append_metadata(records)
    if kind == ConfigResourceType.TOPIC:
        broker.partitions.config_changed(broker.metadata.topics[name])
    elif kind == ConfigResourceType.BROKER:
        broker.apply_configs()
    return sync
