"""`make bench`: the same work for Apache Kafka and for Headwater in one run, as a table of ratios.

Both start fresh; Kafka answers acks=all from the page cache, Headwater after fsync. Two kinds of client: librdkafka (kcat
reading a file of records, the library behind confluent-kafka and most others outside of the JVM) and Kafka's own Java
tools. On a small machine the client is often the slower side: then the ratio is near 1 and the processor time tells.
"""

import argparse
import base64
import datetime
import os
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.brokers import KAFKA_SH, Headwater, Kafka, RunningBroker
from benchmarks.compaction import compaction_s, throughput_kept
from benchmarks.connections import one_record_a_request
from benchmarks.transactions import copy_in_transactions, fill

IDLE_S = 10.0


class Row(NamedTuple):
    """A measurement: `higher_is_better` says which way the ratio goes."""

    what: str
    unit: str
    higher_is_better: bool
    value: float


class Work:
    """All the work, on one broker."""

    def __init__(self, broker: RunningBroker, scratch: Path, scale: float) -> None:
        self.broker = broker
        self.scratch = scratch
        self.scale = scale
        self.admin = AdminClient({"bootstrap.servers": broker.address})

    def topic(self, name: str, partitions: int = 1) -> str:
        self.admin.create_topics([NewTopic(name, partitions, 1)])[name].result(60)
        return name

    def count(self, number: int) -> int:
        return max(1000, int(number * self.scale))

    def lines(self, size: int, number: int) -> Path:
        """A file of records, made once."""
        path = self.scratch / f"lines-{size}-{number}"
        if not path.exists():
            block = [base64.b64encode(os.urandom(size))[:size] for _ in range(1000)]
            with path.open("wb") as file:
                for start in range(0, number, 1000):
                    file.write(b"\n".join(block[: number - start]) + b"\n")
        return path

    def kcat_produce(self, topic: str, size: int, number: int, linger_ms: int = 5) -> float:
        """Records a second."""
        lines = self.lines(size, number)
        command = ["kcat", "-P", "-b", self.broker.address, "-t", topic, "-l", str(lines), "-X", "acks=all"]
        command += ["-X", f"linger.ms={linger_ms}"]
        start_s = time.perf_counter()
        subprocess.run([*command, "-X", "queue.buffering.max.messages=500000"], check=True, capture_output=True)
        return number / (time.perf_counter() - start_s)

    def kcat_consume(self, topic: str, number: int) -> float:
        command = ["kcat", "-C", "-b", self.broker.address, "-t", topic, "-o", "beginning", "-e", "-q"]
        start_s = time.perf_counter()
        subprocess.run([*command, "-X", "queued.min.messages=1000000"], check=True, stdout=subprocess.DEVNULL)
        return number / (time.perf_counter() - start_s)

    def java(self, name: str, *arguments: object) -> str:
        command = [str(KAFKA_SH), "tool", f"org.apache.kafka.tools.{name}", *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def java_produce(self, topic: str, size: int, number: int, *more: object, throughput: int = -1) -> str:
        arguments = [
            "--topic",
            topic,
            "--num-records",
            number,
            "--record-size",
            size,
            "--throughput",
            throughput,
            *more,
        ]
        properties = ["--producer-props", f"bootstrap.servers={self.broker.address}", "acks=all"]
        return self.java("ProducerPerformance", *arguments, *properties).splitlines()[-1]

    def measure(self) -> Iterable[Row]:
        yield Row("ready", "ms", False, self.broker.ready_ms)
        cpu_s = self.broker.cpu_s()
        time.sleep(IDLE_S)
        yield Row("idle memory", "MiB", False, self.broker.memory_mib())
        yield Row("idle processor", "%", False, 100 * (self.broker.cpu_s() - cpu_s) / IDLE_S)
        yield from self.throughput()
        yield from self.java_clients()
        yield from self.latency()
        yield Row("memory after the load", "MiB", False, self.broker.memory_mib())
        yield from self.transactions()
        yield from self.compaction()
        yield from self.partitions()
        yield from self.connections()

    def throughput(self) -> Iterable[Row]:
        cpu_s = self.broker.cpu_s()
        big, small = self.count(1_000_000), self.count(5_000_000)
        yield Row("produce 1 KB, librdkafka", "records/s", True, self.kcat_produce(self.topic("big"), 1024, big))
        yield Row("produce 100 B, librdkafka", "records/s", True, self.kcat_produce(self.topic("small"), 100, small))
        yield Row("consume 1 KB, librdkafka", "records/s", True, self.kcat_consume("big", big))
        yield Row("consume 100 B, librdkafka", "records/s", True, self.kcat_consume("small", small))
        yield Row("processor for these four", "s", False, self.broker.cpu_s() - cpu_s)

    def java_clients(self) -> Iterable[Row]:
        cpu_s = self.broker.cpu_s()
        for what, size, number in (("1 KB", 1024, 1_000_000), ("100 B", 100, 4_000_000)):
            topic = self.topic(f"java-{size}")
            line = self.java_produce(topic, size, self.count(number))
            rate = float(re.findall(r"([\d.]+) records/sec", line)[0])
            yield Row(f"produce {what}, Java", "records/s", True, rate)
        arguments = ["--bootstrap-server", self.broker.address, "--topic", "java-1024"]
        text = self.java("ConsumerPerformance", *arguments, "--messages", self.count(1_000_000), "--timeout", 60000)
        fields = [field.strip() for field in text.splitlines()[-1].split(",")]
        yield Row("consume 1 KB, Java", "records/s", True, float(fields[5]))
        yield Row("processor for these three", "s", False, self.broker.cpu_s() - cpu_s)

    def latency(self) -> Iterable[Row]:
        number = self.count(100_000)
        # The first half is the client's own warming up.
        line = self.java_produce(self.topic("paced"), 1024, number, "--warmup-records", number // 2, throughput=5000)
        yield Row("5,000 records of 1 KB a second, p99", "ms", False, float(re.findall(r"(\d+) ms 99th", line)[0]))
        topic = self.topic("end-to-end")
        text = self.java("EndToEndLatency", self.broker.address, topic, self.count(5000), "all", 1024)
        average = float(re.findall(r"Avg latency: ([\d.]+) ms", text)[0])
        p99 = float(re.findall(r"99th = (\d+)", text)[0])
        yield Row("end to end, mean", "ms", False, average)
        yield Row("end to end, p99", "ms", False, p99)

    def transactions(self) -> Iterable[Row]:
        number = self.count(100_000)
        source = self.topic("to-be-copied")
        fill(self.broker.address, source, number)
        for batch in (100, 1000):
            target = self.topic(f"copied-{batch}")
            rate = copy_in_transactions(self.broker.address, source, target, number, batch)
            yield Row(f"copy of 1 KB in transactions of {batch:,}", "records/s", True, rate)

    def compaction(self) -> Iterable[Row]:
        number, topic = self.count(1_000_000), self.topic("beside-compaction")
        yield Row("compaction of 1,000,000 records", "s", False, compaction_s(self.broker.address, number))
        kept = throughput_kept(self.broker.address, number, lambda: self.kcat_produce(topic, 1024, number))
        yield Row("produce 1 KB while logs are compacted, of that without", "%", True, kept)

    def partitions(self) -> Iterable[Row]:
        for partitions in (1, 10, 100, 1000):
            topic = self.topic(f"partitions-{partitions}", partitions)
            # Longer to linger: else a thousand partitions mean batches of one record, and the client is measured.
            rate = self.kcat_produce(topic, 1024, self.count(600_000), linger_ms=200)
            yield Row(f"produce 1 KB to {partitions:,} partitions", "records/s", True, rate)

    def connections(self) -> Iterable[Row]:
        topic = self.topic("connections")
        one_record_a_request(self.broker.port, topic, 10, 3.0)
        for connections in (1, 10, 100, 1000):
            rate, p99 = one_record_a_request(self.broker.port, topic, connections, 6.0)
            yield Row(f"one record a request, {connections:,} connections", "requests/s", True, rate)
            yield Row(f"one record a request, {connections:,} connections, p99", "ms", False, p99)


def measure(make: Callable[[Path], RunningBroker], scratch: Path, scale: float) -> dict[str, Row]:
    rows = {}
    os.sync()  # what the run before has left to write is not this one's
    with tempfile.TemporaryDirectory(dir=scratch) as directory, make(Path(directory) / "broker") as broker:
        for row in Work(broker, scratch, scale).measure():
            print(f"  {broker.name}: {row.what}: {row.value:,.1f} {row.unit}", flush=True)
            rows[row.what] = row
    return rows


def table(kafka: dict[str, Row], headwater: dict[str, Row]) -> list[str]:
    """Markdown; the ratio is above 1 where Headwater is better."""
    out = ["| | Kafka | Headwater | Headwater is |", "|---|---:|---:|---:|"]
    for what, theirs in kafka.items():
        ours = headwater[what]
        low, high = (theirs.value, ours.value) if theirs.higher_is_better else (ours.value, theirs.value)
        ratio = f"{high / low:.2f} ×" if low else "–"
        digits = 0 if theirs.value >= 100 or ours.value >= 100 else 1
        out.append(f"| {what} ({theirs.unit}) | {theirs.value:,.{digits}f} | {ours.value:,.{digits}f} | {ratio} |")
    return out


def machine() -> str:
    names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({names[0] if names else platform.machine()}), {memory_gib:.0f} GiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="less work, for a quick look")
    parser.add_argument("--scratch", default=None, help="where the data goes while it runs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        kafka = measure(Kafka, Path(scratch), arguments.scale)
        headwater = measure(Headwater, Path(scratch), arguments.scale)
    print(f"\n{datetime.date.today()}, {machine()}; above 1 Headwater is better\n")
    print("\n".join(table(kafka, headwater)))


if __name__ == "__main__":
    main()
