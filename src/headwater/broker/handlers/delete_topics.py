"""DeleteTopics, 1 to 6: by name or, from 6 on, by id; answers when the deletion is on disk. Then the data is removed.

The coordinators' topics cannot be deleted, because every group's offsets would be lost.
"""

from headwater.broker.authorization import may_topic
from headwater.broker.connection import Request
from headwater.broker.metadata import Topic
from headwater.broker.parts import TopicParts
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from headwater.protocol.schema import ZERO_UUID
from headwater.replay.deferred import Deferred
from headwater.replay.sync_number import NO_SYNC
from headwater.security.acls import Operation

STRICT_VERSION = 5  # from here on a quota refuses a deletion
TopicResult = DeleteTopicsResponse.DeletableTopicResult


def handle(broker: TopicParts, request: Request) -> Steps[Deferred[DeleteTopicsResponse]]:
    body: DeleteTopicsRequest = request.body
    response = DeleteTopicsResponse()
    last_sync = NO_SYNC
    mutations = broker.throttling.mutations(request, STRICT_VERSION)
    wanted = [(state.name, state.topic_id) for state in body.topics] or [(name, ZERO_UUID) for name in body.topic_names]
    for name, topic_id in wanted:
        yield
        result = TopicResult(name, topic_id)
        response.responses.append(result)
        topic, error = find(broker, name, topic_id)
        if topic is None:
            is_refused = name is not None and not may_topic(broker, request, Operation.DELETE, name)
            result.error_code = ErrorCode.TOPIC_AUTHORIZATION_FAILED if is_refused else error
            continue
        if not may_topic(broker, request, Operation.DELETE, topic.name):
            result.error_code = ErrorCode.TOPIC_AUTHORIZATION_FAILED
            continue
        result.name, result.topic_id = topic.name, topic.topic_id
        if topic.is_internal:
            result.error_code = ErrorCode.INVALID_TOPIC_EXCEPTION
            result.error_message = f"{topic.name} is internal: the coordinators keep their state in it"
            continue
        try:
            mutations.use(topic.partitions)
            last_sync = max(last_sync, broker.topics.delete(topic))
        except ApiError as refused:
            result.error_code, result.error_message = refused.code, refused.message
        except OSError as failure:
            result.error_code, result.error_message = ErrorCode.KAFKA_STORAGE_ERROR, str(failure)
    response.throttle_time_ms = mutations.wait_ms
    return broker.answer_when_durable(last_sync, response)


def find(broker: TopicParts, name: str | None, topic_id: bytes) -> tuple[Topic | None, ErrorCode]:
    if not broker.settings.delete_topic_enable:
        return None, ErrorCode.TOPIC_DELETION_DISABLED
    if name is not None and topic_id != ZERO_UUID:
        return None, ErrorCode.INVALID_REQUEST
    if name is None:
        topic = broker.metadata.by_id.get(topic_id)
        return topic, ErrorCode.UNKNOWN_TOPIC_ID
    return broker.metadata.topics.get(name), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
