"""How long a compaction takes: from the moment at which a topic may be compacted until its log is small."""

import time

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic

from headwater.protocol.apis import ApiKey
from headwater.protocol.messages.describe_log_dirs import DescribeLogDirsRequest
from tests.broker.wire import Wire

KEYS_SHARE = 0.1
TIMEOUT_S = 300.0
CONFIGS = {"cleanup.policy": "compact", "segment.bytes": str(16 << 20), "min.cleanable.dirty.ratio": "1.0"}


def log_size(wire: Wire, topic: str) -> int:
    """The bytes of a topic's one partition."""
    answer = wire.call(ApiKey.DESCRIBE_LOG_DIRS, 4, DescribeLogDirsRequest(None))
    sizes = [
        partition.partition_size
        for result in answer.results
        for found in result.topics
        if found.name == topic
        for partition in found.partitions
    ]
    return int(sizes[0])


def compaction_s(address: str, number: int) -> float:
    """Writes `number` records of 100 B, of which a tenth have keys of their own; returns the seconds to compact them."""
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic("compacted", 1, 1, config=CONFIGS)])["compacted"].result(30)
    producer = Producer({"bootstrap.servers": address, "linger.ms": 20, "queue.buffering.max.messages": 500_000})
    keys, value = int(number * KEYS_SHARE), bytes(100)
    for n in range(number):
        while len(producer) > 400_000:
            producer.poll(0.01)
        producer.produce("compacted", value, b"key-%08d" % (n * 7919 % keys))
    producer.flush()
    with Wire(address) as wire:
        before = log_size(wire, "compacted")
        resource = ConfigResource(ConfigResource.Type.TOPIC, "compacted")
        operation = AlterConfigOpType.SET
        resource.add_incremental_config(
            ConfigEntry("min.cleanable.dirty.ratio", "0.01", incremental_operation=operation)
        )
        admin.incremental_alter_configs([resource])[resource].result(30)
        start_s = time.perf_counter()
        while log_size(wire, "compacted") > before / 3:
            time.sleep(0.02)
            if time.perf_counter() - start_s > TIMEOUT_S:
                raise TimeoutError("the log is not compacted")
        return time.perf_counter() - start_s
