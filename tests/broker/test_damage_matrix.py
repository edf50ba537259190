"""Every kind of file in a data directory, damaged in every way, after either kind of stop.

Each case ends in one of: "whole" (all is served), "rebuilt" (all is served, and the log says what was wrong), "damaged" (what
is missing is named, all else is served), "refused" (what decides over everything is damaged; the start names it and
changes nothing). `damaging.Check` looks at it. Each run draws cases of each cell; TEST_DAMAGE_FULL takes all of them.
"""

import os
import re
from collections.abc import Callable
from functools import cache
from random import SystemRandom

import pytest

from headwater.effects.files import read_file
from headwater.effects.memory_files import MemoryFiles
from tests.broker.damaging import FOREIGN, Written, build, flip, outcome, places, put, tree

WHOLE, REBUILT, DAMAGED, REFUSED = "whole", "rebuilt", "damaged", "refused"
SERVED = {WHOLE, REBUILT}
NAMED = {*SERVED, DAMAGED}
DECISIVE = {*SERVED, REFUSED}
DATA, STATE = "(orders|paid|state|late)-[0-9]", "(__cluster_metadata|__transaction_state)-0"
LOGS = f"({DATA}|{STATE}|__consumer_offsets-0)"

KINDS: dict[str, tuple[str, set[str]]] = {  # a kind of file, what its path is like, and how it may end
    "segment": (rf"{DATA}/[0-9]+\.log", NAMED),
    "index": (rf"{LOGS}/[0-9]+\.index", SERVED),
    "time index": (rf"{LOGS}/[0-9]+\.timeindex", SERVED),
    "transaction index": (rf"{LOGS}/[0-9]+\.txnindex", SERVED),
    "snapshot": (rf"{LOGS}/[0-9]+\.snapshot", SERVED),
    "sums": (rf"{LOGS}/[0-9]+\.sums", SERVED),
    "leader epochs": (rf"{LOGS}/leader-epoch-checkpoint", SERVED),
    "leader epochs' copy": (rf"{LOGS}/leader-epoch-checkpoint\.copy", SERVED),
    "partition.metadata": (rf"{LOGS}/partition\.metadata", SERVED),
    "groups": (r"__consumer_offsets-0/[0-9]+\.log", NAMED),
    "metadata and transactions": (rf"{STATE}/[0-9]+\.log", DECISIVE),
    "journal": (r"journal/[0-9]\.journal", {*NAMED, REFUSED}),
    "recovery points": (r"recovery-point-by-topic-id-checkpoint", SERVED),
    "recovery points' copy": (r"recovery-point-by-topic-id-checkpoint\.copy", SERVED),
    "log starts": (r"log-start-by-topic-id-checkpoint(\.copy)?", SERVED),
    "clean offsets": (r"cleaner-offset-by-topic-id-checkpoint(\.copy)?", SERVED),
    "meta.properties": (r"meta\.properties(\.copy)?", SERVED),
    "marks and locks": (r"\.(cleaner\.)?lock|\.kafka_cleanshutdown|\.failed-sync", SERVED),
    "copies of a compaction": (r"orders-1/\.cleaning/[0-9]+\.log", SERVED),
    "deleted topics": (r"0\.1f-gone-delete/.*", SERVED),
    "strays": (r"lost-0(\.[^/]*-stray)?/.*", SERVED),
    "foreign": ("|".join(re.escape(path.removeprefix("data/")) for path in FOREIGN), SERVED),
}
IS_FULL = "TEST_DAMAGE_FULL" in os.environ  # all of them: minutes
CASES = max(1, int(os.environ.get("TEST_SEEDS", "60")) // 500)  # of each cell
RANDOM = SystemRandom()
TEXT = b"Dear diary, today somebody put this into the wrong directory.\n"
Damage = Callable[[MemoryFiles, str], None]


def cut(files: MemoryFiles, path: str) -> None:
    size = len(read_file(files, path))
    files.open(path).truncate(size - size // 3)


HOWS: dict[str, Damage] = {
    "cut": cut,
    "empty": lambda files, path: files.open(path).truncate(0),
    "missing": lambda files, path: files.remove(path),
    "foreign content": lambda files, path: put(files, path, TEXT * (1 + len(read_file(files, path)) // len(TEXT))),
    "foreign and short": lambda files, path: put(files, path, b"mine"),
}


@cache
def written(*, clean: bool) -> Written:
    return build(clean=clean)


def paths(kind: str, *, clean: bool) -> list[str]:
    pattern = re.compile("data/(?:" + KINDS[kind][0] + ")")
    return [path for path in tree(written(clean=clean).files) if pattern.fullmatch(path)]


def test_every_file_is_of_one_kind() -> None:
    for clean in (True, False):
        found = [path for kind in KINDS for path in paths(kind, clean=clean)]
        assert sorted(found) == sorted(tree(written(clean=clean).files))


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "unclean"])
def test_undamaged(clean: bool) -> None:
    before = written(clean=clean)
    assert outcome(before, before.copy()) in SERVED


def cases(kind: str, how: str) -> list[tuple[bool, str, int]]:
    """Every case of a cell: whether the stop was clean, the file, and where a bit flips; or some of them."""
    found = []
    for clean in (True, False):
        for path in paths(kind, clean=clean):
            positions = places(len(read_file(written(clean=clean).files, path))) if how == "flip" else [0]
            found += [(clean, path, position) for position in positions]
    return found if IS_FULL else RANDOM.sample(found, min(CASES, len(found)))


@pytest.mark.parametrize("how", [*HOWS, "flip"])
@pytest.mark.parametrize("kind", KINDS)
def test_damage(kind: str, how: str) -> None:
    for clean, path, position in cases(kind, how):
        before = written(clean=clean)
        files = before.copy()
        if how == "flip":
            flip(files, path, position, position % 8)
        else:
            HOWS[how](files, path)
        try:
            found = outcome(before, files)
            assert found in KINDS[kind][1]
        except BaseException as error:
            stop = "a clean" if clean else "an unclean"
            raise AssertionError(f"{path} after {stop} stop: {how} at {position}: {error!r}") from error
