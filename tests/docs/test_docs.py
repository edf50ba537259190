"""The documents tell the truth: their Python runs, their commands exist, every setting and gap is written down."""

import re
from pathlib import Path

import pytest

import headwater
from headwater import testing
from headwater.broker.configs.setting_classes import HONOURED
from headwater.broker.configs.settings import own_defaults, value_text
from headwater.broker.dispatch import SERVED
from headwater.cli.up import parser

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
PACKAGE = ROOT / "src" / "headwater"


PYTHON_BLOCK = re.compile(r"```python\n(.*?)```(?:\n+It prints:\n+```text\n(.*?)```)?", re.DOTALL)


def python_blocks() -> list[tuple[str, str, str]]:
    """Each block's name, its code, and what it prints where the document says so."""
    return [
        (f"{path.relative_to(ROOT)}-{n}", block, printed)
        for path in DOCUMENTS
        for n, (block, printed) in enumerate(PYTHON_BLOCK.findall(path.read_text()))
    ]


@pytest.mark.parametrize(
    ("name", "block", "whole_output"), python_blocks(), ids=lambda value: value if value[-1:].isdigit() else ""
)
def test_python_runs(name: str, block: str, whole_output: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block, name, "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    for expected in re.findall(r"print\(.*?\)\s+# (b'.*)|# prints: (.*)", block):
        assert "".join(expected) in printed
    if whole_output:
        assert printed == whole_output


def test_links_lead_somewhere() -> None:
    for path in DOCUMENTS:
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text()):
            assert (path.parent / link).exists(), f"{path.relative_to(ROOT)}: {link}"


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs" / "reference" / "settings.md").read_text()
    missing = [key for key in {*own_defaults(), *HONOURED} if f"`{key}`" not in text]
    assert missing == []


@pytest.mark.parametrize("document", ["docs/reference/settings.md", "SECURITY.md"])
def test_the_defaults_that_are_written_down_are_so(document: str) -> None:
    """Each row of a table that begins with keys and has as many defaults beside them."""
    checked = 0
    for keys_cell, defaults_cell in re.findall(
        r"^\| (`[^|]*`) \| ([^|]*) \|", (ROOT / document).read_text(), re.MULTILINE
    ):
        keys = re.findall(r"`([^`]+)`", keys_cell)
        defaults = [word.strip(" `") for word in defaults_cell.split(", ")]
        if len(keys) != len(defaults):
            continue
        for key, default in zip(keys, defaults, strict=True):
            if key in own_defaults() and not isinstance(own_defaults()[key], str):
                assert default == value_text(own_defaults()[key]), key
                checked += 1
    assert checked >= 8


def test_security_names_tests_that_exist() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::([\w:]+)`|`…::([\w:]+)`", text)
    assert len(named) > 10
    path = ROOT
    for file, name, again in named:
        path = ROOT / file if file else path
        for part in (name or again).split("::"):
            assert re.search(rf"(def|class) {part}\b", path.read_text()), f"{path.relative_to(ROOT)}::{part}"


def test_every_public_name_is_documented() -> None:
    text = (ROOT / "docs" / "reference" / "python-api.md").read_text()
    names = [name for name in (*headwater.__all__, *testing.__all__) if not name.startswith("__")]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_commands_in_the_readme_exist() -> None:
    make_targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in DOCUMENTS:
        for target in re.findall(r"`make ([a-z-]+)`|^\$ make ([a-z-]+)", path.read_text(), re.MULTILINE):
            assert (target[0] or target[1]) in make_targets
    options = {option for action in parser()._actions for option in action.option_strings}
    assert {
        "--data",
        "--listen",
        "--advertise",
        "--durability",
        "--config",
        "--set",
        "--metrics",
        "--ready-fd",
    } <= options


def test_each_folder_has_a_readme() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE}
    exempt = {PACKAGE / "protocol" / "messages", PACKAGE / "broker" / "handlers"}  # told in the folder above
    assert [folder for folder in folders - exempt if not (folder / "README.md").exists()] == []


def test_each_handler_says_its_versions() -> None:
    for key in SERVED:
        text = (PACKAGE / "broker" / "handlers" / f"{key.name.lower()}.py").read_text()
        assert re.match(r'"""[A-Za-z]+, \d', text), f"{key.name} does not begin with its versions"


def test_the_readme_has_five_rows_of_the_benchmarks() -> None:
    """As they are there: two tables that differ would both be doubted."""
    table = (ROOT / "README.md").read_text().split("## Beside Apache Kafka")[1].split("\n## ")[0]
    rows = re.findall(r"^\| [a-z].*\|$", table, re.MULTILINE)
    assert len(rows) == 5
    all_rows = (ROOT / "docs" / "benchmarks.md").read_text().splitlines()
    assert [row for row in rows if row not in all_rows] == []
    assert any(float(row.split("|")[-2].strip(" ×")) < 1 for row in rows), "one row shows where Kafka is better"


def test_the_first_screen_says_what_it_is_and_is_not() -> None:
    first_screen = (ROOT / "README.md").read_text().split("\n## ")[0]
    for question in ("Who it is for", "What it replaces", "What it does not do", "Why trust it"):
        assert f"- **{question}.**" in first_screen
    assert len(first_screen.splitlines()) <= 30
    assert re.findall(r"!\[.+\]\((.+\.svg)\)", first_screen)
