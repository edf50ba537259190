"""CreateTopics, 2 to 7: creates topics with their configurations; answers when they are on disk.

If a topic with the same name is being deleted, the new one is created when the deletion is on disk.

Replica assignments may name the existing nodes, which is one unless there are virtual ones. -1 for partitions or replication
means the broker's default (KIP-464). `replication.factor.clamp` reduces the requested factor to the number of nodes.
"""

from collections import Counter
from typing import TypeAlias

from headwater.broker.authorization import may_create_topic, may_topic
from headwater.broker.configs import topic_configs
from headwater.broker.configs.catalog import topic_entries
from headwater.broker.connection import Request
from headwater.broker.leadership import ClusterParts
from headwater.broker.metadata import Topic
from headwater.broker.parts import TopicParts
from headwater.broker.throttling import Mutations
from headwater.effects.entropy import random_uuid
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.protocol.messages.create_topics import CreateTopicsRequest, CreateTopicsResponse
from headwater.replay.deferred import Deferred
from headwater.replay.sync_number import NO_SYNC, SyncNumber
from headwater.security.acls import Operation

PARTITIONS_PER_REQUEST_MAX = 10_000  # as in Kafka: ReplicationControlManager.MAX_PARTITIONS_PER_BATCH
STRICT_VERSION = 6  # from here on a quota refuses a topic
TopicResult = CreateTopicsResponse.CreatableTopicResult
Created: TypeAlias = Steps[CreateTopicsResponse | Deferred[CreateTopicsResponse]]


def handle(broker: TopicParts, request: Request) -> Created | Deferred[Created]:
    body: CreateTopicsRequest = request.body
    deletion = max((broker.topics.deletions.get(wanted.name, NO_SYNC) for wanted in body.topics), default=NO_SYNC)
    if not deletion:
        return create_all(broker, request)
    return broker.answer_when_durable(deletion, None).then(lambda _: create_all(broker, request))


