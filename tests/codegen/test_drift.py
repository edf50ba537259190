"""The generated files are what the generators write."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("generator", ["generate.py", "settings_tables.py"])
def test_generated_files_are_current(generator: str) -> None:
    result = subprocess.run(
        [sys.executable, ROOT / "codegen" / generator, "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
