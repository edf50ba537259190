"""Random damage to a data directory: it is named or harmless, never served as good, and nothing of others is touched.

Each seed flips bits in, cuts or empties some of the files of a stopped broker, in either way of stopping. Then a broker starts
on it, and all that it serves is compared with what was written (`tests/broker/damaging.py`). The seeds are new in each run;
a failure prints its own, and TEST_SEED repeats it. TEST_SEEDS says how many there are.
"""

import os
from functools import cache
from random import Random, SystemRandom

import pytest

from headwater.effects.files import read_file
from headwater.effects.memory_files import MemoryFiles
from tests.broker.damaging import FOREIGN, Written, build, flip, outcome, tree

GIVEN = os.environ.get("TEST_SEED")
SEEDS = 1 if GIVEN else max(1, int(os.environ.get("TEST_SEEDS", "60")) // 4)
FIRST = int(GIVEN) if GIVEN else SystemRandom().randrange(1 << 48)
CHUNK = 50
JOURNAL_USED_BYTES = 24_000  # of it; the rest is zeros


@cache
def written(*, clean: bool) -> Written:
    return build(clean=clean)


def damage(random: Random, files: MemoryFiles) -> str:
    """Damages one file; says how."""
    path = random.choice([path for path in tree(files) if path not in FOREIGN])
    size = min(len(read_file(files, path)), JOURNAL_USED_BYTES)
    how = random.choice(("flip", "flip", "flip", "cut", "zeros"))
    if not size:
        return f"{path} is empty"
    position = random.randrange(size)
    match how:
        case "flip":
            bit = random.randrange(8)
            flip(files, path, position, bit)
            return f"{path}: bit {bit} of byte {position} flipped"
        case "cut":
            files.open(path).truncate(position)
            return f"{path}: cut at {position}"
        case _:
            length = random.randint(1, min(512, size - position))
            files.open(path).write([bytes(length)], position)
            return f"{path}: {length} bytes from {position} on are zeros"


def run(seed: int) -> None:
    random = Random(seed)
    before = written(clean=random.random() < 0.5)
    files = before.copy()
    done = damage(random, files)
    try:
        outcome(before, files)
    except BaseException as error:
        raise AssertionError(f"TEST_SEED={seed}: {done}: {type(error).__name__}: {error}") from error


@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_damage_is_named_or_harmless(first: int) -> None:
    for n in range(first, min(first + CHUNK, SEEDS)):
        run(FIRST + n)
