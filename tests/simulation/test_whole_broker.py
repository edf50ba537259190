"""The whole broker, its clients, network, disk and clock from one seed; what the clients saw is judged (headwater.testing.simulate).

TEST_SEEDS says how many seeds are run, from TEST_FIRST_SEED on; with TEST_FIRST_SEED=new they are drawn. A failure names its seed,
and TEST_SEED=n runs that one again, the same to the byte.
"""

import os
import subprocess
import sys
from random import SystemRandom

import pytest

from headwater.testing.simulate.simulation import Result, Simulation, simulate

SEEDS = int(os.environ.get("TEST_SEEDS", "6"))
ONLY = os.environ.get("TEST_SEED")
FIRST = os.environ.get("TEST_FIRST_SEED", "0")
CHUNK = 3
DETERMINISTIC_SEED = 5


def run(seed: int) -> Result:
    try:
        return simulate(seed)
    except Exception as error:
        raise AssertionError(f"TEST_SEED={seed}: {error!r}") from error


def seeds_of(chunk: int) -> list[int]:
    numbers = range(chunk * CHUNK, min(SEEDS, (chunk + 1) * CHUNK))
    return [SystemRandom().getrandbits(40) if FIRST == "new" else int(FIRST) + number for number in numbers]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("chunk", range(1 if ONLY else -(-SEEDS // CHUNK)))
def test_no_seed_finds_anything(chunk: int) -> None:
    for seed in [int(ONLY)] if ONLY else seeds_of(chunk):
        result = run(seed)
        assert result.findings == [], f"TEST_SEED={seed}"


def test_a_run_is_worth_its_name() -> None:
    """Over a few seeds everything happens that is to happen."""
    results = [run(seed) for seed in (1, 5, 10)]
    assert all(result.operations >= 1000 for result in results)
    assert all(result.simulated_ms >= 60_000 for result in results)
    assert sum(result.crash_states for result in results) >= 6
    assert sum(result.kills for result in results) >= 1
    assert sum(result.routed_requests for result in results) >= 100
    kinds = {type(operation).__name__ for result in results for operation in result.history.operations}
    assert kinds == {
        "CommitOffset",
        "DeleteRecords",
        "DeleteTopic",
        "EndTransaction",
        "FetchOffset",
        "LookUp",
        "Poll",
        "Send",
    }


def test_a_seed_gives_the_same_run_in_every_process() -> None:
    """Also where the order of sets is another one."""
    program = (
        f"from headwater.testing.simulate.simulation import simulate; print(simulate({DETERMINISTIC_SEED}).transcript)"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert found[0] == found[1] == run(DETERMINISTIC_SEED).transcript + "\n"


def test_other_seeds_give_other_runs() -> None:
    worlds = [Simulation(seed).world for seed in range(2)]
    assert worlds[0].random.random() != worlds[1].random.random()
