"""What a traced broker is asked to do: something of everything that must be durable, several clients at a time."""

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

TIMEOUT_S = 30
LARGE_BYTES = 60_000


class Load:
    """One life's requests. `life` makes the names of what may exist only once."""

    def __init__(self, address: str, data: Path, life: int) -> None:
        self.settings = {"bootstrap.servers": address, "log_level": 0, "socket.timeout.ms": TIMEOUT_S * 1000}
        self.data = data
        self.life = life
        self.admin = AdminClient(self.settings)

    def run(self) -> None:
        """Raises what a client raises."""
        self.create("orders", 3, **{"segment.bytes": str(1 << 20)})
        self.create(
            "newest", 1, **{"cleanup.policy": "compact", "segment.ms": "1", "min.cleanable.dirty.ratio": "0.01"}
        )
        together(self.produce, self.produce, self.produce_large, self.transact, self.update_newest, self.administrate)
        self.consume()
        self.delete_records()
        self.wait_for_compaction()

    def create(self, topic: str, partitions: int, **config: str) -> None:
        if topic not in self.admin.list_topics(timeout=TIMEOUT_S).topics:
            self.admin.create_topics([NewTopic(topic, partitions, 1, config=config)])[topic].result(TIMEOUT_S)

    def producer(self, **settings: object) -> Producer:
        return Producer({**self.settings, "enable.idempotence": True, "linger.ms": 1, **settings})

    def produce(self) -> None:
        """Small batches: groups of the journal that hold those of several clients."""
        producer = self.producer(**{"batch.num.messages": 5})
        for number in range(400):
            producer.produce("orders", b"%d" % number, b"%d" % number)
            producer.poll(0)
        assert producer.flush(TIMEOUT_S) == 0

    def produce_large(self) -> None:
        """Segments roll, and journal files are written over; with every third producer's acks=1 in between."""
        producers = [self.producer(), self.producer(**{"enable.idempotence": False, "acks": 1})]
        for number in range(60):
            producer = producers[number % 3 == 0]
            producer.produce("orders", bytes([number]) * LARGE_BYTES, partition=number % 2)
            assert producer.flush(TIMEOUT_S) == 0

    def transact(self) -> None:
        producer = self.producer(**{"transactional.id": f"transactional-{self.life}"})
        consumer = Consumer({**self.settings, "group.id": "transactional-group"})
        producer.init_transactions(TIMEOUT_S)
        for number in range(8):
            producer.begin_transaction()
            for partition in range(3):
                producer.produce("orders", b"transactional", partition=partition)
            offsets = [TopicPartition("orders", 0, number)]
            producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), TIMEOUT_S)
            if number % 3 == 2:
                producer.abort_transaction(TIMEOUT_S)
            else:
                producer.commit_transaction(TIMEOUT_S)
        consumer.close()

    def update_newest(self) -> None:
        producer = self.producer()
        for number in range(40):
            producer.produce("newest", b"%d" % number, b"key-%d" % (number % 3), timestamp=1_000_000 * (number + 1))
            assert producer.flush(TIMEOUT_S) == 0

    def administrate(self) -> None:
        admin, life = self.admin, self.life
        for number in range(3):  # the name is used again
            self.create("passing", 2)
            producer = self.producer()
            for partition in range(2):
                producer.produce("passing", b"%d" % number, partition=partition)
            assert producer.flush(TIMEOUT_S) == 0
            admin.delete_topics(["passing"])["passing"].result(TIMEOUT_S)
        self.create(f"growing-{life}", 1)
        admin.create_partitions([NewPartitions(f"growing-{life}", 2)])[f"growing-{life}"].result(TIMEOUT_S)
        change = ConfigEntry("retention.ms", str(1_000_000_000 + life), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, "orders", incremental_configs=[change])
        admin.incremental_alter_configs([resource])[resource].result(TIMEOUT_S)
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
        user = UserScramCredentialUpsertion(f"user-{life}", info, b"password")
        admin.alter_user_scram_credentials([user])[user.user].result(TIMEOUT_S)
        rule = AclBinding(
            ResourceType.TOPIC, "secret", ResourcePatternType.LITERAL, f"User:user-{life}", "*",
            AclOperation.READ, AclPermissionType.ALLOW,
        )  # fmt: skip
        admin.create_acls([rule])[rule].result(TIMEOUT_S)

    def consume(self) -> None:
        """Two groups read; one of them is deleted after that."""
        for group in ("readers", f"passing-group-{self.life}"):
            settings = {"group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
            consumer = Consumer({**self.settings, **settings})
            consumer.subscribe(["orders"])
            read = 0
            while read < 100:
                messages = consumer.consume(50, 1.0)
                assert all(message.error() is None for message in messages)
                read += len(messages)
                if messages:
                    consumer.commit(asynchronous=False)
            consumer.close()
        self.admin.delete_consumer_groups([group])[group].result(TIMEOUT_S)

    def delete_records(self) -> None:
        consumer = Consumer({**self.settings, "group.id": "unused"})
        _, end = consumer.get_watermark_offsets(TopicPartition("orders", 0), timeout=TIMEOUT_S)
        consumer.close()
        partition = TopicPartition("orders", 0, end - 10)
        self.admin.delete_records([partition])[partition].result(TIMEOUT_S)

    def wait_for_compaction(self) -> None:
        """Until segments lack offsets: each batch of 40 had a segment of its own."""
        directory = self.data / "newest-0"
        until = time.monotonic() + TIMEOUT_S
        while time.monotonic() < until:
            bases = sorted(int(path.stem) for path in directory.glob("*.log"))
            if any(second - first > 1 for first, second in pairwise(bases)):
                return
            time.sleep(0.05)  # nothing tells a client that a log was compacted
        raise AssertionError(f"nothing was compacted in {directory}")


def together(*parts: Callable[[], None]) -> None:
    """Runs all at the same time; raises the first error."""
    errors: list[BaseException] = []

    def run(part: Callable[[], None]) -> None:
        try:
            part()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
