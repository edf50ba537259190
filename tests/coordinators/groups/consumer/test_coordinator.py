"""KIP-848's groups alone, without a broker: their life, a disk that fails, crashes, and what any history leaves behind."""

import errno
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.coordinators.groups.consumer import group as consumer_group
from headwater.coordinators.groups.consumer.coordinator import ConsumerGroups
from headwater.coordinators.groups.consumer.group import (
    ConsumerGroupState,
    MemberState,
    keys_of,
    owned_keys,
)
from headwater.protocol.error_codes import ErrorCode
from headwater.replay.state_record import StateRecord
from tests.replay.diagrams import transitions

from .scene import REBALANCE_MS, SESSION_MS, Scene, settled_scene


def everything_of(groups: ConsumerGroups) -> dict[str, tuple[object, ...]]:
    """All that records say."""
    return {
        name: (
            g.epoch,
            g.metadata_hash,
            g.target_epoch,
            g.target_timestamp_ms,
            g.members,
            g.static_members,
            g.targets,
            g.expressions,
            g.owners,
        )
        for name, g in groups.groups.items()
    }


def replayed(records: list[StateRecord]) -> ConsumerGroups:
    scene = Scene()
    for record in records:
        scene.replay(record)
    return scene.groups


# -- a group's life


def test_the_first_member_gets_everything_when_that_is_on_disk() -> None:
    scene = Scene()
    client = scene.clients[0]
    assert client.beat() is None
    scene.log.sync()
    assert len(client.assigned) == 4
    assert client.epoch == scene.group.epoch == 2
    assert client.beat(says_all=False) is ErrorCode.NONE


def test_a_partition_moves_when_the_one_that_has_it_has_given_it_up() -> None:
    scene = settled_scene(1)
    first, second = scene.clients[:2]
    second.beat()
    scene.log.sync()
    assert (second.assigned, scene.member_state(second)) == (frozenset(), MemberState.UNRELEASED_PARTITIONS)
    first.beat()
    scene.log.sync()
    assert (len(first.assigned), scene.member_state(first)) == (2, MemberState.UNREVOKED_PARTITIONS)
    second.beat()
    assert second.assigned == frozenset()
    first.beat()
    second.beat()
    scene.log.sync()
    assert (len(first.assigned), len(second.assigned)) == (2, 2)
    assert not first.assigned & second.assigned


def test_a_member_that_does_not_give_up_its_partitions_in_time_is_out() -> None:
    scene = settled_scene(1)
    first, second = scene.clients[:2]
    second.beat()
    first.beat()
    for _ in range(2):
        scene.advance(REBALANCE_MS / 2 - 1)
        assert first.member_id in scene.group.members
        first.beat(says_all=False)
    scene.advance(2)
    assert list(scene.group.members) == [second.member_id]


def test_a_member_that_is_silent_is_out_when_its_session_ends() -> None:
    scene = settled_scene(2)
    first, second = scene.clients[:2]
    for _ in range(2):
        scene.advance(SESSION_MS / 2)
        first.beat(says_all=False)
    assert list(scene.group.members) == [first.member_id]
    assert second.beat() is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_static_member_comes_back_to_what_it_had() -> None:
    scene = settled_scene(4)
    static = scene.clients[3]
    had, epoch = static.assigned, scene.group.epoch
    static.leave()
    static.start_again()
    static.beat()
    scene.log.sync()
    assert (static.assigned, scene.group.epoch) == (had, epoch)


def test_the_last_to_leave_leaves_an_empty_group() -> None:
    scene = settled_scene(1)
    scene.clients[0].leave()
    assert (scene.group.state, scene.group.owners) == (ConsumerGroupState.EMPTY, {})


# -- appends that fail


