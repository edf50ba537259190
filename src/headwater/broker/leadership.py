"""Which node leads a partition, and which node coordinates a group or a transactional id.

If a broker shows itself as several nodes (`headwater.nodes`), each of them has every log and every group. Even so, each node
answers only for its own share: clients, and their tests, rely on a cluster behaving this way.
"""

from collections.abc import Iterable
from typing import Any, Protocol

from headwater.broker.authorization import AuthorizationParts, may_group, may_transaction
from headwater.broker.cluster import Cluster
from headwater.broker.connection import Request
from headwater.broker.metadata import OFFSETS_TOPIC, TRANSACTIONS_TOPIC, Metadata, Topic
from headwater.coordinators.groups.coordinator import partition_for
from headwater.protocol.error_codes import ErrorCode
from headwater.security.acls import Operation
from headwater.storage.store import LogStore

LEADER_ERRORS = frozenset({ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH})


class ClusterParts(AuthorizationParts, Protocol):
    """The nodes and the metadata: which topics exist, and which node leads each partition."""

    cluster: Cluster
    metadata: Metadata


class LeaderParts(ClusterParts, Protocol):
    """Names the leaders of partitions. The store has their epoch."""

    store: LogStore


class KnownGroups(Protocol):
    """Distinguishes groups that can be served from those whose state is damaged."""

    def is_known(self, group_id: str) -> bool: ...


class GroupCoordinationParts(ClusterParts, Protocol):
    """Decides whether this node serves a group."""

    @property
    def coordination(self) -> KnownGroups: ...


def name_leaders(
    broker: LeaderParts, request: Request, response: Any, answers: Iterable[tuple[Topic | None, int, Any]]
) -> None:
    """Names the right leaders in a Produce or Fetch response of the wrong node (KIP-951).

    `answers` are a topic, a partition's number and its part of the response.
    """
    leaders = set()
    for topic, number, answer in answers:
        if topic is not None and answer.error_code in LEADER_ERRORS:
            leader_id = broker.metadata.leader(topic, number)
            answer.current_leader = response.LeaderIdAndEpoch(leader_id, broker.store.leader_epoch)
            leaders.add(leader_id)
    nodes = [node for node in broker.cluster.nodes(request.connection.endpoint) if node[0] in leaders]
    response.node_endpoints = [response.NodeEndpoint(*node, broker.cluster.rack) for node in nodes]


def coordinator(broker: ClusterParts, topic: Topic, key: str) -> int:
    """The node that coordinates a group or a transactional id whose state is in that topic."""
    return broker.metadata.leader(topic, partition_for(key, topic.partitions))


def is_coordinator(broker: ClusterParts, request: Request, state_topic: str, key: str) -> bool:
    """Whether the node that the client is connected to coordinates it. Before its topic exists, no node does."""
    if broker.cluster.is_single:
        return True
    topic = broker.metadata.topics.get(state_topic)
    return topic is not None and coordinator(broker, topic, key) == broker.cluster.node_of(request.connection.endpoint)


def coordinates_group(broker: ClusterParts, request: Request, group_id: str) -> bool:
    return is_coordinator(broker, request, OFFSETS_TOPIC, group_id)


def coordinates_transaction(broker: ClusterParts, request: Request, transactional_id: str) -> bool:
    return is_coordinator(broker, request, TRANSACTIONS_TOPIC, transactional_id)


def group_refusal(broker: GroupCoordinationParts, request: Request, operation: Operation, group_id: str) -> ErrorCode:
    """Why this node refuses an operation on the group; NONE if it does not."""
    if not may_group(broker, request, operation, group_id):
        return ErrorCode.GROUP_AUTHORIZATION_FAILED
    if not broker.coordination.is_known(group_id):
        return ErrorCode.COORDINATOR_NOT_AVAILABLE
    return ErrorCode.NONE if coordinates_group(broker, request, group_id) else ErrorCode.NOT_COORDINATOR


def transaction_refusal(broker: ClusterParts, request: Request, operation: Operation, name: str) -> ErrorCode:
    """Why this node refuses an operation on the transactional id; NONE if it does not."""
    if not may_transaction(broker, request, operation, name):
        return ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    return ErrorCode.NONE if coordinates_transaction(broker, request, name) else ErrorCode.NOT_COORDINATOR
