"""DescribeLogDirs, 1 to 5: the one data directory, the size of each partition, and the file system's space."""

import os
import shutil

from headwater.broker.authorization import may_cluster
from headwater.broker.core import BrokerCore
from headwater.broker.dispatch import Request
from headwater.effects.files import DiskFiles
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.describe_log_dirs import DescribeLogDirsRequest, DescribeLogDirsResponse
from headwater.security.acls import Operation


def handle(core: BrokerCore, request: Request) -> DescribeLogDirsResponse:
    body: DescribeLogDirsRequest = request.body
    if not may_cluster(core, request, Operation.DESCRIBE):
        return DescribeLogDirsResponse(error_code=ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
    if body.topics is None:
        wanted = {topic.name: list(range(topic.partitions)) for topic in core.metadata.topics.values()}
    else:
        wanted = {topic.topic: topic.partitions for topic in body.topics}
    result = DescribeLogDirsResponse.DescribeLogDirsResult(log_dir=os.path.abspath(core.store.directory))
    for name, partitions in wanted.items():
        topic = core.metadata.topics.get(name)
        if topic is None:
            continue
        logs = [(number, core.find_log(topic, number)[0]) for number in partitions]
        entries = [
            DescribeLogDirsResponse.DescribeLogDirsPartition(number, log.size_bytes)
            for number, log in logs
            if log is not None
        ]
        if entries:
            result.topics.append(DescribeLogDirsResponse.DescribeLogDirsTopic(name, entries))
    if isinstance(core.store.files, DiskFiles):
        usage = shutil.disk_usage(core.store.directory)
        result.total_bytes, result.usable_bytes = usage.total, usage.free
    return DescribeLogDirsResponse(results=[result])
