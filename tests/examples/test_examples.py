"""The examples run and print what they promise; on a real Kafka too (tests/interop/test_on_kafka.py)."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60
PRINTED = {
    "auction": [
        "Bob bids 100",
        "Ada bids 110",
        "Bob bids 120",
        "Ada bids 130",
        "Bob leaves at 130",
        "a clock goes to Ada for 130",
    ],
    "price_bus": [
        "alert: gold is at 2010.5 (caused by a price)",
        "gold: 2010.5",
        "alert: the market closes (caused by nothing)",
        "the last two, for a late subscriber: [2010.5, 24.5]",
    ],
    "order_pipeline": [
        "order 1 is shipped, caused by True",
        "order 3 is shipped, caused by True",
        "order 2 was put aside: ValueError: nothing to ship",
    ],
    "telemetry": ["105 readings are in the log", "10 devices, the hottest is d7", "d7 is at 41"],
}
WITH_BROKER = ("order_pipeline", "telemetry")


def run_example(name: str, *arguments: str) -> str:
    command = [sys.executable, "-m", f"examples.{name}", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("name", PRINTED)
def test_examples_print_what_they_promise(name: str) -> None:
    printed = run_example(name).splitlines()
    assert [line for line in PRINTED[name] if line not in printed] == [], printed


def test_each_example_is_tested_and_listed() -> None:
    names = {path.stem for path in (ROOT / "examples").glob("*.py")} - {"__init__"}
    assert names == set(PRINTED)
    text = (ROOT / "examples" / "README.md").read_text()
    assert [name for name in names if f"`{name}.py`" not in text] == []
