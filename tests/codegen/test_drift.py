"""The generated files are what the generators write."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from headwater.cli.up import parser
from tests.cli.runner import invoke

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("generator", ["generate.py", "settings_tables.py", "cli_reference.py"])
def test_generated_files_are_current(generator: str) -> None:
    result = subprocess.run(
        [sys.executable, ROOT / "codegen" / generator, "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_the_cli_reference_has_every_command_and_option() -> None:
    """Found by the commands' own help, not by the generator: what it forgets is missed here."""
    text = (ROOT / "docs" / "reference" / "cli.md").read_text()
    sections = dict(re.findall(r"^### (headwater .+)\n((?:(?!^#).*\n)*)", text, re.MULTILINE))
    assert len(sections) > 25
    for words, section in sections.items():
        shown = invoke(*words.split()[1:], "--help")
        options = up_options() if words == "headwater up" else set(re.findall(r"(?<![\w-])--[a-z-]+", shown.stdout))
        assert options, words
        documented = section + (text if "#connection" in section else "")
        assert {option for option in options - {"--help"} if f"`{option}`" not in documented} == set(), words


def up_options() -> set[str]:
    return {name for action in parser()._actions for name in action.option_strings if name.startswith("--")}
