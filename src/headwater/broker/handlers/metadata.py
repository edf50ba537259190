"""Metadata, 0 to 13: brokers, topics and their partitions. Creates a missing topic, if that is allowed.

Topics are named or, from 12 on, given by id (KIP-516). A topic that is created here exists when the answer arrives: no
second request is needed. A topic that is named twice is answered once, as in Kafka.
"""

from headwater.broker.authorization import (
    AuthorizationParts,
    authorized_operations,
    may_cluster,
    may_create_topic,
    may_topic,
)
from headwater.broker.connection import Request
from headwater.broker.metadata import Topic, check_topic_name
from headwater.broker.parts import DescriptionParts
from headwater.effects.logs import get_logger
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.protocol.messages.metadata import MetadataRequest, MetadataResponse
from headwater.protocol.schema import ZERO_UUID
from headwater.security.acls import CLUSTER_NAME, Operation, ResourceType

logger = get_logger(__name__)

NEVER_STRICT = 2**15  # a topic that comes with Metadata is not refused, only counted
TOPIC_ID_VERSION = 12  # 10 and 11 have ids in requests, and cannot be answered by them
MetadataTopic = MetadataResponse.MetadataResponseTopic


def handle(broker: DescriptionParts, request: Request) -> Steps[MetadataResponse]:
    body: MetadataRequest = request.body
    version = request.api_version
    wants_all = body.topics is None or (version == 0 and not body.topics)
    topics = []
    if wants_all:
        for known in list(broker.metadata.topics.values()):
            if may_topic(broker, request, Operation.DESCRIBE, known.name):
                topics.append(topic_response(broker, known))
            yield
    elif version < TOPIC_ID_VERSION and any(wanted.topic_id != ZERO_UUID for wanted in body.topics or ()):
        # Not just for the topics that are wrong: these versions cannot answer for a topic without a name.
        topics = [MetadataTopic(ErrorCode.INVALID_REQUEST, wanted.name or "") for wanted in body.topics or ()]
    else:
        may_create = broker.settings.auto_create_topics_enable and (body.allow_auto_topic_creation or version < 4)
        for wanted in {(topic.name, topic.topic_id): topic for topic in body.topics or ()}.values():
            topics.append(find(broker, request, wanted, may_create))
            yield
    if body.include_topic_authorized_operations:
        for topic in topics:
            if topic.error_code == 0 and topic.name is not None:
                topic.topic_authorized_operations = authorized_operations(
                    broker, request, ResourceType.TOPIC, topic.name
                )
            yield
    response = MetadataResponse(
        brokers=[
            MetadataResponse.MetadataResponseBroker(*node, broker.cluster.rack)
            for node in broker.cluster.nodes(request.connection.endpoint)
        ],
        cluster_id=broker.store.cluster_id,
        controller_id=broker.cluster.node_ids[0],
        topics=topics,
    )
    if body.include_cluster_authorized_operations:
        response.cluster_authorized_operations = cluster_operations(broker, request)
    return response


def cluster_operations(broker: AuthorizationParts, request: Request) -> int:
    """The operations that the client may do on the cluster; none if it may not describe it."""
    if not may_cluster(broker, request, Operation.DESCRIBE):
        return 0
    return authorized_operations(broker, request, ResourceType.CLUSTER, CLUSTER_NAME)


def find(
    broker: DescriptionParts, request: Request, wanted: MetadataRequest.MetadataRequestTopic, may_create: bool
) -> MetadataTopic:
    if wanted.topic_id != ZERO_UUID:
        topic = broker.metadata.by_id.get(wanted.topic_id)
        if topic is None:
            return MetadataTopic(ErrorCode.UNKNOWN_TOPIC_ID, None, wanted.topic_id)
        if not may_topic(broker, request, Operation.DESCRIBE, topic.name):
            return MetadataTopic(ErrorCode.TOPIC_AUTHORIZATION_FAILED, None, wanted.topic_id)
        return topic_response(broker, topic)
    name = wanted.name
    if name is None:
        return MetadataTopic(ErrorCode.INVALID_REQUEST, "")
    if not may_topic(broker, request, Operation.DESCRIBE, name):
        return MetadataTopic(ErrorCode.TOPIC_AUTHORIZATION_FAILED, name)
    if name not in broker.metadata.topics:
        try:
            check_topic_name(name)
        except ApiError as error:
            return MetadataTopic(error.code, name)
        if not may_create:
            return MetadataTopic(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, name)
        if not may_create_topic(broker, request, name):
            return MetadataTopic(ErrorCode.TOPIC_AUTHORIZATION_FAILED, name)
        if name in broker.topics.deletions:
            return MetadataTopic(ErrorCode.LEADER_NOT_AVAILABLE, name)  # the client asks again
        try:
            broker.throttling.mutations(request, NEVER_STRICT).use(broker.settings.num_partitions)
            broker.topics.auto_create(name)
        except ApiError as error:
            return MetadataTopic(error.code, name)
        except OSError as error:
            logger.error("topic %s cannot be created: %s", name, error)
            return MetadataTopic(ErrorCode.KAFKA_STORAGE_ERROR, name)
    return topic_response(broker, broker.metadata.topics[name])


def topic_response(broker: DescriptionParts, topic: Topic) -> MetadataTopic:
    epoch = broker.store.leader_epoch
    partitions = []
    for number in range(topic.partitions):
        replicas = broker.metadata.replicas(topic, number)
        partitions.append(MetadataResponse.MetadataResponsePartition(0, number, replicas[0], epoch, replicas, replicas))
    return MetadataTopic(0, topic.name, topic.topic_id, topic.is_internal, partitions)
