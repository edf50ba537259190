"""Copies a topic to another exactly once: consume, produce, commit in transactions, some of them aborted on purpose.

A program of its own, so that it can be killed. It ends with 1 at any error: whoever started it starts it again.
"""

import sys
from random import Random

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

BATCH_RECORDS = 150
ABORTED_SHARE = 0.15


def copy(address: str, source: str, target: str, seed: int) -> None:
    random = Random(seed)
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": f"copy-{target}",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6000,
            "log_level": 0,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": address,
            "transactional.id": f"copy-{target}",
            "transaction.timeout.ms": 30_000,
            "linger.ms": 2,
            "log_level": 0,
        }
    )
    producer.init_transactions(60)
    # One copier at a time: the partition is taken, not shared, so that no rebalance is waited for.
    partition = consumer.committed([TopicPartition(source, 0)], 30)[0]
    position = max(0, partition.offset)
    consumer.assign([TopicPartition(source, 0, position)])
    while True:
        messages = consumer.consume(BATCH_RECORDS, 0.5)
        if not messages:
            continue
        producer.begin_transaction()
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
            producer.produce(target, message.value(), partition=0)
        following = TopicPartition(source, 0, messages[-1].offset() + 1)
        producer.send_offsets_to_transaction([following], consumer.consumer_group_metadata(), 30)
        if random.random() < ABORTED_SHARE:
            producer.abort_transaction(30)
            consumer.seek(TopicPartition(source, 0, position))
            continue
        producer.commit_transaction(30)
        position = following.offset


if __name__ == "__main__":
    try:
        address, source, target, seed = sys.argv[1:]
        copy(address, source, target, int(seed))
    except KafkaException as error:
        print(error, file=sys.stderr)
        sys.exit(1)
