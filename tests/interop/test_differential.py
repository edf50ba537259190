"""A real Apache Kafka and Headwater are asked the same, in every version that both have; their answers must be the same.

Once by a script that asks for everything, and then by generated sequences: TEST_WALKS of each kind.
"""

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase

import pytest

from headwater.protocol.apis import ApiKey
from headwater.protocol.messages.api_versions import ApiVersionsRequest
from headwater.protocol.messages.find_coordinator import FindCoordinatorRequest

from .differential.admin_walk import AdminWalk
from .differential.group_walk import ClassicGroupWalk, ConsumerGroupWalk
from .differential.log_walk import LogWalk
from .differential.script import script
from .differential.side import Side, differences, run_step
from .differential.transaction_walk import TransactionWalk
from .differential.walks import Walk
from .exceptions import HERE
from .servers import HeadwaterServer

TOPICS = ("t", "x", "a.b")
COMPARISONS_MIN = 700
WALKS = int(os.environ.get("TEST_WALKS", "300" if os.environ.get("TEST_INTEROP") == "full" else "30"))
STEPS = 50
Expected = list[tuple[str, str]]


def expected_differences(name: str) -> Expected:
    """(pattern of a step, beginning of a difference) of what may differ."""
    lines = (HERE / name).read_text().splitlines()
    parts = (line.split(": ", 2) for line in lines if line and not line.startswith("#"))
    return [(step, path.replace(" = ", ": ")) for step, path, _ in parts]


def match(expected: Expected, step: str, difference: str) -> tuple[str, str] | None:
    return next((e for e in expected if fnmatchcase(step, e[0]) and difference.startswith(e[1])), None)


@pytest.fixture
def sides(kafka: str, headwater: HeadwaterServer) -> Iterator[tuple[Side, Side]]:
    made = Side(kafka), Side(headwater.address)
    for side in made:
        side.wait_for_coordinators()
    yield made
    for side in made:
        side.close()


@pytest.mark.timeout(300)
def test_answers_are_kafkas(sides: tuple[Side, Side]) -> None:
    for side in sides:
        for topic in TOPICS:
            side.topic(topic)
    found, compared, used = [], 0, set()
    expected = expected_differences("differential.txt")
    for step in script():
        for version, one, other in run_step(step, sides):
            compared += 1
            for difference in differences(one, other):
                known = match(expected, step.name, difference)
                if known is None:
                    found.append(f"{step.name}, version {version}: {difference}")
                else:
                    used.add(known)
    assert found == []
    assert compared >= COMPARISONS_MIN
    assert used == set(expected)  # the list says nothing that is not so


@pytest.mark.parametrize("version", [3, 4, 5])
def test_features_that_begin_at_zero_are_shown_as_in_kafka(sides: tuple[Side, Side], version: int) -> None:
    ask, told = ApiVersionsRequest("differential", "1"), []
    for side in sides:
        features = side.wire.call(ApiKey.API_VERSIONS, version, ask).supported_features
        told.append({feature.min_version == 0 for feature in features})
    assert told[0] == told[1]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_single_coordinator_comes_with_kafkas_message(sides: tuple[Side, Side], version: int) -> None:
    ask = FindCoordinatorRequest("g", 0)
    one, other = (side.wire.call(ApiKey.FIND_COORDINATOR, version, ask).error_message for side in sides)
    assert one == other == "NONE"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", [LogWalk, TransactionWalk, ClassicGroupWalk, ConsumerGroupWalk, AdminWalk])
def test_generated_sequences_get_kafkas_answers(sides: tuple[Side, Side], kind: type[Walk]) -> None:
    expected = expected_differences("walks.txt")
    compared, walks = 0, max(1, int(WALKS * kind.share))
    for number in range(walks):
        walk = kind(f"{kind.__name__}-{number}")
        for side in sides:
            for topic in walk.topics:
                side.topic(topic, walk.partitions)
        compared += take(walk, sides, expected)
    assert compared >= walks * STEPS * 0.8  # the others ended where brokers may choose


def take(walk: Walk, sides: tuple[Side, Side], expected: Expected) -> int:
    """Makes a walk; returns how many answers were compared. Fails with what led to the first difference."""
    trail = []
    for _ in range(STEPS):
        step = walk.next_step()
        trail.append(step.name)
        for _, one, other in run_step(step, sides):
            found = [
                difference
                for difference in differences(walk.compared(one), walk.compared(other))
                if match(expected, step.name, difference) is None
            ]
            if any(map(walk.is_choice, found)):
                return len(trail)
            assert found == [], "\n".join(trail)
        for side in sides:
            walk.settle(side)
    return len(trail)
