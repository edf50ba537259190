"""Metadata, 0 to 13: brokers, topics and their partitions; creates a topic that is asked after, where that is allowed.

By name or, from 10, by topic id (KIP-516). A topic that is created here is there when the answer comes: no second
request is needed.
"""

import logging

from headwater.broker.core import BrokerCore
from headwater.broker.dispatch import Request
from headwater.broker.metadata import MetadataError, Topic
from headwater.effects.waits import Deferred
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.metadata import MetadataRequest, MetadataResponse
from headwater.protocol.schema import ZERO_UUID

logger = logging.getLogger(__name__)
MetadataTopic = MetadataResponse.MetadataResponseTopic
# Bits of AclOperation that apply without an authorizer: all of them (KIP-430).
TOPIC_OPERATIONS = sum(1 << n for n in (3, 4, 5, 6, 7, 8, 10, 11))
CLUSTER_OPERATIONS = sum(1 << n for n in (5, 7, 8, 9, 10, 11, 12))


def handle(core: BrokerCore, request: Request) -> MetadataResponse | Deferred:
    body: MetadataRequest = request.body
    version = request.api_version
    wants_all = body.topics is None or (version == 0 and not body.topics)
    if wants_all:
        topics = [described(core, topic) for topic in core.metadata.topics.values()]
    else:
        may_create = core.settings.auto_create_topics_enable and (body.allow_auto_topic_creation or version < 4)
        topics = [find(core, wanted, may_create) for wanted in body.topics or ()]
    if body.include_topic_authorized_operations:
        for topic in topics:
            topic.topic_authorized_operations = TOPIC_OPERATIONS if topic.error_code == 0 else 0
    response = MetadataResponse(
        brokers=[
            MetadataResponse.MetadataResponseBroker(
                core.settings.node_id, core.host, core.port, core.settings.broker_rack or None
            )
        ],
        cluster_id=core.store.cluster_id,
        controller_id=core.settings.node_id,
        topics=topics,
    )
    if body.include_cluster_authorized_operations:
        response.cluster_authorized_operations = CLUSTER_OPERATIONS
    return response


def find(core: BrokerCore, wanted: MetadataRequest.MetadataRequestTopic, may_create: bool) -> MetadataTopic:
    if wanted.topic_id != ZERO_UUID:
        topic = core.metadata.by_id.get(wanted.topic_id)
        if topic is None:
            return MetadataTopic(ErrorCode.UNKNOWN_TOPIC_ID, None, wanted.topic_id)
        return described(core, topic)
    name = wanted.name
    if name is None:
        return MetadataTopic(ErrorCode.INVALID_REQUEST, "")
    if name not in core.metadata.topics:
        if not may_create:
            return MetadataTopic(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, name)
        try:
            core.auto_create_topic(name)
        except MetadataError as error:
            return MetadataTopic(error.code, name)
        except OSError as error:
            logger.error("topic %s cannot be created: %s", name, error)
            return MetadataTopic(ErrorCode.KAFKA_STORAGE_ERROR, name)
    return described(core, core.metadata.topics[name])


def described(core: BrokerCore, topic: Topic) -> MetadataTopic:
    node, epoch = core.settings.node_id, core.store.leader_epoch
    partitions = [
        MetadataResponse.MetadataResponsePartition(0, n, node, epoch, [node], [node]) for n in range(topic.partitions)
    ]
    return MetadataTopic(0, topic.name, topic.topic_id, topic.is_internal, partitions)
