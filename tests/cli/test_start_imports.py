"""What commands import: what only some of them need is imported by its first use, not by every start.

A command has 150 ms beyond a bare start of Python. A test that measured time would fail on a busy machine, so this counts.
"""

import subprocess
import sys

import pytest

import headwater as hw

HELP = """
import sys
bare = set(sys.modules)
from headwater.cli.app import answer
try:
    answer(sys.argv[1:])
except SystemExit:
    pass
print("MODULES", *sorted(set(sys.modules) - bare))
"""
SCRIPT = "import sys, headwater.cli.up; print(*sys.modules)"


@pytest.fixture(scope="module")
def imported() -> set[str]:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "name",
    [
        "typer",
        "cramjam",
        "headwater.http",
        "headwater.observability",
        "msgspec",
        "headwater.events",
        "difflib",
        "headwater.broker.configs.properties_file",
        "headwater.client",
        "headwater.protocol.messages.embedded",
        "headwater.protocol.reference",
    ],
)
def test_a_start_does_not_import(name: str, imported: set[str]) -> None:
    assert "headwater.broker.shell.server" in imported
    assert name not in imported


def modules_of(*words: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", HELP, *words], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.rpartition("MODULES ")[2].split())


@pytest.mark.parametrize(
    ("words", "most"),
    [
        (("--help",), 60),
        (("--version",), 60),
        (("topic", "--help"), 70),
        (("topic", "list", "--help"), 70),
        (("consume", "--help"), 70),
        (("produce", "--help"), 70),
        (("doctor", "--help"), 70),
    ],
)
def test_help_imports_little(words: tuple[str, ...], most: int) -> None:
    imported = modules_of(*words)
    assert {"confluent_kafka", "asyncio", "headwater.client.admin", "headwater.broker"} & imported == set()
    assert len(imported) <= most


def test_a_command_that_asks_a_broker_imports_no_more_than_an_admin() -> None:
    with hw.Broker() as broker:
        imported = modules_of("topic", "list", "-b", broker.address)
    assert "headwater.client.admin" in imported
    assert {
        "msgspec",
        "typing_extensions",
        "headwater.broker",
        "headwater.client.wire",
        "dataclasses",
    } & imported == set()
    assert len(imported) <= 260