def test_every_append_may_fail_and_be_tried_again() -> None:
    scene = Scene()
    first, second = scene.clients[0], scene.clients[3]
    code = ErrorCode.COORDINATOR_NOT_AVAILABLE
    with scene.broken_disk():
        assert first.beat() is code
    assert scene.groups.groups == {}
    scene.settle([first])
    for client, what in (
        (second, second.beat),
        (first, first.beat),  # it is to give up partitions
        (first, first.beat),  # it has
        (second, second.beat),
        (second, second.leave),
        (first, first.leave),
    ):
        before, epoch = everything_of(scene.groups), client.epoch
        with scene.broken_disk():
            assert what() is code
        assert everything_of(scene.groups) == before
        client.epoch = epoch  # one that leaves tries again, too
        check(scene)
        assert what() is None
        scene.log.sync()


def test_a_member_whose_removal_cannot_be_written_has_another_session() -> None:
    scene = settled_scene(1)
    with scene.broken_disk():
        scene.advance(SESSION_MS)
    assert list(scene.group.members) == ["c0"]
    scene.advance(SESSION_MS)
    assert scene.group.members == {}


def test_a_member_that_is_late_to_give_up_is_removed_when_the_disk_is_mended() -> None:
    scene = settled_scene(1)
    first, second = scene.clients[:2]
    second.beat()
    first.beat()
    for _ in range(2):
        with scene.broken_disk():
            scene.advance(REBALANCE_MS)
        assert scene.member_state(first) is MemberState.UNREVOKED_PARTITIONS
        first.beat(says_all=False)
        second.beat(says_all=False)
    scene.advance(REBALANCE_MS)
    assert list(scene.group.members) == [second.member_id]


@pytest.mark.parametrize("leaves", [False, True])
def test_time_to_give_up_partitions_runs_on_where_the_end_of_it_cannot_be_written(leaves: bool) -> None:
    """Otherwise a member that says no more of its partitions would keep them from the others for ever."""
    scene = settled_scene(4)
    static, others = scene.clients[3], scene.clients[:3]
    scene.topics.grow("t", 9)
    scene.settle(scene.clients)
    static.topics = frozenset()  # so that it has to give up all that it has
    static.beat()
    scene.log.sync()
    assert scene.member_state(static) is MemberState.UNREVOKED_PARTITIONS
    epoch = static.epoch
    with scene.broken_disk():
        assert (static.leave() if leaves else static.beat()) is ErrorCode.COORDINATOR_NOT_AVAILABLE
    static.epoch = epoch
    for _ in range(2):
        scene.advance(REBALANCE_MS / 2)
        for client in (static, *others):
            client.beat(says_all=False)
    assert static.member_id not in scene.group.members


# -- any history


class Step(NamedTuple):
    """What happens, and to which client."""

    what: str
    client: int


STEPS = {
    "beat": 10,
    "lives": 4,
    "leave": 1,
    "start again": 1,
    "subscribe": 2,
    "want less": 1,
    "interval": 1,
    "grow": 1,
    "wait": 3,
    "break": 1,
    "mend": 2,
    "sync": 10,
    "crash": 1,
}
any_step = st.builds(
    Step, st.sampled_from([what for what, weight in STEPS.items() for _ in range(weight)]), st.integers(0, 3)
)
WAITS_MS = (1_000, 10_000, 20_000, 30_000)
INTERVALS_MS = (0, 1_000, 5_000, 15_000)


def act(scene: Scene, step: Step) -> None:
    client = scene.clients[step.client]
    match step.what:
        case "beat" | "lives":
            client.beat(says_all=step.what == "beat")
        case "leave":
            client.leave()
        case "start again":
            client.start_again()
        case "subscribe":
            scene.topics.grow("u", 2)
            client.topics = None if client.topics is not None and len(client.topics) == 2 else frozenset("tu")
            client.expression = "[a-z]" if client.topics is None else ""
        case "want less":
            client.topics, client.expression = frozenset("t"), ""
        case "interval":
            scene.interval_ms = INTERVALS_MS[step.client]
        case "grow":
            scene.topics.grow("t", scene.topics.partitions["t"] + 1)
        case "wait":
            scene.advance(WAITS_MS[step.client])
        case "break":
            scene.log.error = OSError(errno.ENOSPC, "the disk is full")
        case "mend":
            scene.log.error = None
        case "sync":
            scene.log.sync()
        case "crash":
            scene.crash()


