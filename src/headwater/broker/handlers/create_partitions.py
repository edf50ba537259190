"""CreatePartitions, 0 to 3: adds partitions to a topic; answers when they are on disk.

The coordinators' topics keep their number of partitions. It determines in which one a group or a transaction is stored. So
with another number, newer records would go to another partition than older ones.
"""

from collections import Counter

from headwater.broker.authorization import may_topic
from headwater.broker.connection import Request
from headwater.broker.handlers.create_topics import check_replicas
from headwater.broker.parts import AdministrationParts, TopicParts
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsResponse
from headwater.replay.deferred import Deferred
from headwater.replay.sync_number import NO_SYNC
from headwater.security.acls import Operation

STRICT_VERSION = 3  # from here on a quota refuses them


def handle(broker: TopicParts, request: Request) -> Steps[Deferred[CreatePartitionsResponse]]:
    body: CreatePartitionsRequest = request.body
    times = Counter(topic.name for topic in body.topics)
    response = CreatePartitionsResponse()
    last_sync = NO_SYNC
    mutations = broker.throttling.mutations(request, STRICT_VERSION)
    for wanted in body.topics:
        yield
        result = CreatePartitionsResponse.CreatePartitionsTopicResult(wanted.name)
        response.results.append(result)
        try:
            if times[wanted.name] > 1:
                raise ApiError(ErrorCode.INVALID_REQUEST, "Duplicate topic in request.")
            if not may_topic(broker, request, Operation.ALTER, wanted.name):
                raise ApiError(ErrorCode.TOPIC_AUTHORIZATION_FAILED, "Authorization failed.")
            topic = broker.metadata.topics.get(wanted.name)
            if topic is not None and topic.is_internal:
                raise ApiError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"{topic.name} is internal and keeps its partitions.")
            first = topic.partitions if topic is not None else 0
            given = {first + n: a.broker_ids for n, a in enumerate(wanted.assignments or ())}
            changes = broker.metadata.add_partitions(wanted.name, wanted.count, given)
            check_assignments(broker, wanted, len(changes))
            if not body.validate_only:
                mutations.use(len(changes))
                last_sync = max(last_sync, broker.append_metadata(changes))
        except ApiError as error:
            result.error_code, result.error_message = error.code, error.message
        except OSError as error:
            result.error_code, result.error_message = ErrorCode.KAFKA_STORAGE_ERROR, str(error)
    response.throttle_time_ms = mutations.wait_ms
    return broker.answer_when_durable(last_sync, response)


def check_assignments(
    broker: AdministrationParts, wanted: CreatePartitionsRequest.CreatePartitionsTopic, added: int
) -> None:
    """Raises ApiError for assignments that are invalid."""
    if wanted.assignments is None or not wanted.assignments:
        return
    if len(wanted.assignments) != added:
        message = f"{added} partitions were to be added and {len(wanted.assignments)} assignments were given."
        raise ApiError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, message)
    for assignment in wanted.assignments:
        check_replicas(broker, assignment.broker_ids)
