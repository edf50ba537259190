"""The types of resources that have configurations, and the operations on configurations, as numbered on the wire.

Sources: ConfigResource.java, AlterConfigOp.java.
"""

from enum import IntEnum


class ConfigResourceType(IntEnum):
    """A type of resource that has configurations."""

    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


class AlterConfigOp(IntEnum):
    """An operation of IncrementalAlterConfigs on one configuration (KIP-339). The last two are for lists."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3
