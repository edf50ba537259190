"""Diagrams are read as they are drawn."""

from tests.replay.diagrams import transitions

DIAGRAM = """A machine.

    Empty ──a, b──▶ Full ──c──▶ Gone
    Full, Gone ──d──▶ Empty

Full is not empty.
"""


def test_each_arrow_is_a_transition() -> None:
    expected = {("Empty", "Full"), ("Full", "Gone"), ("Full", "Empty"), ("Gone", "Empty")}
    assert transitions(DIAGRAM) == expected
    assert transitions(None) == set()
