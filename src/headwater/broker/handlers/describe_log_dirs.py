"""DescribeLogDirs, 1 to 5: the data directory, the size of each partition, and the file system's space."""

import os
import shutil

from headwater.broker.authorization import may_cluster
from headwater.broker.connection import Request
from headwater.broker.handlers.describe_producers import partitions_by_topic
from headwater.broker.parts import LogParts
from headwater.effects.files import DiskFiles
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.describe_log_dirs import DescribeLogDirsRequest, DescribeLogDirsResponse
from headwater.security.acls import Operation


def handle(broker: LogParts, request: Request) -> Steps[DescribeLogDirsResponse]:
    body: DescribeLogDirsRequest = request.body
    if not may_cluster(broker, request, Operation.DESCRIBE):
        return DescribeLogDirsResponse(error_code=ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
    if body.topics is None:
        named = ((topic.name, list(range(topic.partitions))) for topic in broker.metadata.topics.values())
    else:
        named = ((topic.topic, topic.partitions) for topic in body.topics)
    result = DescribeLogDirsResponse.DescribeLogDirsResult(log_dir=os.path.abspath(broker.store.directory))
    for name, numbers in partitions_by_topic(named).items():
        entries = []
        for number in numbers:
            yield
            log, _ = broker.partitions.find(
                broker.metadata.topics.get(name), number, endpoint=request.connection.endpoint, from_follower=True
            )
            if log is not None:
                entries.append(DescribeLogDirsResponse.DescribeLogDirsPartition(number, log.size_bytes))
        if entries:
            result.topics.append(DescribeLogDirsResponse.DescribeLogDirsTopic(name, entries))
    if isinstance(broker.store.files, DiskFiles):
        usage = shutil.disk_usage(broker.store.directory)
        result.total_bytes, result.usable_bytes = usage.total, usage.free
    return DescribeLogDirsResponse(results=[result])
