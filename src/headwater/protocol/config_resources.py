"""What configurations belong to, and what is done to them, as numbers of the wire.

Sources: ConfigResource.java, AlterConfigOp.java.
"""

from enum import IntEnum


class ConfigResourceType(IntEnum):
    """What has configurations."""

    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


class AlterConfigOp(IntEnum):
    """What IncrementalAlterConfigs does to one of them (KIP-339); the last two are for lists."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3
