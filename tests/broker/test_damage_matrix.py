"""Every kind of file in a data directory, damaged in every way, after either kind of stop.

Each case ends in one of: "whole" (all is served), "rebuilt" (all is served, and the log says what was wrong), "damaged" (what
is missing is named, all else is served), "refused" (what decides over everything is damaged; the start names it and
changes nothing). `damaging.Check` looks at it.
"""

import re
from collections.abc import Callable
from functools import cache

import pytest

from headwater.effects.files import read_file
from headwater.effects.memory_files import MemoryFiles
from tests.broker.damaging import FOREIGN, Written, build, flip, outcome, places, put, tree

WHOLE, REBUILT, DAMAGED, REFUSED = "whole", "rebuilt", "damaged", "refused"
SERVED = {WHOLE, REBUILT}
NAMED = {*SERVED, DAMAGED}
DECISIVE = {*SERVED, REFUSED}
DATA, STATE = "(orders|paid|state)-[0-9]", "(__cluster_metadata|__transaction_state)-0"

KINDS: dict[str, tuple[str, set[str]]] = {  # a kind of file, what its path is like, and how it may end
    "segment": (rf"{DATA}/[0-9]+\.log", NAMED),
    "index": (r".*-[0-9]/[0-9]+\.index", SERVED),
    "time index": (r".*-[0-9]/[0-9]+\.timeindex", SERVED),
    "transaction index": (r".*-[0-9]/[0-9]+\.txnindex", SERVED),
    "snapshot": (r".*-[0-9]/[0-9]+\.snapshot", SERVED),
    "sums": (r".*-[0-9]/[0-9]+\.sums", SERVED),
    "leader epochs": (r".*-[0-9]/leader-epoch-checkpoint", SERVED),
    "leader epochs' copy": (r".*-[0-9]/leader-epoch-checkpoint\.copy", SERVED),
    "partition.metadata": (r".*-[0-9]/partition\.metadata", SERVED),
    "groups": (r"__consumer_offsets-0/[0-9]+\.log", NAMED),
    "metadata and transactions": (rf"{STATE}/[0-9]+\.log", DECISIVE),
    "journal": (r"journal/[01]\.journal", {*NAMED, REFUSED}),
    "recovery points": (r"recovery-point-by-topic-id-checkpoint", SERVED),
    "recovery points' copy": (r"recovery-point-by-topic-id-checkpoint\.copy", SERVED),
    "log starts": (r"log-start-by-topic-id-checkpoint(\.copy)?", SERVED),
    "clean offsets": (r"cleaner-offset-by-topic-id-checkpoint(\.copy)?", SERVED),
    "meta.properties": (r"meta\.properties(\.copy)?", SERVED),
    "locks": (r"\.(cleaner\.)?lock|\.kafka_cleanshutdown", SERVED),
    "copies of a compaction": (r"orders-1/\.cleaning/[0-9]+\.log", SERVED),
    "deleted topics": (r"0\.1f-gone-delete/.*", SERVED),
    "strays": (r"lost-0/.*", SERVED),
    "foreign": ("|".join(re.escape(path.removeprefix("data/")) for path in FOREIGN), SERVED),
}
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


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "unclean"])
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", KINDS)
def test_damage(kind: str, how: str, clean: bool) -> None:
    before = written(clean=clean)
    for path in paths(kind, clean=clean):
        files = before.copy()
        HOWS[how](files, path)
        try:
            found = outcome(before, files)
        except BaseException as error:
            raise AssertionError(f"{path} {how}: {error}") from error
        assert found in KINDS[kind][1], path


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "unclean"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit(kind: str, clean: bool) -> None:
    before = written(clean=clean)
    for path in paths(kind, clean=clean):
        for position in places(len(read_file(before.files, path))):
            files = before.copy()
            flip(files, path, position, position % 8)
            try:
                found = outcome(before, files)
            except BaseException as error:
                raise AssertionError(f"{path} at {position}: {error}") from error
            assert found in KINDS[kind][1], (path, position)
