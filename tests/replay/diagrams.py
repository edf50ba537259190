"""State diagrams in module docstrings, read as tables: `A ──why──▶ B ──why──▶ C`, or `A, B ──why──▶ C`."""

import re
from itertools import pairwise

ARROW = re.compile(r"\s*──[^▶]*──▶\s*")


def transitions(docstring: str | None) -> set[tuple[str, str]]:
    """Every (from, to) that a diagram has."""
    found = set()
    for line in (docstring or "").splitlines():
        places = [place.split(", ") for place in ARROW.split(line.strip())]
        for befores, afters in pairwise(places):
            found |= {(before, after) for before in befores for after in afters}
    return found
