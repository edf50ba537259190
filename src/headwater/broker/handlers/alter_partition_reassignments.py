"""AlterPartitionReassignments, 0 to 1: every node has every partition already, so a valid reassignment is complete at once.

The requested nodes must exist, and are stored. The first of them leads the partition from then on. There is never a
reassignment that could be cancelled (null) (KIP-455).
"""

from headwater.broker.authorization import may_cluster
from headwater.broker.connection import Request
from headwater.broker.parts import TopicParts
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
)
from headwater.replay.deferred import Deferred
from headwater.replay.sync_number import NO_SYNC
from headwater.security.acls import Operation

PartitionResult = AlterPartitionReassignmentsResponse.ReassignablePartitionResponse
TopicResult = AlterPartitionReassignmentsResponse.ReassignableTopicResponse


def handle(
    broker: TopicParts, request: Request
) -> Steps[AlterPartitionReassignmentsResponse | Deferred[AlterPartitionReassignmentsResponse]]:
    body: AlterPartitionReassignmentsRequest = request.body
    if not may_cluster(broker, request, Operation.ALTER):
        return AlterPartitionReassignmentsResponse(error_code=ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
    last_sync = NO_SYNC
    response = AlterPartitionReassignmentsResponse(
        allow_replication_factor_change=body.allow_replication_factor_change, error_message=None
    )
    for topic in body.topics:
        result = TopicResult(topic.name)
        response.responses.append(result)
        for wanted in topic.partitions:
            yield
            answer = answer_to(broker, body, topic.name, wanted)
            result.partitions.append(answer)
            if answer.error_code:
                continue
            try:
                last_sync = max(
                    last_sync, broker.topics.reassign(topic.name, wanted.partition_index, wanted.replicas or [])
                )
            except OSError as error:
                answer.error_code, answer.error_message = ErrorCode.KAFKA_STORAGE_ERROR, str(error)
    return broker.answer_when_durable(last_sync, response)


def answer_to(
    broker: TopicParts,
    body: AlterPartitionReassignmentsRequest,
    name: str,
    wanted: AlterPartitionReassignmentsRequest.ReassignablePartition,
) -> PartitionResult:
    """The answer for a partition: an error, or none if it can have the requested nodes."""
    number, replicas = wanted.partition_index, wanted.replicas
    topic = broker.metadata.topics.get(name)
    if topic is None:
        message = f"Unable to find a topic named {name}."
        return PartitionResult(number, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, message)
    if not 0 <= number < topic.partitions:
        message = f"Unable to find partition {name}:{number}."
        return PartitionResult(number, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, message)
    if replicas is None:
        return PartitionResult(number, ErrorCode.NO_REASSIGNMENT_IN_PROGRESS, None)
    problem = assignment_problem(broker, replicas)
    if problem is not None:
        message = f"The manual partition assignment includes {problem}"
        return PartitionResult(number, ErrorCode.INVALID_REPLICA_ASSIGNMENT, message)
    current = broker.metadata.replicas(topic, number)
    if len(replicas) != len(current) and not body.allow_replication_factor_change:
        message = f"The replication factor is changed from {len(current)} to {len(replicas)}"
        return PartitionResult(number, ErrorCode.INVALID_REPLICATION_FACTOR, message)
    return PartitionResult(number, 0, None)


def assignment_problem(broker: TopicParts, replicas: list[int]) -> str | None:
    if not replicas:
        return "an empty replica list."
    seen: set[int] = set()
    for broker_id in replicas:
        if broker_id in seen:
            return f"the broker {broker_id} more than once."
        seen.add(broker_id)
        if broker_id not in broker.cluster.node_ids:
            return f"broker {broker_id}, but no such broker is registered."
    return None
