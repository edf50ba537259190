"""The Python client beside raw confluent-kafka and aiokafka, on one Headwater broker, as ratios.

The sides take turns, five times. A figure is the median of a side's five, and a ratio the median of the five rounds' ratios. A
second table has the processor time of the whole client, librdkafka's threads included: it says more on a busy machine.

All sides do the same with what they read: the length of each value, or JSON decoded by msgspec into an Order, of which a
field is looked at. They read as each library's documentation shows: confluent-kafka `consume(500)` for batches, and `poll` for one
event at a time; aiokafka `getmany` and `async for`. Headwater also finds errors and keeps how far its group is; the others
commit nothing.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from statistics import median
from typing import NamedTuple, cast

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
ROUNDS = 5
SIDES = ("raw", "headwater", "aiokafka")
LINGER_MS = 1


class Order(msgspec.Struct):
    """What the typed rows decode."""

    id: int
    total: float
    customer: str
    items: list[int]


class Turn(NamedTuple):
    """One measurement of one side: events a second, or µs where less is better; and µs of processor for each event."""

    figure: float
    processor_us: float


class Watch:
    """Measures from its making on."""

    def __init__(self) -> None:
        self.start_s, self.start_processor_s = time.perf_counter(), time.process_time()

    def rate(self, number: int) -> Turn:
        """Events a second."""
        return Turn(number / (time.perf_counter() - self.start_s), self.processor_us(number))

    def each_us(self, number: int) -> Turn:
        """Microseconds for each."""
        return Turn(1e6 * (time.perf_counter() - self.start_s) / number, self.processor_us(number))

    def processor_us(self, number: int) -> float:
        return 1e6 * (time.process_time() - self.start_processor_s) / number


class Row(NamedTuple):
    """The measurements of the three sides, by rounds."""

    what: str
    unit: str
    rounds: list[dict[str, Turn]]

    def line(self) -> str:
        return line(
            f"{self.what} ({self.unit})",
            [{side: turn.figure for side, turn in each.items()} for each in self.rounds],
            is_rate=self.unit.endswith("/s"),
            digits=0,
        )

    def processor_line(self) -> str:
        return line(
            self.what,
            [{side: turn.processor_us for side, turn in each.items()} for each in self.rounds],
            is_rate=False,
            digits=2,
        )


def line(title: str, rounds: list[dict[str, float]], *, is_rate: bool, digits: int) -> str:
    """A line of a table: a median for each side, and the medians of the rounds' ratios to the two others."""
    medians = [f"{median(each[side] for each in rounds):,.{digits}f}" for side in SIDES]
    ratios = [
        median(each["headwater"] / each[other] if is_rate else each[other] / each["headwater"] for each in rounds)
        for other in ("raw", "aiokafka")
    ]
    return f"| {title} | {' | '.join(medians)} | {' | '.join(f'{ratio:.2f} ×' for ratio in ratios)} |"


