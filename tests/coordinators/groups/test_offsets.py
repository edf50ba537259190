"""Committed offsets alone, without a broker: commit, pending, removal, expiry, and a model that any history agrees with."""

import errno
import operator
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.coordinators.groups.classic.group import Group, GroupState, Member
from headwater.coordinators.groups.offsets import Commit, Offsets, TopicPartition
from headwater.coordinators.groups.records import CommittedOffset, group_record, offset_record
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ProtocolError
from headwater.replay.decision import Decision, Runtime
from headwater.replay.deferred import Deferred
from headwater.replay.state_record import StateRecord
from tests.replay.state_log import MemoryStateLog

NOW_MS, RETENTION_MS = 1_700_000_000_000, 1_000
METADATA_BYTES_MAX = 4


class Scene:
    """Offsets on a disk of their own."""

    def __init__(self) -> None:
        self.offsets = Offsets(METADATA_BYTES_MAX)
        self.log: MemoryStateLog[StateRecord] = MemoryStateLog()
        self.runtime = Runtime(self.offsets, self.log)

    def commit(self, group_id: str, commits: list[Commit], producer_id: int = -1) -> object:
        records, errors = self.offsets.commit(group_id, commits, NOW_MS)
        pending = [record._replace(producer_id=producer_id, producer_epoch=0) for record in records]
        return self.runtime.carry_out(group_id, Decision(pending, errors))

    def remove(self, group_id: str, keys: list[TopicPartition]) -> None:
        self.runtime.apply(group_id, self.offsets.removal(group_id, keys))

    def fetch(self, partition: int = 0, group_id: str = "g") -> int:
        return self.offsets.fetch(group_id, "t", partition).offset


def test_a_commit_is_there_at_once_and_answered_when_it_is_on_disk() -> None:
    scene = Scene()
    answer = scene.commit("g", [Commit("t", 0, 5, 2, "note")])
    assert isinstance(answer, Deferred)
    assert not answer.done
    assert scene.offsets.fetch("g", "t", 0) == CommittedOffset(5, 2, "note", NOW_MS)
    scene.log.sync()
    assert answer.answer == {("t", 0): ErrorCode.NONE}


def test_of_a_commit_only_what_is_too_large_is_refused() -> None:
    scene = Scene()
    answer = scene.commit("g", [Commit("t", 0, 5, 2, "é" * 3), Commit("t", 1, 6, 2, "é" * 2)])
    scene.log.sync()
    assert isinstance(answer, Deferred)
    assert answer.answer == {("t", 0): ErrorCode.OFFSET_METADATA_TOO_LARGE, ("t", 1): ErrorCode.NONE}
    assert (scene.fetch(0), scene.fetch(1)) == (-1, 6)


@pytest.mark.parametrize("producer_id", [-1, 7])
def test_a_commit_that_cannot_be_written_leaves_what_was_there(producer_id: int) -> None:
    scene = Scene()
    scene.commit("g", [Commit("t", 0, 5, 2, None)])
    before = state_of(scene.offsets)
    scene.log.error = OSError(errno.ENOSPC, "the disk is full")
    with pytest.raises(OSError, match="the disk is full"):
        scene.commit("g", [Commit("t", 0, 6, 2, None), Commit("t", 1, 6, 2, None)], producer_id)
    with pytest.raises(OSError, match="the disk is full"):
        scene.remove("g", [("t", 0)])
    assert state_of(scene.offsets) == before
    scene.log.error = None
    scene.commit("g", [Commit("t", 0, 6, 2, None)], producer_id)
    scene.offsets.end_transaction(producer_id, lambda group_id: True, commit=True)
    assert scene.fetch() == 6