def create_all(broker: TopicParts, request: Request) -> Created:
    body: CreateTopicsRequest = request.body
    times = Counter(topic.name for topic in body.topics)
    response = CreateTopicsResponse()
    last_sync = NO_SYNC
    mutations = broker.throttling.mutations(request, STRICT_VERSION)
    if sum(named_partitions(broker, wanted) for wanted in body.topics) > PARTITIONS_PER_REQUEST_MAX:
        return refuse_all(body)
    for wanted in body.topics:
        yield
        result = TopicResult(wanted.name, error_message=None)
        response.topics.append(result)
        try:
            if times[wanted.name] > 1:
                raise ApiError(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
            if not may_create_topic(broker, request, wanted.name):
                raise ApiError(ErrorCode.TOPIC_AUTHORIZATION_FAILED, "Authorization failed.")
            last_sync = max(last_sync, create(broker, wanted, result, None if body.validate_only else mutations))
            if not may_topic(broker, request, Operation.DESCRIBE_CONFIGS, wanted.name):
                result.topic_config_error_code = ErrorCode.TOPIC_AUTHORIZATION_FAILED
                result.num_partitions, result.replication_factor, result.configs = -1, -1, []
        except ApiError as error:
            result.error_code, result.error_message = error.code, error.message
        except OSError as error:
            result.error_code, result.error_message = ErrorCode.KAFKA_STORAGE_ERROR, str(error)
    response.throttle_time_ms = mutations.wait_ms
    return broker.answer_when_durable(last_sync, response)


def named_partitions(broker: TopicParts, wanted: CreateTopicsRequest.CreatableTopic) -> int:
    return len(wanted.assignments) or (
        broker.settings.num_partitions if wanted.num_partitions == -1 else max(0, wanted.num_partitions)
    )


def refuse_all(body: CreateTopicsRequest) -> CreateTopicsResponse:
    code, message = ErrorCode.POLICY_VIOLATION, "Excessively large number of partitions per request."
    return CreateTopicsResponse(
        topics=[TopicResult(wanted.name, error_code=code, error_message=message) for wanted in body.topics]
    )


def create(
    broker: TopicParts,
    wanted: CreateTopicsRequest.CreatableTopic,
    result: TopicResult,
    mutations: Mutations | None,
) -> SyncNumber:
    """Creates a topic and fills its result; returns the sync that makes it durable. Without `mutations` it only checks.

    Raises ApiError and OSError.
    """
    own = {config.name: config.value for config in wanted.configs}
    # If there are several reasons to refuse a topic, these come first, as in Kafka.
    broker.metadata.check_new_topic(wanted.name, own)
    partitions = partition_count(broker, wanted)
    replication = replication_factor(broker, wanted)
    if mutations is None:
        topic_id = random_uuid(broker.entropy)
        broker.metadata.create_topic(wanted.name, topic_id, partitions, own, replication)
        given = {k: v for k, v in own.items() if v is not None}
        fill(broker, result, Topic(wanted.name, bytes(16), partitions, replication, configs=given))
        return NO_SYNC
    mutations.use(partitions)
    assignments = {a.partition_index: a.broker_ids for a in wanted.assignments}
    sync = broker.topics.create(wanted.name, partitions, own, replication, assignments)
    fill(broker, result, broker.metadata.topics[wanted.name])
    return sync


def partition_count(broker: TopicParts, wanted: CreateTopicsRequest.CreatableTopic) -> int:
    """The number of partitions. Raises ApiError for a count, factor or assignment that one node cannot serve."""
    if wanted.assignments:
        if wanted.num_partitions != -1 or wanted.replication_factor != -1:
            raise ApiError(
                ErrorCode.INVALID_REQUEST,
                "A manual partition assignment was specified, but numPartitions or replicationFactor was not -1.",
            )
        if sorted(a.partition_index for a in wanted.assignments) != list(range(len(wanted.assignments))):
            raise ApiError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT, "partitions should be a consecutive 0-based integer sequence"
            )
        for assignment in wanted.assignments:
            check_replicas(broker, assignment.broker_ids)
        return len(wanted.assignments)
    if wanted.num_partitions == -1:
        return broker.settings.num_partitions
    if wanted.num_partitions < 1:
        message = "Number of partitions was set to an invalid non-positive value."
        raise ApiError(ErrorCode.INVALID_PARTITIONS, message)
    return wanted.num_partitions


def replication_factor(broker: TopicParts, wanted: CreateTopicsRequest.CreatableTopic) -> int:
    """The replication factor. Raises ApiError if it exceeds the number of nodes, unless the setting reduces it."""
    nodes, factor = len(broker.cluster.node_ids), wanted.replication_factor
    if wanted.assignments:
        return len(wanted.assignments[0].broker_ids)
    if factor == -1:
        return min(broker.settings.default_replication_factor, nodes)
    if factor < 1:
        message = "Replication factor must be larger than 0, or -1 to use the default value."
        raise ApiError(ErrorCode.INVALID_REPLICATION_FACTOR, message)
    if factor > nodes and not broker.settings.replication_factor_clamp:
        raise ApiError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"Unable to replicate the partition {factor} time(s): "
            f"The target replication factor of {factor} cannot be reached because only {nodes} broker(s) are registered.",
        )
    return min(factor, nodes)


def check_replicas(broker: ClusterParts, broker_ids: list[int]) -> None:
    """Raises ApiError for an assignment to nodes that do not exist."""
    known = broker.cluster.node_ids
    if not broker_ids or len(set(broker_ids)) != len(broker_ids) or not set(broker_ids) <= set(known):
        message = f"an assignment must name distinct brokers out of {', '.join(map(str, known))}, not {broker_ids}"
        raise ApiError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, message)


def fill(broker: TopicParts, result: TopicResult, topic: Topic) -> None:
    result.topic_id = topic.topic_id
    result.num_partitions, result.replication_factor = topic.partitions, topic.replication
    result.configs = []
    for name in topic_entries():
        value = topic_configs.effective(name, topic.configs, broker.dynamic_configs.layers)
        result.configs.append(CreateTopicsResponse.CreatableTopicConfigs(name, value.value, config_source=value.source))
