"""How long a compaction takes, and what it costs others.

From the moment at which a topic may be compacted until its log is small.
"""

import time
from collections.abc import Callable

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic

from headwater.protocol.apis import ApiKey
from headwater.protocol.messages.describe_log_dirs import DescribeLogDirsRequest
from tests.broker.wire import Wire

KEYS_SHARE = 0.1
TIMEOUT_S = 300.0
POLL_S = 0.02
BACKLOG_TOPICS = 6
CONFIGS = {"cleanup.policy": "compact", "segment.bytes": str(16 << 20), "min.cleanable.dirty.ratio": "1.0"}


class Backlog:
    """Topics whose logs wait for compaction: each has `number` records of 100 B, of which a tenth have keys of their own."""

    def __init__(self, address: str, topics: list[str], number: int) -> None:
        self.address, self.topics = address, topics
        self.admin = AdminClient({"bootstrap.servers": address})
        wanted = [NewTopic(topic, 1, 1, config=CONFIGS) for topic in topics]
        for created in self.admin.create_topics(wanted).values():
            created.result(30)
        producer = Producer({"bootstrap.servers": address, "linger.ms": 20, "queue.buffering.max.messages": 500_000})
        keys, value = int(number * KEYS_SHARE), bytes(100)
        for topic in topics:
            for n in range(number):
                while len(producer) > 400_000:
                    producer.poll(0.01)
                producer.produce(topic, value, b"key-%08d" % (n * 7919 % keys))
        producer.flush()
        self.before = self.sizes()

    def sizes(self) -> list[int]:
        """The bytes of each topic's one partition."""
        with Wire(self.address) as wire:
            answer = wire.call(ApiKey.DESCRIBE_LOG_DIRS, 4, DescribeLogDirsRequest(None))
        found = {
            topic.name: topic.partitions[0].partition_size
            for result in answer.results
            for topic in result.topics
            if topic.name in self.topics
        }
        return [found[topic] for topic in self.topics]

    @property
    def waiting(self) -> int:
        """How many logs are yet to be compacted."""
        return sum(size > before / 3 for size, before in zip(self.sizes(), self.before, strict=True))

    def release(self) -> None:
        """From now on the cleaner may take them."""
        resources = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in self.topics]
        for resource in resources:
            resource.add_incremental_config(
                ConfigEntry("min.cleanable.dirty.ratio", "0.01", incremental_operation=AlterConfigOpType.SET)
            )
        for done in self.admin.incremental_alter_configs(resources).values():
            done.result(30)

    def wait(self) -> None:
        start_s = time.perf_counter()
        while self.waiting:
            time.sleep(POLL_S)
            if time.perf_counter() - start_s > TIMEOUT_S:
                raise TimeoutError("the logs are not compacted")


def compaction_s(address: str, number: int) -> float:
    """The seconds in which a log of `number` records is compacted."""
    backlog = Backlog(address, ["compacted"], number)
    start_s = time.perf_counter()
    backlog.release()
    backlog.wait()
    return time.perf_counter() - start_s


def throughput_kept(address: str, number: int, produce: Callable[[], float]) -> float:
    """The share of its throughput that `produce` (which returns it) keeps while logs are compacted, in percent.

    Raises RuntimeError where the compaction ends before it does: then it says nothing.
    """
    backlog = Backlog(address, [f"backlog-{n}" for n in range(BACKLOG_TOPICS)], number)
    before = produce()
    backlog.release()
    during = produce()
    if not backlog.waiting:
        raise RuntimeError("all logs were compacted before the producer was done")
    backlog.wait()
    return 100 * during / ((before + produce()) / 2)