@pytest.mark.parametrize(("commit", "offset"), [(True, 9), (False, 5)])
def test_a_commit_in_a_transaction_counts_when_that_is_committed(commit: bool, offset: int) -> None:
    scene = Scene()
    scene.commit("g", [Commit("t", 0, 5, 2, None)])
    scene.commit("g", [Commit("t", 0, 9, 2, None)], producer_id=7)
    assert scene.fetch() == 5
    assert scene.offsets.is_pending("g", "t", 0)
    assert scene.offsets.end_transaction(7, lambda group_id: False, commit=True) == set()  # of another partition
    assert scene.offsets.is_pending("g", "t", 0)
    assert scene.offsets.end_transaction(7, lambda group_id: True, commit=commit) == {"g"}
    assert (scene.fetch(), scene.offsets.pending) == (offset, {})
    assert not scene.offsets.is_pending("g", "t", 0)


def test_the_later_of_two_commits_counts_whenever_its_transaction_ends() -> None:
    scene = Scene()
    scene.commit("g", [Commit("t", 0, 9, 2, None)], producer_id=7)
    scene.commit("g", [Commit("t", 0, 8, 2, None)], producer_id=8)
    scene.commit("g", [Commit("t", 0, 5, 2, None)])
    scene.commit("g", [Commit("t", 0, 6, 2, None)], producer_id=7)
    for producer_id, offset in ((8, 5), (7, 6)):
        scene.offsets.end_transaction(producer_id, lambda group_id: True, commit=True)
        assert scene.fetch() == offset
    assert (scene.offsets.pending_at, scene.offsets.committed_at) == ({}, {})


def test_of_two_transactions_the_one_that_spoke_last_counts() -> None:
    scene = Scene()
    scene.commit("g", [Commit("t", 0, 9, 2, None)], producer_id=7)
    scene.commit("g", [Commit("t", 0, 8, 2, None)], producer_id=8)
    for producer_id in (8, 7):
        scene.offsets.end_transaction(producer_id, lambda group_id: True, commit=True)
        assert scene.fetch() == 8


def test_a_removed_offset_does_not_come_back_with_a_transaction() -> None:
    scene = Scene()
    scene.commit("g", [Commit("t", n, 9, 2, None) for n in range(2)], producer_id=7)
    assert scene.offsets.all_keys("g") == [("t", 0), ("t", 1)]
    scene.remove("g", [("t", 0)])
    scene.offsets.end_transaction(7, lambda group_id: True, commit=True)
    assert [scene.fetch(n) for n in range(2)] == [-1, 9]


def test_the_name_of_a_group_without_offsets_is_known_until_it_is_forgotten() -> None:
    scene = Scene()
    scene.commit("g", [Commit("t", 0, 9, 2, None)], producer_id=7)
    assert scene.offsets.names == {"g"}
    scene.offsets.end_transaction(7, lambda group_id: True, commit=False)
    assert scene.offsets.names == {"g"}
    scene.offsets.forget("g")
    assert scene.offsets.names == set()
    scene.commit("g", [Commit("t", 0, 9, 2, None)])
    scene.offsets.forget("g")  # a group of the other protocol has the name, and the offsets
    assert scene.offsets.names == {"g"}


def test_a_transaction_that_commits_offsets_of_a_forgotten_group_makes_it_known() -> None:
    scene = Scene()
    scene.commit("g", [Commit("t", 0, 9, 2, None)], producer_id=7)
    scene.offsets.forget("g")
    scene.offsets.end_transaction(7, lambda group_id: True, commit=True)
    assert scene.offsets.names == {"g"}


def test_a_record_of_another_machine_is_refused() -> None:
    record = group_record("g", None)
    with pytest.raises(ProtocolError, match="not one of a committed offset"):
        Offsets(METADATA_BYTES_MAX).replay(record)


# -- expiry (KIP-211)


def expired(group: Group | None, now_ms: int, **more: int) -> list[int]:
    """The partitions whose commits at NOW_MS are no longer needed."""
    scene = Scene()
    scene.commit("g", [Commit("t", 0, 5, 2, None, **more), Commit("other", 1, 5, 2, None, **more)])
    return [number for _, number in scene.offsets.expired_partitions("g", group, now_ms, RETENTION_MS)]


def stable(metadata: bytes, protocol_type: str = "consumer") -> Group:
    group = Group("g", GroupState.STABLE, protocol_type=protocol_type, protocol="range")
    group.add(Member("m", None, "", "", 1, 1, [("range", metadata)]))
    return group


