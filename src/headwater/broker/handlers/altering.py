"""What AlterConfigs and IncrementalAlterConfigs share: changes are checked, appended, and put in force."""

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

from headwater.broker.authorization import config_refusal
from headwater.broker.configs import dynamic
from headwater.broker.configs.catalog import ConfigError
from headwater.broker.connection import Request
from headwater.broker.core import BrokerCore
from headwater.broker.metadata import check_topic_name
from headwater.effects.work import Steps
from headwater.protocol.config_resources import ConfigResourceType
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.replay.deferred import Deferred
from headwater.replay.sync_number import NO_SYNC, SyncNumber
from headwater.security.acls import Operation

Changes: TypeAlias = dict[str, str | None]


def alter_all(
    core: BrokerCore, request: Request, response: Any, changes_of: Callable[[BrokerCore, Any], Changes]
) -> Steps[Deferred[Any]]:
    """Answers either request: `changes_of` tells what a resource asks for, and may raise ApiError."""
    body, last_sync = request.body, NO_SYNC
    times = Counter((resource.resource_type, resource.resource_name) for resource in body.resources)
    for resource in body.resources:
        yield
        kind, name = resource.resource_type, resource.resource_name
        result = response.AlterConfigsResourceResponse(0, None, kind, name)
        response.responses.append(result)
        result.error_code = config_refusal(core, request, Operation.ALTER_CONFIGS, resource)
        if result.error_code:
            continue
        try:
            if times[kind, name] > 1:
                raise ApiError(ErrorCode.INVALID_REQUEST, "Each resource must appear at most once.")
            changes = changes_of(core, resource)
            last_sync = max(last_sync, alter(core, kind, name, changes, validate_only=body.validate_only))
        except ApiError as error:
            result.error_code, result.error_message = error.code, error.message
        except OSError as error:
            result.error_code, result.error_message = ErrorCode.KAFKA_STORAGE_ERROR, str(error)
    return core.answer_when_durable(last_sync, response)


def alter(core: BrokerCore, kind: int, name: str, changes: Changes, *, validate_only: bool) -> SyncNumber:
    """Changes a resource's configurations (None removes one); returns the sync that makes it durable.

    Raises ApiError and OSError.
    """
    records = decided(core, kind, name, changes)
    if validate_only or not records:
        return NO_SYNC
    sync = core.append_metadata(records)
    if kind == ConfigResourceType.TOPIC:
        core.config_changed(core.metadata.topics[name])
    elif kind == ConfigResourceType.BROKER:
        dynamic.apply(core)
    return sync


def decided(core: BrokerCore, kind: int, name: str, changes: Changes) -> list[Any]:
    """The records of a change. Raises ApiError."""
    metadata = core.metadata
    try:
        match kind:
            case ConfigResourceType.TOPIC if not name:
                raise ApiError(ErrorCode.INVALID_REQUEST, "Default topic resources are not allowed.")
            case ConfigResourceType.TOPIC:
                check_topic_name(name)
                return metadata.change_configs(name, changes)
            case ConfigResourceType.BROKER:
                dynamic.check_broker(core, name, changes)
            case ConfigResourceType.GROUP if name:
                dynamic.check_group(core, changes)
            case ConfigResourceType.GROUP:
                raise ApiError(ErrorCode.INVALID_REQUEST, "Default group resources are not allowed.")
            case ConfigResourceType.BROKER_LOGGER | ConfigResourceType.CLIENT_METRICS:
                raise ApiError(ErrorCode.INVALID_REQUEST, "this broker has no such resources to configure")
            case _:
                raise ApiError(ErrorCode.INVALID_REQUEST, f"Unknown resource type {kind}")
    except dynamic.NotDynamicError as error:
        raise ApiError(ErrorCode.INVALID_REQUEST, str(error)) from error
    except ConfigError as error:
        is_of_broker = kind == ConfigResourceType.BROKER and not isinstance(error, dynamic.ClusterConfigError)
        code = ErrorCode.INVALID_REQUEST if is_of_broker else ErrorCode.INVALID_CONFIG
        raise ApiError(code, str(error)) from error
    return metadata.config_records(name, changes, kind)


def value_of(name: str, value: str | None) -> str:
    """A value that is to be set. Raises ApiError for null: a configuration is removed in another way."""
    if value is None:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"Null value not supported for : {name}")
    return value


def present(core: BrokerCore, kind: int, name: str) -> dict[str, str]:
    """The resource's own configurations that clients may change: not the super users, which `user create` stores there."""
    match kind:
        case ConfigResourceType.TOPIC:
            topic = core.metadata.topics.get(name)
            return topic.configs if topic is not None else {}
        case ConfigResourceType.BROKER:
            stored = core.metadata.broker_configs.get(name, {})
            return {key: text for key, text in stored.items() if key != dynamic.SUPER_USERS}
        case ConfigResourceType.GROUP:
            return core.metadata.group_configs.get(name, {})
        case _:
            return {}
