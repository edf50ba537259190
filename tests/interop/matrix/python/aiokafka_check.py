"""aiokafka: python aiokafka_check.py ADDRESS TOPIC."""

import asyncio
import sys

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

ROUNDS = 10
address, topic = sys.argv[1:]
partition = TopicPartition(topic, 0)


async def end_of(consumer: AIOKafkaConsumer) -> int:
    return int((await consumer.end_offsets([partition]))[partition])


async def read_to_the_end(consumer: AIOKafkaConsumer) -> list[str]:
    end = await end_of(consumer)
    values: list[str] = []
    while await consumer.position(partition) < end:
        for messages in (await consumer.getmany(timeout_ms=100)).values():
            values += [message.value.decode() for message in messages]
    return values


async def produce() -> list[str]:
    """Writes records of every kind; returns those that a consumer of committed ones sees."""
    probe = AIOKafkaConsumer(bootstrap_servers=address)
    await probe.start()
    written = []
    for acks in (1, "all", 0):
        producer = AIOKafkaProducer(bootstrap_servers=address, acks=acks)
        await producer.start()
        for n in range(ROUNDS):
            await producer.send_and_wait(topic, f"{acks} {n}".encode(), partition=0)
            written.append(f"{acks} {n}")
            if acks != 0:
                end = await end_of(probe)
                assert end == len(written), (acks, end, len(written))
        await producer.stop()
    while await end_of(probe) < len(written):
        pass  # acks=0 promises nothing
    await probe.stop()
    producer = AIOKafkaProducer(bootstrap_servers=address, enable_idempotence=True)
    await producer.start()
    await producer.send_and_wait(topic, b"idempotent", partition=0)
    written.append("idempotent")
    await producer.stop()

    producer = AIOKafkaProducer(bootstrap_servers=address, transactional_id=topic)
    await producer.start()
    for n in range(4):
        await producer.begin_transaction()
        await producer.send_and_wait(topic, f"transaction {n}".encode(), partition=0)
        if n % 2:
            await producer.abort_transaction()
        else:
            await producer.commit_transaction()
            written.append(f"transaction {n}")
    await producer.stop()
    return written


async def consume(expected: list[str]) -> None:
    settings = {"bootstrap_servers": address, "group_id": topic, "auto_offset_reset": "earliest"}
    reader = AIOKafkaConsumer(topic, **settings, enable_auto_commit=False, isolation_level="read_committed")
    await reader.start()
    found = await read_to_the_end(reader)
    assert found == expected, (found, expected)
    await reader.commit()
    assert await reader.committed(partition) == await end_of(reader)
    await reader.stop()

    uncommitted = AIOKafkaConsumer(bootstrap_servers=address)
    await uncommitted.start()
    uncommitted.assign([partition])
    await uncommitted.seek_to_beginning(partition)
    assert len(await read_to_the_end(uncommitted)) == len(expected) + 2
    await uncommitted.stop()


async def main() -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    expected = await produce()
    await consume(expected)
    offsets = await admin.list_consumer_group_offsets(topic)
    assert offsets[partition].offset > len(expected), offsets
    await admin.delete_topics([topic])
    await admin.close()
    print("ok", aiokafka.__version__)


asyncio.run(asyncio.wait_for(main(), 60))
