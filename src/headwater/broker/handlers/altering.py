"""What AlterConfigs and IncrementalAlterConfigs share: a topic's changes are checked, appended, and followed by its logs."""

from collections.abc import Callable
from typing import Any, TypeAlias

from headwater.broker.core import BrokerCore
from headwater.broker.metadata import MetadataError
from headwater.effects.waits import Deferred
from headwater.protocol.error_codes import ErrorCode

TOPIC, BROKER = 2, 4
Changes: TypeAlias = dict[str, str | None]


def alter_all(core: BrokerCore, body: Any, response: Any, changes_of: Callable[[BrokerCore, Any], Changes]) -> Deferred:
    """Answers either request: `changes_of` tells what a resource asks for, and may raise MetadataError."""
    last_group = 0
    for resource in body.resources:
        kind, name = resource.resource_type, resource.resource_name
        result = response.AlterConfigsResourceResponse(0, None, kind, name)
        response.responses.append(result)
        try:
            changes = changes_of(core, resource)
            last_group = max(last_group, alter(core, kind, name, changes, validate_only=body.validate_only))
        except MetadataError as error:
            result.error_code, result.error_message = error.code, error.message
        except OSError as error:
            result.error_code, result.error_message = ErrorCode.KAFKA_STORAGE_ERROR, str(error)
    return core.answer_when_durable(last_group, response)


def alter(core: BrokerCore, kind: int, name: str, changes: Changes, *, validate_only: bool) -> int:
    """Changes a resource's configurations (None removes one); returns the journal's group.

    Raises MetadataError and OSError.
    """
    if kind == BROKER:
        raise MetadataError(
            ErrorCode.INVALID_REQUEST,
            "broker configurations cannot be changed while it runs: set them in server.properties or with --set",
        )
    if kind != TOPIC:
        raise MetadataError(ErrorCode.INVALID_REQUEST, f"Unsupported resource type: {kind}")
    records = core.metadata.change_configs(name, changes)
    if validate_only or not records:
        return 0
    group = core.append_metadata(records)
    core.config_changed(core.metadata.topics[name])
    return group
