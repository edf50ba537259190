"""What `hw.Admin` says about a cluster: its nodes, topics, configurations and groups."""

from typing import Literal, NamedTuple

from headwater.client.positions import Partition

ResourceKind = Literal["topic", "broker", "group"]


class Node(NamedTuple):
    """A broker of the cluster, and where clients reach it."""

    id: int
    host: str
    port: int
    rack: str | None


class ClusterDescription(NamedTuple):
    """A cluster: its id, its nodes by id, and the id of the controller if that is known."""

    id: str
    controller: int | None
    nodes: dict[int, Node]


class TopicDescription(NamedTuple):
    """A topic: how many partitions and replicas it has."""

    name: str
    partitions: int
    replicas: int
    is_internal: bool


class PartitionDescription(NamedTuple):
    """A partition, and the nodes that have it. There is no leader while none of them is up."""

    partition: int
    leader: int | None
    replicas: list[int]
    in_sync: list[int]


class TopicDetails(NamedTuple):
    """A topic: its id, and each of its partitions."""

    name: str
    id: str
    partitions: list[PartitionDescription]
    is_internal: bool


class ConfigValue(NamedTuple):
    """A configuration in force. The value of a secret is None.

    `is_own` says that it was set on this very resource, and not on the broker or by default.
    """

    value: str | None
    is_default: bool
    is_own: bool
    is_sensitive: bool
    is_read_only: bool


class GroupListing(NamedTuple):
    """A group as it is listed: its state, such as Stable or Empty, and its type, classic or consumer."""

    group: str
    state: str
    type: str


class GroupDescription(NamedTuple):
    """A consumer group: its state, the partitions of each member, and the members' hosts."""

    group: str
    state: str
    members: dict[str, list[Partition]]
    hosts: dict[str, str]
