"""Tables for people: two blanks between columns, numbers right-aligned, long texts on several lines.

On a terminal a table is as wide as the terminal. In a pipe or a file it is as wide as it needs to be, with a row on one
line, so that other tools can read it.
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

GAP = "  "
COLUMN_WIDTH_MIN = 8
BOLD, PLAIN = "\033[1m", "\033[0m"


def terminal_width(stream: TextIO) -> int | None:
    """The width of the terminal; None if the width is not limited."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def has_colour(stream: TextIO) -> bool:
    """Whether to use colours, following https://no-color.org."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def table(rows: Sequence[Mapping[str, Any]], width: int | None, *, colour: bool = False) -> Iterator[str]:
    """The lines of a table with a header. All rows have the keys of the first."""
    head = list(rows[0])
    cells = [["-" if row[key] is None else cell_text(row[key]) for key in head] for row in rows]
    numeric = [
        all(isinstance(row[key], int | float | None) and not isinstance(row[key], bool) for row in rows) for key in head
    ]
    widths = [max(len(row[n]) for row in [head, *cells]) for n in range(len(head))]
    if width is not None:
        narrow(widths, width)
    for line in row_lines(head, widths, numeric):
        yield f"{BOLD}{line}{PLAIN}" if colour else line
    yield GAP.join("─" * one for one in widths)
    for row in cells:
        yield from row_lines(row, widths, numeric)


def cell_text(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def narrow(widths: list[int], width: int) -> None:
    """Narrows the widest column until the table fits, or no column can be narrower."""
    room = width - len(GAP) * (len(widths) - 1)
    while sum(widths) > room and max(widths) > COLUMN_WIDTH_MIN:
        widths[widths.index(max(widths))] -= 1


def row_lines(row: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> Iterator[str]:
    """The lines of a row: several if a text is longer than its column is wide."""
    parts = [[text[n : n + size] for n in range(0, len(text), size)] for text, size in zip(row, widths, strict=True)]
    for number in range(max(map(len, parts))):
        line = [part[number] if number < len(part) else "" for part in parts]
        aligned = [
            text.rjust(size) if right else text.ljust(size)
            for text, size, right in zip(line, widths, numeric, strict=True)
        ]
        yield GAP.join(aligned).rstrip()