SUBSCRIBES_TO_T = bytes.fromhex("0000 00000001 0001") + b"t" + bytes(4)


@pytest.mark.parametrize(
    ("group", "found"),
    [
        (None, [0, 1]),
        (Group("g", GroupState.EMPTY, NOW_MS + 1, "consumer"), []),  # empty only since then
        (Group("g", GroupState.EMPTY, NOW_MS - 1, "consumer"), [0, 1]),
        (Group("g", GroupState.EMPTY, NOW_MS + 1), [0, 1]),  # never had a member
        (stable(SUBSCRIBES_TO_T), [1]),
        (stable(b"\0"), []),  # nobody knows what it subscribes to
        (stable(SUBSCRIBES_TO_T, "connect"), []),
        (Group("g", GroupState.PREPARING_REBALANCE, 0, "consumer"), []),
    ],
)
def test_which_commits_are_no_longer_needed(group: Group | None, found: list[int]) -> None:
    assert expired(group, NOW_MS + RETENTION_MS) == found
    assert expired(group, NOW_MS + RETENTION_MS - 1) == []


def test_a_commit_may_say_itself_until_when_it_is_needed() -> None:
    """Also after a start: of the versions of its record only one has that."""
    assert expired(None, NOW_MS + 5, expire_timestamp=NOW_MS + 5) == [0, 1]
    assert expired(None, NOW_MS + RETENTION_MS, expire_timestamp=NOW_MS + RETENTION_MS + 1) == []


def test_what_a_transaction_may_move_does_not_expire() -> None:
    scene = Scene()
    scene.commit("g", [Commit("t", n, 5, 2, None) for n in range(2)])
    scene.commit("g", [Commit("t", 0, 6, 2, None)], producer_id=7)
    assert scene.offsets.expired_partitions("g", None, NOW_MS + RETENTION_MS, RETENTION_MS) == [("t", 1)]


# -- any history


class Step(NamedTuple):
    """A commit or a removal of a group's partition, by a producer or by none; or that producer's end."""

    what: str
    group_id: str
    partition: int
    producer_id: int
    offset: int


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from(["commit", "commit", "commit", "remove", "end", "abort", "break", "mend"]),
        st.sampled_from("gh"),
        st.integers(0, 1),
        st.sampled_from([-1, -1, 7, 8]),
        st.integers(0, 9),
    ),
    max_size=40,
)
Place = tuple[str, int]


class Model:
    """What each group has, and what each producer would give it: nothing but two dictionaries."""

    def __init__(self) -> None:
        self.offsets: dict[Place, int] = {}
        self.pending: dict[tuple[int, Place], int] = {}
        self.names: set[str] = set()
        self.times: dict[object, int] = {}  # when each of both was said last
        self.time = 0

    def commit(self, place: Place, offset: int, producer_id: int) -> None:
        self.names.add(place[0])
        self.time += 1
        if producer_id < 0:
            self.offsets[place], self.times[place] = offset, self.time
        else:
            self.pending[producer_id, place], self.times[producer_id, place] = offset, self.time

    def remove(self, place: Place) -> None:
        self.offsets.pop(place, None)
        self.pending = {key: offset for key, offset in self.pending.items() if key[1] != place}

    def end(self, producer_id: int, *, commit: bool) -> None:
        ended = {place: offset for (owner, place), offset in self.pending.items() if owner == producer_id}
        self.pending = {key: offset for key, offset in self.pending.items() if key[0] != producer_id}
        for place, offset in ended.items() if commit else ():
            time = self.times[producer_id, place]
            if place not in self.offsets or time > self.times[place]:
                self.offsets[place], self.times[place] = offset, time


def state_of(offsets: Offsets) -> tuple[object, ...]:
    """All that is committed and all that is pending."""
    return (
        {group_id: dict(kept) for group_id, kept in offsets.groups.items()},
        {producer_id: dict(kept) for producer_id, kept in offsets.pending.items()},
        dict(offsets.pending_counts),
        offsets.names,
        offsets.pending_at.keys(),
        offsets.committed_at.keys(),
    )


