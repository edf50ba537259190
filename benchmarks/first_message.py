"""How long a test waits: from asking for the fixtures to the first message consumed, and a hundred fresh brokers."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS = 5
TESTS = """
import time
import pytest

begun = []

@pytest.fixture
def asked():
    begun.append(time.perf_counter())

def test_first(asked, broker, topic, producer, consumer):
    producer.send(topic.name, {"a": 1})
    next(iter(consumer))
    print("FIRST", (time.perf_counter() - begun[0]) * 1000)

@pytest.mark.parametrize("number", range(101))
def test_fresh(broker, number):
    begun.append(time.perf_counter())
    assert broker.events() == []
    if number == 100:
        print("HUNDRED", (begun[-1] - begun[-101]) * 1000)
"""


def run() -> dict[str, float]:
    """One pytest process; the first test in it is a cold one."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "test_first.py").write_text(TESTS)
        command = [sys.executable, "-W", "ignore", "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider"]
        output = subprocess.run([*command, directory], capture_output=True, text=True, check=True, cwd=directory).stdout
    return {name: float(ms) for name, ms in re.findall(r"(FIRST|HUNDRED) ([\d.]+)", output)}


def main() -> None:
    runs = [run() for _ in range(ROUNDS)]
    print("\n| in a test | ms, each run |\n|---|---|")
    for name, what in (("FIRST", "first message, cold"), ("HUNDRED", "a hundred fresh brokers")):
        print(f"| {what} | {', '.join(f'{run[name]:.0f}' for run in runs)} |")


if __name__ == "__main__":
    main()
