"""OffsetFetch, 1 to 10: a group's committed offsets; from 8 on for several groups (KIP-709), from 10 on topics have ids.

No topics (null) means all topics for which the group has committed offsets.
"""

from headwater.broker.authorization import may_topic
from headwater.broker.connection import Request
from headwater.broker.leadership import group_refusal
from headwater.broker.parts import GroupParts
from headwater.coordinators.groups.records import CommittedOffset
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchResponse
from headwater.protocol.schema import ZERO_UUID
from headwater.replay.deferred import Deferred
from headwater.security.acls import Operation

GROUPS_VERSION, TOPIC_ID_VERSION = 8, 10
GroupResponse = OffsetFetchResponse.OffsetFetchResponseGroup
TopicResponse = OffsetFetchResponse.OffsetFetchResponseTopics
PartitionResponse = OffsetFetchResponse.OffsetFetchResponsePartitions


def handle(broker: GroupParts, request: Request) -> Steps[OffsetFetchResponse | Deferred[OffsetFetchResponse]]:
    """Answers when what it shows is on disk, so that an offset that a client has seen never moves back."""
    body: OffsetFetchRequest = request.body
    version = request.api_version
    if version >= GROUPS_VERSION:
        response = OffsetFetchResponse()
        for group in {group.group_id: group for group in body.groups}.values():
            response.groups.append((yield from fetch_group(broker, request, group, require_stable=body.require_stable)))
        return broker.groups.answer_when_durable([group.group_id for group in response.groups], response)
    topics = None
    if body.topics is not None:
        topics = [
            OffsetFetchRequest.OffsetFetchRequestTopics(ZERO_UUID, topic.name, topic.partition_indexes)
            for topic in body.topics
        ]
    wanted = OffsetFetchRequest.OffsetFetchRequestGroup(body.group_id, topics=topics)
    found = yield from fetch_group(broker, request, wanted, require_stable=body.require_stable)
    response = OffsetFetchResponse(
        error_code=found.error_code,
        topics=[
            OffsetFetchResponse.OffsetFetchResponseTopic(
                topic.name,
                [
                    OffsetFetchResponse.OffsetFetchResponsePartition(
                        p.partition_index, p.committed_offset, p.committed_leader_epoch, p.metadata, p.error_code
                    )
                    for p in topic.partitions
                ],
            )
            for topic in found.topics
        ],
    )
    return broker.groups.answer_when_durable([body.group_id], response)


def fetch_group(
    broker: GroupParts, request: Request, wanted: OffsetFetchRequest.OffsetFetchRequestGroup, *, require_stable: bool
) -> Steps[GroupResponse]:
    version = request.api_version
    yield
    if refused := group_refusal(broker, request, Operation.DESCRIBE, wanted.group_id):
        return GroupResponse(wanted.group_id, error_code=refused)
    offsets = broker.groups.offsets
    consumers = broker.groups.consumers.groups.get(wanted.group_id)
    if consumers is not None and (wanted.member_id is not None or wanted.member_epoch >= 0):
        error = broker.groups.consumers.check_member(consumers, wanted.member_id or "", wanted.member_epoch)
        if error is not ErrorCode.NONE:
            return GroupResponse(wanted.group_id, error_code=error)
    response = GroupResponse(wanted.group_id)
    if wanted.topics is None:
        topics: dict[str, TopicResponse] = {}
        for (name, partition), committed in list(offsets.of_group(wanted.group_id).items()):
            yield
            known = broker.metadata.topics.get(name)
            if version >= TOPIC_ID_VERSION and known is None:
                continue
            if not may_topic(broker, request, Operation.DESCRIBE, name):
                continue
            topic = topics.setdefault(name, TopicResponse(known.topic_id if known else ZERO_UUID, name))
            topic.partitions.append(partition_response(partition, committed))
        response.topics = list(topics.values())
        if require_stable:
            mark_unstable(broker, response)
        return response
    for topic_wanted in wanted.topics:
        yield
        response.topics.append(fetch_topic(broker, request, wanted.group_id, topic_wanted))
    if require_stable:
        mark_unstable(broker, response)
    return response


def mark_unstable(broker: GroupParts, response: GroupResponse) -> None:
    """Hides offsets that an open transaction may still change, if only stable ones are asked for (KIP-447)."""
    for topic in response.topics:
        for p in topic.partitions:
            if broker.groups.offsets.is_pending(response.group_id, topic.name, p.partition_index):
                p.committed_offset, p.committed_leader_epoch, p.metadata = -1, -1, ""
                p.error_code = ErrorCode.UNSTABLE_OFFSET_COMMIT


def fetch_topic(
    broker: GroupParts, request: Request, group_id: str, wanted: OffsetFetchRequest.OffsetFetchRequestTopics
) -> TopicResponse:
    name = wanted.name
    if request.api_version >= TOPIC_ID_VERSION:
        known = broker.metadata.by_id.get(wanted.topic_id)
        if known is None:
            failed = [PartitionResponse(n, -1, -1, "", ErrorCode.UNKNOWN_TOPIC_ID) for n in wanted.partition_indexes]
            return TopicResponse(wanted.topic_id, "", failed)
        name = known.name
    if not may_topic(broker, request, Operation.DESCRIBE, name):
        refused = ErrorCode.TOPIC_AUTHORIZATION_FAILED
        return TopicResponse(
            wanted.topic_id, name, [PartitionResponse(n, -1, -1, "", refused) for n in wanted.partition_indexes]
        )
    fetch = broker.groups.offsets.fetch
    partitions = [partition_response(n, fetch(group_id, name, n)) for n in wanted.partition_indexes]
    return TopicResponse(wanted.topic_id, name, partitions)


def partition_response(number: int, committed: CommittedOffset) -> PartitionResponse:
    return PartitionResponse(number, committed.offset, committed.leader_epoch, committed.metadata)
