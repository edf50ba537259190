"""What `headwater doctor` finds and mends, for every kind of file and of damage (`test_damage_matrix.py`)."""

import logging
import re

import pytest

from headwater.broker.doctor import DAMAGE, NOTICE, REBUILT, Doctor, Examination
from headwater.effects import logs
from headwater.effects.clock import ManualClock
from headwater.effects.entropy import SeededEntropy
from headwater.effects.files import File, read_file, write_file
from headwater.effects.memory_files import MemoryFiles
from headwater.storage.checkpoints import META_CHECKSUM, RECOVERY_POINTS
from headwater.storage.mending import Mended
from tests.broker.damaging import Partition, Written, flip, outcome, tree
from tests.broker.test_damage_matrix import HOWS, KINDS, cases, written

RANGE = re.compile(r"offsets (\d+) to (\d+)")
DIRECTORY = re.compile(r"data/(.+)-([0-9]+)/")


def doctor(files: MemoryFiles) -> Doctor:
    spills = MemoryFiles()
    numbers = iter(range(10_000))

    def spill() -> File:
        return spills.open(f"{next(numbers)}", create=True)

    return Doctor(files, "data", spill, ManualClock(), SeededEntropy(3))


def contents(files: MemoryFiles) -> dict[str, bytes]:
    return {path: read_file(files, path) for path in tree(files)}


def given_up(done: list[Mended]) -> dict[Partition, set[int]]:
    """The offsets that were given up, by partition."""
    found: dict[Partition, set[int]] = {}
    for mended in done:
        match, offsets = DIRECTORY.match(mended.path), RANGE.search(mended.words)
        if not mended.is_lossless:
            assert match
            assert offsets
            lost = found.setdefault((match[1], int(match[2])), set())
            lost.update(range(int(offsets[1]), int(offsets[2]) + 1))
    return found


def check(before: Written, files: MemoryFiles, *, is_metadata: bool) -> Examination:
    """Examines and mends; nothing may be changed by looking, and afterwards all is served, or named."""
    as_it_was = contents(files)
    found = doctor(files).examine()
    overlay, done, left = doctor(files).mend(found)
    assert contents(files) == as_it_was
    changed = overlay.changed_paths()
    overlay.commit()
    now = contents(files)
    assert {path for path, content in as_it_was.items() if now.get(path) != content} <= set(changed)
    assert all(path not in before.foreign for path in changed)
    again = doctor(files).examine()
    assert [f.what for f in again.damages] == [f.what for f in left.damages]
    ended = outcome(before, files, given_up(done))
    if ended == "refused":
        assert is_metadata
        assert left.damages
    return found


def damaged(kind: str, how: str) -> tuple[Written, MemoryFiles, str]:
    clean, path, position = cases(kind, how)[0]
    before = written(clean=clean)
    files = before.copy()
    if how == "flip":
        flip(files, path, position, position % 8)
    else:
        HOWS[how](files, path)
    return before, files, f"{path} after {'a clean' if clean else 'an unclean'} stop, {how} at {position}"


