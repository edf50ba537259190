"""AlterPartitionReassignments, 0 to 1: every node has every partition already, so one that is allowed is done at once.

The replicas that are asked for must exist; cancelling (null) finds nothing under way (KIP-455).
"""

from headwater.broker.authorization import may_cluster
from headwater.broker.core import BrokerCore
from headwater.broker.dispatch import Request
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
)
from headwater.security.acls import Operation

PartitionResult = AlterPartitionReassignmentsResponse.ReassignablePartitionResponse
TopicResult = AlterPartitionReassignmentsResponse.ReassignableTopicResponse


def handle(core: BrokerCore, request: Request) -> AlterPartitionReassignmentsResponse:
    body: AlterPartitionReassignmentsRequest = request.body
    if not may_cluster(core, request, Operation.ALTER):
        return AlterPartitionReassignmentsResponse(error_code=ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
    return AlterPartitionReassignmentsResponse(
        allow_replication_factor_change=body.allow_replication_factor_change,
        error_message=None,
        responses=[
            TopicResult(topic.name, [reassign(core, body, topic.name, p) for p in topic.partitions])
            for topic in body.topics
        ],
    )


def reassign(
    core: BrokerCore,
    body: AlterPartitionReassignmentsRequest,
    name: str,
    wanted: AlterPartitionReassignmentsRequest.ReassignablePartition,
) -> PartitionResult:
    number, replicas = wanted.partition_index, wanted.replicas
    topic = core.metadata.topics.get(name)
    if topic is None:
        message = f"Unable to find a topic named {name}."
        return PartitionResult(number, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, message)
    if not 0 <= number < topic.partitions:
        message = f"Unable to find partition {name}:{number}."
        return PartitionResult(number, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, message)
    if replicas is None:
        return PartitionResult(number, ErrorCode.NO_REASSIGNMENT_IN_PROGRESS, None)
    problem = assignment_problem(core, replicas)
    if problem is not None:
        message = f"The manual partition assignment includes {problem}"
        return PartitionResult(number, ErrorCode.INVALID_REPLICA_ASSIGNMENT, message)
    current = core.metadata.replicas(topic, number)
    if len(replicas) != len(current) and not body.allow_replication_factor_change:
        message = "The replication factor is changed, and allow_replication_factor_change is false."
        return PartitionResult(number, ErrorCode.INVALID_REPLICATION_FACTOR, message)
    return PartitionResult(number, 0, None)


def assignment_problem(core: BrokerCore, replicas: list[int]) -> str | None:
    if not replicas:
        return "an empty replica list."
    for broker_id in replicas:
        if replicas.count(broker_id) > 1:
            return f"the broker {broker_id} more than once."
        if broker_id not in core.cluster.node_ids:
            return f"broker {broker_id}, but no such broker is registered."
    return None
