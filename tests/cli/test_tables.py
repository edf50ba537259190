"""Tables at the widths that people have."""

import io
from typing import Any

import pytest

from headwater.cli.tables import has_colour, table

ROWS: list[dict[str, Any]] = [
    {"topic": "orders", "partition": 0, "lag": None, "member": "headwater-" + "0123456789" * 6, "active": True},
    {"topic": "payments", "partition": 11, "lag": 25, "member": "-", "active": False},
]


def test_a_pipe_has_each_row_on_a_line() -> None:
    lines = list(table(ROWS, None))
    assert len(lines) == 4
    assert lines[0].split() == ["topic", "partition", "lag", "member", "active"]
    assert lines[3] == f"{'payments'}  {'11':>9}  {'25':>3}  {'-':70}  no"


@pytest.mark.parametrize("width", [60, 80, 160])
def test_a_terminal_is_not_exceeded_and_nothing_is_lost(width: int) -> None:
    lines = list(table(ROWS, width))
    assert max(map(len, lines)) <= width
    start = lines[0].index("member")
    end = lines[0].index("active") - 2
    member = "".join(line[start:end].strip() for line in lines[2:-1])
    assert member == ROWS[0]["member"]
    assert len(lines) == {60: 6, 80: 5, 160: 4}[width]


def test_a_table_that_cannot_fit_keeps_its_columns() -> None:
    assert max(map(len, table(ROWS, 10))) > 10


def test_only_the_head_is_bold() -> None:
    lines = list(table(ROWS, None, colour=True))
    assert lines[0].startswith("\033[1mtopic")
    assert not any("\033" in line for line in lines[1:])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert has_colour(Terminal())
    assert not has_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not has_colour(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not has_colour(Terminal())