@pytest.mark.parametrize("how", [*HOWS, "flip"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_case_of_the_matrix_is_served_or_named_after_a_repair(kind: str, how: str) -> None:
    before, files, case = damaged(kind, how)
    try:
        check(before, files, is_metadata="metadata" in kind or kind == "journal")
    except BaseException as error:
        raise AssertionError(f"{case}: {error!r}") from error


@pytest.mark.parametrize("clean", [True, False])
def test_a_whole_directory_is_whole(clean: bool) -> None:
    files = written(clean=clean).copy()
    found = doctor(files).examine()
    assert found.is_whole
    assert {finding.kind for finding in found.findings} <= {NOTICE}
    assert found.logs >= 7
    assert found.checked_bytes > 10_000


LOG = "data/orders-0/00000000000000000000.log"


def test_a_flipped_bit_is_flipped_back() -> None:
    before = written(clean=True)
    size = len(read_file(before.files, LOG))
    for position in range(0, size, 7):
        files = before.copy()
        flip(files, LOG, position, position % 8)
        found = doctor(files).examine()
        (finding,) = found.damages
        assert (finding.path, finding.topic, finding.partition) == (LOG, "orders", 0)
        overlay, done, left = doctor(files).mend(found)
        assert [mended.is_lossless for mended in done] == [True]
        assert left.is_whole
        overlay.commit()
        assert read_file(files, LOG) == read_file(before.files, LOG), position


def test_what_cannot_be_brought_back_is_given_up_and_the_rest_is_served() -> None:
    before = written(clean=True)
    files = before.copy()
    files.open(LOG).write([b"\xff" * 40], 100)
    found = doctor(files).examine()
    (finding,) = found.damages
    assert (finding.first_offset, finding.last_offset) == (0, 2)
    assert "KAFKA_STORAGE_ERROR" in finding.broker
    overlay, done, left = doctor(files).mend(found)
    assert not left.damages
    assert overlay.changed_paths() == [
        LOG.replace(".log", suffix) for suffix in (".index", ".log", ".sums", ".timeindex")
    ]
    overlay.commit()
    assert outcome(before, files, given_up(done)) == "damaged"
    assert given_up(done) == {("orders", 0): {0, 1, 2}}


def test_metadata_is_brought_back_or_left_alone() -> None:
    before = written(clean=True)
    path = "data/__cluster_metadata-0/00000000000000000000.log"
    files = before.copy()
    flip(files, path, 80, 3)
    overlay, done, left = doctor(files).mend(doctor(files).examine())
    assert [mended.is_lossless for mended in done] == [True]
    assert left.is_whole
    files.open(path).write([bytes(30)], 80)
    overlay, done, left = doctor(files).mend(doctor(files).examine())
    assert done == []
    assert overlay.changed_paths() == []
    assert [(f.kind, f.broker) for f in left.damages] == [(DAMAGE, "does not start")]


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("how", ["missing", "empty", "foreign and short"])
def test_aborted_transactions_stay_aborted_and_committed_ones_committed(how: str, clean: bool) -> None:
    """Also where a transaction's marker is given up: consumers leave out what its producer writes until they meet it."""
    before = written(clean=clean)
    for path in (path for path in tree(before.files) if re.fullmatch(r"data/paid-0/[0-9]+\.log", path)):
        files = before.copy()
        HOWS[how](files, path)
        check(before, files, is_metadata=False)


@pytest.mark.parametrize("topic", ["__consumer_offsets", "__transaction_state"])
def test_the_state_of_groups_and_transactions_is_given_up_where_it_has_to_be(topic: str) -> None:
    before = written(clean=True)
    files = before.copy()
    path = f"data/{topic}-0/00000000000000000000.log"
    files.open(path).write([bytes(30)], 70)
    found = doctor(files).examine()
    broker = {"__consumer_offsets": "COORDINATOR_NOT_AVAILABLE", "__transaction_state": "does not start"}
    (finding,) = found.damages
    assert broker[topic] in finding.broker
    overlay, done, left = doctor(files).mend(found)
    assert [mended.is_lossless for mended in done] == [False]
    assert not left.damages
    overlay.commit()
    assert outcome(before, files, given_up(done)) in ("rebuilt", "damaged")


@pytest.mark.parametrize("name", [RECOVERY_POINTS, "meta.properties"])
def test_a_damaged_file_with_a_whole_copy_is_rebuilt_and_nothing_is_lost(name: str) -> None:
    files = written(clean=True).copy()
    flip(files, f"data/{name}", len(read_file(files, f"data/{name}")) // 2, 0)
    found = [finding for finding in doctor(files).examine().findings if name in finding.path]
    assert [finding.kind for finding in found] == [REBUILT], found


@pytest.mark.parametrize(("extra", "kind"), [(logs.REBUILT, REBUILT), (None, NOTICE)])
def test_a_line_says_by_a_value_that_something_is_rebuilt_and_not_by_its_words(
    extra: dict[str, bool] | None, kind: str
) -> None:
    with logs.LogLines() as lines:
        logging.getLogger("headwater.broker").warning("data/x is damaged: rebuilding it", extra=extra)
    found = Examination()
    doctor(written(clean=True).copy()).add_line(lines.records[0], found)
    assert [finding.kind for finding in found.findings] == [kind]


def test_properties_without_their_checksum_are_rebuilt() -> None:
    files = written(clean=True).copy()
    lines = read_file(files, "data/meta.properties").decode().splitlines(keepends=True)
    write_file(files, "data/meta.properties", "".join(x for x in lines if META_CHECKSUM not in x).encode())
    found = [finding for finding in doctor(files).examine().findings if "meta.properties" in finding.path]
    assert [finding.kind for finding in found] == [REBUILT], found
