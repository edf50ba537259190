"""What AlterConfigs and IncrementalAlterConfigs share: a topic's changes are checked, appended, and followed by its logs."""

from collections.abc import Mapping

from headwater.broker.core import BrokerCore
from headwater.broker.metadata import MetadataError
from headwater.protocol.error_codes import ErrorCode

TOPIC, BROKER = 2, 4


def alter(core: BrokerCore, kind: int, name: str, changes: Mapping[str, str | None], *, validate_only: bool) -> int:
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
