"""What the pages for those who change the code name is there, and what they promise to list is listed."""

import re
from pathlib import Path

import pytest

from tests.docs.code_names import PACKAGE, ROOT, named_code, untrue

ARCHITECTURE = ROOT / "docs" / "explanation" / "architecture.md"
DECISIONS = ROOT / "docs" / "decisions"
PAGES = [ARCHITECTURE, ROOT / "CONTRIBUTING.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_path_and_name_is_there(page: Path) -> None:
    assert untrue(page.read_text()) == []


def test_the_architecture_names_much() -> None:
    """So that a change of its form does not leave the test above with nothing to look at."""
    found = named_code(ARCHITECTURE.read_text())
    assert len(found) > 100
    assert sum(1 for path, name in found if name) > 80


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("`storage/log.py::Log.append`", []),
        ("`storage/log.py::Log.appended`", ["storage/log.py::Log.appended"]),
        ("`storage/logs.py`", ["storage/logs.py"]),
        ("`storage/`, `tests/tidy/`", []),
        ("`stores/`", ["stores/"]),
        ("`Log.become_durable` and `Log.become_lost`", ["Log.become_lost"]),
        ("```text\n  └ Log.read    storage/log.py   records\n```", []),
        ("```text\n  └ Log.reads    storage/log.py\n```", ["storage/log.py::Log.reads", "Log.reads"]),
        ("```text\n  stores/  logs, Log.become_lost\n```", ["stores/", "Log.become_lost"]),
        ("`broker/dispatch.py::HANDLERS`, `broker/parts.py::ProduceParts.clock`", []),
    ],
)
def test_what_is_not_there_is_found(text: str, wrong: list[str]) -> None:
    assert untrue(text) == wrong


def test_the_index_of_decisions_is_complete() -> None:
    """Each page is in the table once, by its number, with its own title."""
    rows = re.findall(
        r"^\| (\d+) \| \[(.+)\]\((\S+\.md)\) \| .+ \|$", (DECISIONS / "README.md").read_text(), re.MULTILINE
    )
    pages = sorted(path.name for path in DECISIONS.glob("[0-9]*.md"))
    assert [file for _, _, file in rows] == pages
    for number, title, file in rows:
        assert int(file[:4]) == int(number)
        assert (DECISIONS / file).read_text().startswith(f"# {number}. {title}\n")


def test_the_walks_and_the_five_questions_are_answered() -> None:
    text = ARCHITECTURE.read_text()
    for walk in ("Produce, with acks=all", "Fetch", "JoinGroup", "EndTxn"):
        assert f"### {walk}\n" in text
    for question in (
        "What a full disk does",
        "The sticky assignor of classic groups",
        "A new config",
        "How a heartbeat is answered",
        "What a dead letter carries",
    ):
        answer = text.split(f"**{question}.**")[1].split("\n\n**")[0]
        assert len(named_code(answer)) >= 2, question


def test_each_way_to_grow_has_its_steps() -> None:
    """In numbered steps, with the files where they happen."""
    for what in ("an API", "a coordinator, or any state that must survive", "a plane"):
        recipe = ARCHITECTURE.read_text().split(f"### … {what}\n")[1].split("\n### ")[0]
        steps = re.split(r"^\d+\. ", recipe, flags=re.MULTILINE)[1:]
        assert len(steps) >= 6, what
        assert sum(1 for step in steps if named_code(step)) >= len(steps) - 1, what


def test_each_folder_is_among_the_layers() -> None:
    layers = ARCHITECTURE.read_text().split("```text\n")[1].split("```")[0]
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders - set(re.findall(r"(?:^|│) *([a-z]+)/", layers, re.MULTILINE)) == set()
