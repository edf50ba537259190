"""OffsetCommit, 2 to 10: commits a group's offsets; answers when they are on disk. From 10 on topics have ids (KIP-848)."""

from collections.abc import Iterable
from typing import Any

from headwater.broker.authorization import may_topic
from headwater.broker.connection import Request
from headwater.broker.leadership import ClusterParts, group_refusal
from headwater.broker.parts import GroupParts
from headwater.coordinators.groups.offsets import Commit, TopicPartition
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.offset_commit import OffsetCommitRequest, OffsetCommitResponse
from headwater.replay.deferred import Deferred
from headwater.security.acls import Operation

EPOCH_VERSION, TOPIC_ID_VERSION = 9, 10
COMMITS_PER_STEP = 200
Errors = dict[TopicPartition, ErrorCode]


def handle(broker: GroupParts, request: Request) -> Steps[OffsetCommitResponse | Deferred[OffsetCommitResponse]]:
    body: OffsetCommitRequest = request.body
    by_id = request.api_version >= TOPIC_ID_VERSION
    names = topic_names(broker, body.topics, by_id)
    if refused := group_refusal(broker, request, Operation.READ, body.group_id):
        return response(body, names, {}, refused, by_id)
    expire = broker.clock.wall_ms() + body.retention_time_ms if body.retention_time_ms >= 0 else -1
    errors, commits = yield from check_commits(broker, request, names, expire)
    who = (body.generation_id_or_member_epoch, body.member_id, body.group_instance_id)
    knows_epochs = request.api_version >= EPOCH_VERSION
    error = ErrorCode.NONE
    if commits:
        error = broker.groups.check_commit(body.group_id, *who, commits, knows_epochs=knows_epochs)
    if error is not ErrorCode.NONE:
        return response(body, names, errors, error, by_id)
    last: Deferred[Errors] | None = None
    for at in range(0, len(commits), COMMITS_PER_STEP):
        part = commits[at : at + COMMITS_PER_STEP]
        if at:  # the member may have been removed since the previous step
            error = broker.groups.check_commit(body.group_id, *who, part, knows_epochs=knows_epochs)
        if error is not ErrorCode.NONE:
            errors |= {(commit.topic, commit.partition): error for commit in part}
            continue
        answer = broker.groups.commit(body.group_id, part)
        if isinstance(answer, dict):
            errors |= answer
        else:
            answer.when_done(errors.update)
            last = last if answer.done else answer
        yield
    if last is None or last.done:
        return response(body, names, errors, ErrorCode.NONE, by_id)
    deferred: Deferred[OffsetCommitResponse] = Deferred()

    def written(done: Errors) -> None:
        errors.update(done)
        deferred.complete(response(body, names, errors, ErrorCode.NONE, by_id))

    last.when_done(written)  # all earlier ones are on disk by then
    return deferred


def topic_names(broker: ClusterParts, topics: Iterable[Any], by_id: bool) -> list[str | None]:
    """The name of each topic in the request; None for an unknown id."""
    if not by_id:
        return [topic.name for topic in topics]
    found = [broker.metadata.by_id.get(topic.topic_id) for topic in topics]
    return [topic.name if topic is not None else None for topic in found]


def check_commits(
    broker: GroupParts, request: Request, names: list[str | None], expire: int = -1
) -> Steps[tuple[Errors, list[Commit]]]:
    """Returns errors for what cannot be committed, and the rest as commits. Topics with an unknown id are in neither.

    `expire` is the time in ms until which the offsets are kept; -1 means as long as the broker's settings say.
    """
    errors: Errors = {}
    commits = []
    for topic, name in zip(request.body.topics, names, strict=True):
        if name is None:
            continue
        known = broker.metadata.topics.get(name)
        is_allowed = may_topic(broker, request, Operation.READ, name)
        for p in topic.partitions:
            yield
            if not is_allowed:
                errors[name, p.partition_index] = ErrorCode.TOPIC_AUTHORIZATION_FAILED
            elif known is None or not 0 <= p.partition_index < known.partitions:
                errors[name, p.partition_index] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            else:
                position = (p.committed_offset, p.committed_leader_epoch, p.committed_metadata)
                commits.append(Commit(name, p.partition_index, *position, expire))
    return errors, commits


def response(
    body: OffsetCommitRequest,
    names: list[str | None],
    errors: Errors,
    for_others: ErrorCode,
    by_id: bool,
) -> OffsetCommitResponse:
    topics = []
    for topic, name in zip(body.topics, names, strict=True):
        unknown = ErrorCode.UNKNOWN_TOPIC_ID if by_id and name is None else ErrorCode.NONE
        partitions = [
            OffsetCommitResponse.OffsetCommitResponsePartition(
                p.partition_index, errors.get((name or "", p.partition_index)) or unknown or for_others
            )
            for p in topic.partitions
        ]
        topics.append(OffsetCommitResponse.OffsetCommitResponseTopic(topic.topic_id, topic.name, partitions))
    return OffsetCommitResponse(topics=topics)
