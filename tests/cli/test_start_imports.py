"""What `headwater up` imports: what only some brokers need is imported by its first use, not by every start."""

import subprocess
import sys

import pytest

SCRIPT = "import sys, headwater.cli.up; print(*sys.modules)"


@pytest.fixture(scope="module")
def imported() -> set[str]:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "name",
    [
        "typer",
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
