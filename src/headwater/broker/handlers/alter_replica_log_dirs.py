"""AlterReplicaLogDirs, 1 to 2: there is only one data directory, which has everything (KIP-113)."""

import os

from headwater.broker.authorization import may_cluster
from headwater.broker.connection import Request
from headwater.broker.leadership import LeaderParts
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
)
from headwater.security.acls import Operation

PartitionResult = AlterReplicaLogDirsResponse.AlterReplicaLogDirPartitionResult
TopicResult = AlterReplicaLogDirsResponse.AlterReplicaLogDirTopicResult


def handle(broker: LeaderParts, request: Request) -> Steps[AlterReplicaLogDirsResponse]:
    body: AlterReplicaLogDirsRequest = request.body
    is_allowed = may_cluster(broker, request, Operation.ALTER)
    results: dict[str, TopicResult] = {}
    for directory in body.dirs:
        is_ours = os.path.abspath(directory.path) == os.path.abspath(broker.store.directory)
        for topic in directory.topics:
            result = results.setdefault(topic.name, TopicResult(topic.name))
            for number in topic.partitions:
                yield
                error = ErrorCode.CLUSTER_AUTHORIZATION_FAILED
                if is_allowed:
                    error = check(broker, topic.name, number) if is_ours else ErrorCode.LOG_DIR_NOT_FOUND
                result.partitions.append(PartitionResult(number, error))
    return AlterReplicaLogDirsResponse(results=list(results.values()))


def check(broker: LeaderParts, name: str, number: int) -> ErrorCode:
    topic = broker.metadata.topics.get(name)
    is_known = topic is not None and 0 <= number < topic.partitions
    return ErrorCode.NONE if is_known else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