def check(scene: Scene) -> None:
    """What holds after every step."""
    assert everything_of(replayed(scene.log.records)) == everything_of(scene.groups)
    assert everything_of(replayed(list(scene.groups.snapshot()))) == everything_of(scene.groups)
    group = scene.groups.groups.get("g")
    if group is None:
        return
    owned = [(key, m.member_id) for m in group.members.values() for key in owned_keys(m)]
    assert sorted(owned) == sorted(group.owners.items()), "a partition has two owners"
    sessions = scene.groups.sessions
    assert {member_id for _, member_id in sessions.sessions} == group.members.keys()
    for member in group.members.values():
        assert sessions.sessions["g", member.member_id].timer is not None
        timer = sessions.revocation_timers.get(("g", member.member_id))
        must_revoke = member.state is MemberState.UNREVOKED_PARTITIONS and not member.has_left_for_now
        assert not must_revoke or (timer is not None and timer.callback is not None), "it may take for ever"
    held = [key for client in scene.clients if client.member_id in group.members for key in client.assigned]
    assert len(held) == len(set(held)), "two clients read one partition"


def play(script: list[Step], *, checks: bool = True) -> tuple[Scene, set[tuple[str, str]]]:
    """Does all steps, with checks after each; returns the changes of members' states, too."""
    scene, seen = Scene(), set[tuple[str, str]]()
    last: dict[str, MemberState] = {}
    for step in script:
        scene.clock.advance(1)
        act(scene, step)
        if checks:
            check(scene)
        members = scene.groups.groups["g"].members if scene.groups.groups else {}
        states = {member.member_id: member.state for member in members.values()}
        if step.what not in ("wait", "crash"):
            changes = ((last[i], state) for i, state in states.items() if i in last)
            seen |= {(label(before), label(after)) for before, after in changes if before is not after}
        last = states
    return scene, seen


def label(state: MemberState) -> str:
    return "".join(word.capitalize() for word in state.name.split("_"))


DIAGRAM = transitions(consumer_group.__doc__)


@settings(max_examples=80)
@given(st.lists(any_step, max_size=50))
def test_after_any_history_no_partition_has_two_readers_and_records_make_the_group_and_it_becomes_stable(
    script: list[Step],
) -> None:
    scene, seen = play(script)
    assert seen <= DIAGRAM
    scene.log.error = None
    scene.log.sync()
    scene.clients[3].start_again()
    clients = scene.clients[:3]  # the static one is gone for good
    for _ in range(SESSION_MS // 3_000 + 1):
        for client in clients:
            client.beat()
        scene.log.sync()
        scene.advance(3_000)
    scene.settle(clients)
    check(scene)
    wanted = {key for client in clients for key in keys_of(scene.group.targets[client.member_id])}
    assert wanted == {(b"t".ljust(16), n) for n in range(scene.topics.partitions["t"])} | {
        (b"u".ljust(16), n)
        for n in range(scene.topics.partitions.get("u", 0))
        if any(client.expression or "u" in (client.topics or ()) for client in clients)
    }
    assert {key for client in clients for key in client.assigned} == wanted


def test_every_transition_of_the_diagram_is_made() -> None:
    seen: set[tuple[str, str]] = set()
    names, weights = zip(*STEPS.items(), strict=True)
    for seed in range(120):
        random = Random(seed)
        script = [Step(random.choices(names, weights)[0], random.randrange(4)) for _ in range(50)]
        seen |= play(script, checks=False)[1]
    assert seen == DIAGRAM