class Bench:
    """The rows, on a running broker."""

    def __init__(self, address: str, number: int) -> None:
        self.address, self.number = address, number
        with hw.Admin(address) as admin:
            for topic in ("raw", "hw", "aio", "single"):
                admin.create_topic(topic)

    # -- producing, with headers, awaiting each batch

    def produce_raw(self) -> Turn:
        producer = RawProducer({"bootstrap.servers": self.address, "linger.ms": LINGER_MS, "enable.idempotence": True})
        watch = Watch()
        for _ in range(self.number // BATCH):
            for _ in range(BATCH):
                producer.produce("raw", VALUE, None, headers=HEADERS)
            producer.flush()
        return watch.rate(self.number)

    async def produce_headwater(self) -> Turn:
        async with hw.Producer[bytes](self.address, value=bytes, cloudevents="none") as producer:
            watch = Watch()
            for _ in range(self.number // BATCH):
                await producer.send_batch("hw", [VALUE] * BATCH, headers=HEADERS)
            return watch.rate(self.number)

    async def produce_aiokafka(self) -> Turn:
        producer = AIOKafkaProducer(bootstrap_servers=self.address, linger_ms=LINGER_MS, enable_idempotence=True)
        await producer.start()
        number = self.number // 5  # it is the slowest by far
        watch = Watch()
        for _ in range(number // BATCH):
            futures = [await producer.send("aio", VALUE, headers=HEADERS) for _ in range(BATCH)]
            await asyncio.gather(*futures)
        turn = watch.rate(number)
        await producer.stop()
        return turn

    # -- one send at a time

    def single_raw(self, number: int = 2000) -> Turn:
        producer = RawProducer({"bootstrap.servers": self.address, "linger.ms": 0, "enable.idempotence": True})
        watch = Watch()
        for n in range(number + 100):
            if n == 100:
                watch = Watch()
            producer.produce("single", VALUE, None, headers=HEADERS)
            while len(producer):
                producer.poll(0.1)
        return watch.each_us(number)

    async def single_headwater(self, number: int = 2000) -> Turn:
        async with hw.Producer[bytes](
            self.address, value=bytes, cloudevents="none", settings={"linger.ms": 0}
        ) as producer:
            watch = Watch()
            for n in range(number + 100):
                if n == 100:
                    watch = Watch()
                await producer.send("single", VALUE, headers=HEADERS)
            return watch.each_us(number)

    async def single_aiokafka(self, number: int = 2000) -> Turn:
        producer = AIOKafkaProducer(bootstrap_servers=self.address, linger_ms=0, enable_idempotence=True)
        await producer.start()
        watch = Watch()
        for n in range(number + 100):
            if n == 100:
                watch = Watch()
            await producer.send_and_wait("single", VALUE, headers=HEADERS)
        turn = watch.each_us(number)
        await producer.stop()
        return turn

    # -- consuming

    def consume_raw(self) -> Turn:
        consumer = RawConsumer({"bootstrap.servers": self.address, "group.id": f"r{time.time_ns()}"})
        consumer.assign([RawPartition("raw", 0, 0)])
        consumer.consume(1, 10)
        count, total, watch = 0, 0, Watch()
        while count < self.number - 1:
            for message in consumer.consume(500, 1):
                total += len(message.value())
                count += 1
        turn = watch.rate(count)
        consumer.close()
        return turn

    def consume_headwater(self) -> Turn:
        with hw.Consumer[bytes](self.address, "raw", group=f"h{time.time_ns()}", value=bytes) as consumer:
            consumer.take(1)
            count, total, watch = 0, 0, Watch()
            for batch in consumer.batches(500):
                for value in cast(list[bytes], batch.raw_values):
                    total += len(value)
                count += len(batch)
                if count >= self.number - 1:
                    break
            return watch.rate(count)

    async def consume_aiokafka(self) -> Turn:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.address, enable_auto_commit=False)
        await consumer.start()
        consumer.assign([TopicPartition("raw", 0)])
        await consumer.seek_to_beginning()
        await consumer.getone()
        number = self.number // 2
        count, total, watch = 0, 0, Watch()
        while count < number - 1:
            for messages in (await consumer.getmany(timeout_ms=1000, max_records=500)).values():
                for message in messages:
                    total += len(message.value)
                count += len(messages)
        turn = watch.rate(count)
        await consumer.stop()
        return turn

    # -- typed events, one at a time

    def typed_raw(self) -> Turn:
        decode = msgspec.json.Decoder(Order).decode
        consumer = RawConsumer({"bootstrap.servers": self.address, "group.id": f"r{time.time_ns()}"})
        consumer.assign([RawPartition("raw", 0, 0)])
        consumer.consume(1, 10)
        count, watch = 0, Watch()
        while count < self.number - 1:
            message = consumer.poll(1)
            if message is not None and decode(message.value()).id == 12345678:
                count += 1
        turn = watch.rate(count)
        consumer.close()
        return turn

    def typed_headwater(self) -> Turn:
        with hw.Consumer[Order](self.address, "raw", group=f"h{time.time_ns()}", value=Order) as consumer:
            consumer.take(1)
            count, watch = 0, Watch()
            for event in consumer:
                count += event.value.id == 12345678
                if count >= self.number - 1:
                    break
            return watch.rate(count)

    async def typed_aiokafka(self) -> Turn:
        decode = msgspec.json.Decoder(Order).decode
        consumer = AIOKafkaConsumer(bootstrap_servers=self.address, enable_auto_commit=False, value_deserializer=decode)
        await consumer.start()
        consumer.assign([TopicPartition("raw", 0)])
        await consumer.seek_to_beginning()
        await consumer.getone()
        number = self.number // 2
        count, watch = 0, Watch()
        async for message in consumer:
            count += message.value.id == 12345678
            if count >= number - 1:
                break
        turn = watch.rate(count)
        await consumer.stop()
        return turn

    def rows(self) -> Iterable[Row]:
        yield self.row("produce with headers, each batch awaited", "events/s", "produce")
        yield self.row("one awaited send at a time", "µs", "single")
        yield self.row("consume by batch", "events/s", "consume")
        yield self.row("iterate over typed JSON events", "events/s", "typed")

    def row(self, what: str, unit: str, name: str) -> Row:
        return Row(
            what, unit, [{side: measured(getattr(self, f"{name}_{side}")) for side in SIDES} for _ in range(ROUNDS)]
        )


def measured(function: Callable[[], Turn | Coroutine[None, None, Turn]]) -> Turn:
    result = function()
    return result if isinstance(result, Turn) else asyncio.run(result)


HEAD = "| confluent-kafka | Headwater | aiokafka | of confluent-kafka | of aiokafka |\n|---|---:|---:|---:|---:|---:|"


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, Headwater(Path(directory) / "broker") as broker:
        rows = list(Bench(broker.address, 100_000).rows())
        print("| " + HEAD, *(row.line() for row in rows), sep="\n")
        print("\n| µs of processor for each " + HEAD, *(row.processor_line() for row in rows), sep="\n")


if __name__ == "__main__":
    main()
