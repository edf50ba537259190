"""DescribeQuorum, 0 to 2: the metadata log and its one voter (KIP-595, KIP-836)."""

from headwater.broker.authorization import may_cluster
from headwater.broker.connection import Request
from headwater.broker.metadata import METADATA_TOPIC
from headwater.broker.parts import DescriptionParts
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.describe_quorum import DescribeQuorumRequest, DescribeQuorumResponse
from headwater.security.acls import Operation

PartitionData = DescribeQuorumResponse.PartitionData


def handle(broker: DescriptionParts, request: Request) -> DescribeQuorumResponse:
    body: DescribeQuorumRequest = request.body
    if not may_cluster(broker, request, Operation.DESCRIBE):
        return DescribeQuorumResponse(error_code=ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
    response = DescribeQuorumResponse()
    for topic in body.topics:
        partitions = [describe(broker, topic.topic_name, p.partition_index) for p in topic.partitions]
        response.topics.append(DescribeQuorumResponse.TopicData(topic.topic_name, partitions))
    if any(p.error_code == 0 for topic in response.topics for p in topic.partitions):
        listener = request.connection.endpoint.listener
        node_id = broker.cluster.node_ids[0]
        address = DescribeQuorumResponse.Listener(listener, *broker.cluster.address(listener, node_id))
        response.nodes = [DescribeQuorumResponse.Node(node_id, [address])]
    return response


def describe(broker: DescriptionParts, name: str, number: int) -> PartitionData:
    if name != METADATA_TOPIC or number != 0:
        message = "This server does not host this topic-partition."
        return PartitionData(number, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, message)
    log, now_ms, node_id = broker.metadata_log.log, broker.clock.wall_ms(), broker.cluster.node_ids[0]
    voter = DescribeQuorumResponse.ReplicaState(
        node_id, log_end_offset=log.end_offset, last_fetch_timestamp=now_ms, last_caught_up_timestamp=now_ms
    )
    return PartitionData(number, 0, "", node_id, log.leader_epoch, log.high_watermark, [voter])
