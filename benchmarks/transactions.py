"""Consume, process, produce in transactions, with librdkafka: what exactly once costs."""

import time

from confluent_kafka import Consumer, Producer, TopicPartition

RECORD_BYTES = 1024


def fill(address: str, topic: str, number: int) -> None:
    producer = Producer({"bootstrap.servers": address, "linger.ms": 5, "queue.buffering.max.messages": 500_000})
    value = bytes(RECORD_BYTES)
    for _ in range(number):
        while len(producer) > 400_000:
            producer.poll(0.01)
        producer.produce(topic, value, partition=0)
    producer.flush()


def copy_in_transactions(address: str, source: str, target: str, number: int, batch: int) -> float:
    """Copies `number` records in transactions of `batch`, offsets included; returns records a second."""
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": f"copy-{target}",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "queued.min.messages": 100_000,
        }
    )
    consumer.assign([TopicPartition(source, 0, 0)])
    producer = Producer({"bootstrap.servers": address, "transactional.id": f"copy-{target}", "linger.ms": 0})
    producer.init_transactions()
    copied, start_s = 0, time.perf_counter()
    while copied < number:
        messages = consumer.consume(min(batch, number - copied), 10)
        producer.begin_transaction()
        for message in messages:
            producer.produce(target, message.value(), partition=0)
        copied += len(messages)
        producer.send_offsets_to_transaction([TopicPartition(source, 0, copied)], consumer.consumer_group_metadata())
        producer.commit_transaction()
    took_s = time.perf_counter() - start_s
    consumer.close()
    return number / took_s
