"""A real Apache Kafka and Headwater are asked the same, in every version that both have; their answers must be the same."""

import pytest

from .differential import Side, differences, run_step, script
from .exceptions import HERE
from .servers import HeadwaterServer

TOPICS = ("t", "x", "a.b")
COMPARISONS_MIN = 700


def expected_differences() -> list[tuple[str, str]]:
    """(step, beginning of a path) of what may differ."""
    lines = (HERE / "differential.txt").read_text().splitlines()
    parts = (line.split(": ", 2) for line in lines if line and not line.startswith("#"))
    return [(step, path) for step, path, _ in parts]


@pytest.mark.timeout(300)
def test_answers_are_kafkas(kafka: str, headwater: HeadwaterServer) -> None:
    sides = Side(kafka), Side(headwater.address)
    for side in sides:
        side.wait_for_coordinators()
        for topic in TOPICS:
            side.topic(topic)
    found, compared, used = [], 0, set()
    expected = expected_differences()
    for step in script():
        for version, one, other in run_step(step, sides):
            compared += 1
            for difference in differences(one, other):
                match = next((e for e in expected if e[0] == step.name and difference.startswith(e[1])), None)
                if match is None:
                    found.append(f"{step.name}, version {version}: {difference}")
                else:
                    used.add(match)
    for side in sides:
        side.wire.socket.close()
    assert found == []
    assert compared >= COMPARISONS_MIN
    assert used == set(expected)  # the list says nothing that is not so
