"""DescribeTopicPartitions, 0: topics page by page (KIP-966). A page ends at the partition limit, with a cursor."""

from headwater.broker.authorization import authorized_operations, may_topic
from headwater.broker.connection import Request
from headwater.broker.metadata import Topic
from headwater.broker.parts import DescriptionParts
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.describe_topic_partitions import (
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
)
from headwater.security.acls import Operation, ResourceType

TopicResponse = DescribeTopicPartitionsResponse.DescribeTopicPartitionsResponseTopic
PartitionResponse = DescribeTopicPartitionsResponse.DescribeTopicPartitionsResponsePartition


def handle(broker: DescriptionParts, request: Request) -> Steps[DescribeTopicPartitionsResponse]:
    body: DescribeTopicPartitionsRequest = request.body
    names = sorted({topic.name for topic in body.topics} or broker.metadata.topics)
    cursor = body.cursor
    left = max(1, min(body.response_partition_limit, broker.settings.max_request_partition_size_limit))
    response = DescribeTopicPartitionsResponse()
    for name in names:
        yield
        if cursor is not None and name < cursor.topic_name:
            continue
        first = cursor.partition_index if cursor is not None and name == cursor.topic_name else 0
        topic = broker.metadata.topics.get(name)
        if not may_topic(broker, request, Operation.DESCRIBE, name):
            if body.topics:
                response.topics.append(TopicResponse(ErrorCode.TOPIC_AUTHORIZATION_FAILED, name))
            continue
        if topic is None:
            unknown = TopicResponse(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, name)
            unknown.topic_authorized_operations = authorized_operations(broker, request, ResourceType.TOPIC, name)
            response.topics.append(unknown)
            continue
        if left == 0:
            response.next_cursor = DescribeTopicPartitionsResponse.Cursor(name, first)
            return response
        last = min(topic.partitions, first + left)
        response.topics.append(topic_response(broker, request, topic, range(max(0, first), last)))
        left -= last - first
        if last < topic.partitions:
            response.next_cursor = DescribeTopicPartitionsResponse.Cursor(name, last)
            return response
    return response


def topic_response(broker: DescriptionParts, request: Request, topic: Topic, numbers: range) -> TopicResponse:
    epoch = broker.store.leader_epoch
    operations = authorized_operations(broker, request, ResourceType.TOPIC, topic.name)
    partitions = []
    for number in numbers:
        replicas = broker.metadata.replicas(topic, number)
        partitions.append(PartitionResponse(0, number, replicas[0], epoch, replicas, replicas, [], []))
    return TopicResponse(0, topic.name, topic.topic_id, topic.is_internal, partitions, operations)