def check(scene: Scene, model: Model) -> None:
    """The machine says what the model says."""
    offsets = scene.offsets
    found = {(g, n): c.offset for g, kept in offsets.groups.items() for (_, n), c in kept.items()}
    pending = {(i, (g, n)): c.offset for i, kept in offsets.pending.items() for (g, (_, n)), c in kept.items()}
    assert (found, pending, offsets.names) == (model.offsets, model.pending, model.names)
    assert all(offsets.groups.values())
    assert all(offsets.pending.values())
    counts = Counter((g, ("t", n)) for _, (g, n) in model.pending)
    assert offsets.pending_counts == counts
    assert {(i, (g, key[1])) for i, g, key in offsets.pending_at} == model.pending.keys()
    assert offsets.committed_at.keys() <= counts.keys()
    for place in ((g, n) for g in "gh" for n in range(2)):
        assert offsets.is_pending(place[0], "t", place[1]) == any(p == place for _, p in model.pending)
        assert scene.fetch(place[1], place[0]) == model.offsets.get(place, -1)
    for group_id in "gh":
        assert offsets.awaits(group_id) == any(g == group_id for _, (g, _) in model.pending)


def act(scene: Scene, model: Model, step: Step, ends: list[tuple[int, int, bool]]) -> None:
    what, group_id, partition, producer_id, offset = step
    place = (group_id, partition)
    try:
        match what:
            case "commit":
                scene.commit(group_id, [Commit("t", partition, offset, 0, None)], producer_id)
                model.commit(place, offset, producer_id)
            case "remove":
                scene.remove(group_id, [("t", partition)])
                model.remove(place)
            case "end" | "abort":
                commit = what == "end"
                scene.offsets.end_transaction(producer_id, lambda group_id: True, commit=commit)
                model.end(producer_id, commit=commit)
                ends.append((len(scene.log.records), producer_id, commit))
            case "break":
                scene.log.error = OSError(errno.ENOSPC, "the disk is full")
            case "mend":
                scene.log.error = None
    except OSError:
        assert scene.log.error is not None


def replayed(records: list[StateRecord], ends: list[tuple[int, int, bool]]) -> Offsets:
    """What a start makes of the records, and of the markers where they lie between these."""
    offsets, everyone = Offsets(METADATA_BYTES_MAX), all_groups
    for number, record in enumerate(records):
        for _, producer_id, commit in (end for end in ends if end[0] == number):
            offsets.end_transaction(producer_id, everyone, commit=commit)
        offsets.replay(record)
    for _, producer_id, commit in (end for end in ends if end[0] >= len(records)):
        offsets.end_transaction(producer_id, everyone, commit=commit)
    return offsets


all_groups: Callable[[str], bool] = bool


@settings(max_examples=200)
@given(steps)
def test_any_history_agrees_with_the_model_and_with_its_records(script: list[Step]) -> None:
    scene, model = Scene(), Model()
    ends: list[tuple[int, int, bool]] = []
    for step in script:
        act(scene, model, step, ends)
        check(scene, model)
    assert state_of(replayed(scene.log.records, ends)) == state_of(scene.offsets)
    again = replayed(list(scene.offsets.snapshot()), [])
    assert again.groups == scene.offsets.groups
    assert again.names == scene.offsets.groups.keys()
    assert again.pending == {}
    for group_id in "gh":
        part = replayed(list(scene.offsets.snapshot(partial(operator.eq, group_id))), [])
        assert part.groups == {g: kept for g, kept in scene.offsets.groups.items() if g == group_id}


def test_the_removal_of_what_is_not_there_is_no_change() -> None:
    scene = Scene()
    assert scene.offsets.removal("g", [("t", 0)]) == []
    scene.offsets.replay(offset_record("g", "t", 0, None))  # of a log of which compaction has left only the removal
    assert state_of(scene.offsets) == ({}, {}, {}, set(), set(), set())
