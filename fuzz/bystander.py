"""A well-behaved client: one record per request, each awaited, and how long each took.

`python -m fuzz.bystander ADDRESS SECONDS` runs it in a process of its own, so that the attacker's Python does not delay
it, and prints one line of JSON: how many requests were answered, and the percentiles in milliseconds.
"""

import json
import subprocess
import sys
import time
from typing import NamedTuple

from headwater.protocol.records import Record, build_batch
from tests.broker.wire import Wire

TOPIC = "bystander"
PAUSE_S = 0.002


class Latencies(NamedTuple):
    """Of all answers, in milliseconds."""

    answers: int
    p50_ms: float
    p99_ms: float
    max_ms: float


def measure(address: str, seconds: float) -> Latencies:
    batch = build_batch([Record(b"k", b"v" * 100, (), 1_700_000_000_000)])
    taken: list[float] = []
    with Wire(address, timeout_s=60.0) as wire:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            begun = time.perf_counter()
            assert wire.produce(TOPIC, 0, batch) == 0
            taken.append((time.perf_counter() - begun) * 1000)
            time.sleep(PAUSE_S)
    taken.sort()
    return Latencies(len(taken), taken[len(taken) // 2], taken[len(taken) * 99 // 100], taken[-1])


class Bystander:
    """`measure` in a process of its own."""

    def __init__(self, address: str, seconds: float) -> None:
        command = [sys.executable, "-m", "fuzz.bystander", address, str(seconds)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def result(self) -> Latencies:
        """Waits for the end. Raises AssertionError where a request was not answered."""
        output, _ = self.process.communicate(timeout=300)
        assert self.process.returncode == 0, "the well-behaved client was not served"
        return Latencies(*json.loads(output))


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], float(sys.argv[2]))))
