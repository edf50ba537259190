"""The Python client beside raw confluent-kafka and aiokafka, on one Headwater broker, as ratios.

Each row is measured several times in turns and the best of each side counts, since a shared machine only ever slows down.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from confluent_kafka import Consumer as RawConsumer
from confluent_kafka import Producer as RawProducer
from confluent_kafka import TopicPartition as RawPartition

import headwater as hw
from benchmarks.brokers import Headwater

HEADERS = [("origin", b"web"), ("trace", b"00-1234-5678-01")]
VALUE = msgspec.json.encode({"id": 12345678, "total": 99.5, "customer": "c" * 40, "items": [1, 2, 3]})
BATCH = 1000
ROUNDS = 3
LINGER_MS = 1


class Order(msgspec.Struct):
    """What the typed rows decode."""

    id: int
    total: float
    customer: str
    items: list[int]


class Row(NamedTuple):
    """One measurement of each of the three, in events a second, or µs where less is better."""

    what: str
    unit: str
    raw: float
    headwater: float
    aiokafka: float

    def line(self) -> str:
        higher = self.unit.endswith("/s")
        ratios = [
            self.headwater / other if higher else other / self.headwater for other in (self.raw, self.aiokafka) if other
        ]
        texts = [f"{value:,.0f}" for value in (self.raw, self.headwater, self.aiokafka)]
        return f"| {self.what} ({self.unit}) | {' | '.join(texts)} | {' | '.join(f'{r:.2f} ×' for r in ratios)} |"


class Bench:
    """The rows, on a running broker."""

    def __init__(self, address: str, number: int) -> None:
        self.address, self.number = address, number
        with hw.Admin(address) as admin:
            for topic in ("raw", "hw", "aio", "single"):
                admin.create_topic(topic)

    # -- producing, with headers, awaiting each batch

    def produce_raw(self) -> float:
        producer = RawProducer({"bootstrap.servers": self.address, "linger.ms": LINGER_MS, "enable.idempotence": True})
        start_s = time.perf_counter()
        for _ in range(self.number // BATCH):
            for _ in range(BATCH):
                producer.produce("raw", VALUE, None, headers=HEADERS)
            producer.flush()
        return self.number / (time.perf_counter() - start_s)

    async def produce_headwater(self) -> float:
        async with hw.Producer[bytes](self.address, value=bytes, cloudevents="none") as producer:
            start_s = time.perf_counter()
            for _ in range(self.number // BATCH):
                await producer.send_batch("hw", [VALUE] * BATCH, headers=HEADERS)
            return self.number / (time.perf_counter() - start_s)

    async def produce_aiokafka(self) -> float:
        producer = AIOKafkaProducer(bootstrap_servers=self.address, linger_ms=LINGER_MS, enable_idempotence=True)
        await producer.start()
        number = self.number // 5  # it is the slowest by far
        start_s = time.perf_counter()
        for _ in range(number // BATCH):
            futures = [await producer.send("aio", VALUE, headers=HEADERS) for _ in range(BATCH)]
            await asyncio.gather(*futures)
        rate = number / (time.perf_counter() - start_s)
        await producer.stop()
        return rate

    # -- one send at a time

    def single_raw(self, number: int = 2000) -> float:
        producer = RawProducer({"bootstrap.servers": self.address, "linger.ms": 0, "enable.idempotence": True})
        start_s = 0.0
        for n in range(number + 100):
            if n == 100:
                start_s = time.perf_counter()
            producer.produce("single", VALUE, None, headers=HEADERS)
            while len(producer):
                producer.poll(0.1)
        return 1e6 * (time.perf_counter() - start_s) / number

    async def single_headwater(self, number: int = 2000) -> float:
        async with hw.Producer[bytes](
            self.address, value=bytes, cloudevents="none", settings={"linger.ms": 0}
        ) as producer:
            start_s = 0.0
            for n in range(number + 100):
                if n == 100:
                    start_s = time.perf_counter()
                await producer.send("single", VALUE, headers=HEADERS)
            return 1e6 * (time.perf_counter() - start_s) / number

    async def single_aiokafka(self, number: int = 2000) -> float:
        producer = AIOKafkaProducer(bootstrap_servers=self.address, linger_ms=0, enable_idempotence=True)
        await producer.start()
        start_s = 0.0
        for n in range(number + 100):
            if n == 100:
                start_s = time.perf_counter()
            await producer.send_and_wait("single", VALUE, headers=HEADERS)
        took = 1e6 * (time.perf_counter() - start_s) / number
        await producer.stop()
        return took

    # -- consuming

    def consume_raw(self) -> float:
        consumer = RawConsumer({"bootstrap.servers": self.address, "group.id": f"r{time.time_ns()}"})
        consumer.assign([RawPartition("raw", 0, 0)])
        consumer.consume(1, 10)
        count, total, start_s = 0, 0, time.perf_counter()
        while count < self.number - 1:
            for message in consumer.consume(500, 1):
                total += len(message.value())
                count += 1
        rate = count / (time.perf_counter() - start_s)
        consumer.close()
        return rate

    def consume_headwater(self) -> float:
        with hw.Consumer[bytes](self.address, "raw", group=f"h{time.time_ns()}", value=bytes) as consumer:
            consumer.take(1)
            count, total, start_s = 0, 0, time.perf_counter()
            for batch in consumer.batches(500):
                for value in batch.raw_values:
                    total += len(value or b"")
                count += len(batch)
                if count >= self.number - 1:
                    break
            return count / (time.perf_counter() - start_s)

    async def consume_aiokafka(self) -> float:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.address, enable_auto_commit=False)
        await consumer.start()
        consumer.assign([TopicPartition("raw", 0)])
        await consumer.seek_to_beginning()
        await consumer.getone()
        number = self.number // 2
        count, total, start_s = 0, 0, time.perf_counter()
        while count < number - 1:
            for messages in (await consumer.getmany(timeout_ms=1000, max_records=500)).values():
                for message in messages:
                    total += len(message.value)
                count += len(messages)
        rate = count / (time.perf_counter() - start_s)
        await consumer.stop()
        return rate

    # -- typed events, one at a time

    def typed_raw(self) -> float:
        decode = msgspec.json.Decoder(Order).decode
        consumer = RawConsumer({"bootstrap.servers": self.address, "group.id": f"r{time.time_ns()}"})
        consumer.assign([RawPartition("raw", 0, 0)])
        consumer.consume(1, 10)
        count, start_s = 0, time.perf_counter()
        while count < self.number - 1:
            message = consumer.poll(1)
            if message is not None and decode(message.value()).id == 12345678:
                count += 1
        rate = count / (time.perf_counter() - start_s)
        consumer.close()
        return rate

    def typed_headwater(self) -> float:
        with hw.Consumer[Order](self.address, "raw", group=f"h{time.time_ns()}", value=Order) as consumer:
            consumer.take(1)
            count, start_s = 0, time.perf_counter()
            for event in consumer:
                count += event.value.id == 12345678
                if count >= self.number - 1:
                    break
            return count / (time.perf_counter() - start_s)

    async def typed_aiokafka(self) -> float:
        decode = msgspec.json.Decoder(Order).decode
        consumer = AIOKafkaConsumer(bootstrap_servers=self.address, enable_auto_commit=False, value_deserializer=decode)
        await consumer.start()
        consumer.assign([TopicPartition("raw", 0)])
        await consumer.seek_to_beginning()
        await consumer.getone()
        number = self.number // 2
        count, start_s = 0, time.perf_counter()
        async for message in consumer:
            count += message.value.id == 12345678
            if count >= number - 1:
                break
        rate = count / (time.perf_counter() - start_s)
        await consumer.stop()
        return rate

    def rows(self) -> Iterable[Row]:
        yield self.row("produce with headers, each batch awaited", "events/s", "produce")
        yield self.row("one awaited send at a time", "µs", "single")
        yield self.row("consume by batch", "events/s", "consume")
        yield self.row("iterate over typed JSON events", "events/s", "typed")

    def row(self, what: str, unit: str, name: str) -> Row:
        best = max if unit.endswith("/s") else min
        sides: dict[str, list[float]] = {"raw": [], "headwater": [], "aiokafka": []}
        for _ in range(ROUNDS):
            for side, values in sides.items():
                values.append(measured(getattr(self, f"{name}_{side}")))
        return Row(what, unit, *(best(values) for values in sides.values()))


def measured(function: Callable[[], float | Coroutine[None, None, float]]) -> float:
    result = function()
    return result if isinstance(result, float) else asyncio.run(result)


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, Headwater(Path(directory) / "broker") as broker:
        print(
            "| | confluent-kafka | Headwater | aiokafka | of confluent-kafka | of aiokafka |\n|---|---:|---:|---:|---:|---:|"
        )
        for row in Bench(broker.address, 100_000).rows():
            print(row.line(), flush=True)


if __name__ == "__main__":
    main()
