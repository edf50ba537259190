"""The two brokers side by side: a fresh Apache Kafka and a fresh Headwater, each with what it costs to run."""

import os
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

from headwater.broker.shell.ready import Ready

ROOT = Path(__file__).parents[1]
KAFKA_SH = ROOT / "tests" / "interop" / "kafka" / "kafka.sh"
CLEANER_BACKOFF_MS = 200  # so that a compaction does not wait for its turn
TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port whose next one is free too (Kafka's controller takes that)."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = int(first.getsockname()[1])
            try:
                with socket.create_server(("127.0.0.1", port + 1)):
                    return port
            except OSError:
                continue


class RunningBroker(ABC):
    """A started broker: where it listens, and what its processes use."""

    name = ""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.process_id, self.ready_ms = self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @abstractmethod
    def start(self) -> tuple[int, int]:
        """Starts it; returns its process id and the milliseconds it took."""

    def processes(self) -> list[int]:
        children = subprocess.run(["pgrep", "-P", str(self.process_id)], capture_output=True, text=True, check=False)
        return [self.process_id, *map(int, children.stdout.split())]

    def cpu_s(self) -> float:
        """Processor seconds of the broker and its children so far."""
        total = 0
        for pid in self.processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def memory_mib(self) -> float:
        """Memory of the broker and its children that no other process shares (PSS)."""
        total = 0
        for pid in self.processes():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        return total / 1024

    def stop(self) -> None:
        os.kill(self.process_id, signal.SIGTERM)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.stop()


class Kafka(RunningBroker):
    """Apache Kafka with stock settings: acks=all is answered from the page cache."""

    name = "Kafka"

    def start(self) -> tuple[int, int]:
        extra = self.directory.parent / "extra.properties"
        extra.write_text(f"log.cleaner.backoff.ms={CLEANER_BACKOFF_MS}\n")
        command = [str(KAFKA_SH), "start", str(self.port), str(self.directory)]
        environment = {**os.environ, "EXTRA": str(extra)}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        process_id, ready_ms = result.stdout.split()[-2:]
        return int(process_id), int(ready_ms)


class Headwater(RunningBroker):
    """`headwater up` with its defaults: acks=all is answered after fsync."""

    name = "Headwater"

    def __init__(self, directory: Path, durability: str = "journal") -> None:
        self.durability = durability
        super().__init__(directory)

    def start(self) -> tuple[int, int]:
        command = [sys.executable, "-m", "headwater", "up", "--ready-fd", "1", "--data", str(self.directory)]
        command += [
            "--durability",
            self.durability,
            "--listen",
            self.address,
            "--set",
            "group.initial.rebalance.delay.ms=0",
        ]
        command += ["--set", f"log.cleaner.backoff.ms={CLEANER_BACKOFF_MS}"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        ready = Ready.from_line(self.process.stdout.readline())
        return ready.process_id, ready.start_ms

    def stop(self) -> None:
        super().stop()
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
