"""aiokafka without a framework."""

import asyncio
import json
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer


async def main() -> None:
    consumer = AIOKafkaConsumer(
        "numbers", bootstrap_servers=sys.argv[1], group_id="aiokafka", auto_offset_reset="earliest"
    )
    producer = AIOKafkaProducer(bootstrap_servers=sys.argv[1])
    await consumer.start()
    await producer.start()
    async for message in consumer:
        value = json.loads(message.value)["value"]
        await producer.send_and_wait("doubled", json.dumps({"value": value * 2}).encode())


if __name__ == "__main__":
    asyncio.run(main())
