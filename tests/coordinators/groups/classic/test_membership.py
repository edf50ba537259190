"""Classic groups alone, without a broker: their life, a disk that fails, and what any history leaves behind."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.coordinators.groups.classic import group as classic_group
from headwater.coordinators.groups.classic.group import Group, GroupState, JoinAnswer, SyncAnswer
from headwater.coordinators.groups.classic.membership import GroupLimits, JoinRequest, Membership, SyncRequest
from headwater.coordinators.groups.records import group_record, offset_record, read_group
from headwater.effects.clock import ManualClock
from headwater.effects.entropy import SeededEntropy
from headwater.effects.timers import Timers
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ProtocolError
from headwater.protocol.messages.stored_group_metadata import GroupMetadataValue
from headwater.replay.decision import RecordTooLargeError, Runtime
from headwater.replay.deferred import Deferred
from headwater.replay.state_record import StateRecord
from tests.coordinators.time_passing import advance
from tests.replay.diagrams import transitions
from tests.replay.state_log import MemoryStateLog

SESSION_MS, REBALANCE_MS, DELAY_MS = 10_000, 30_000, 3_000
FULL = OSError(errno.ENOSPC, "the disk is full")
Answer = TypeVar("Answer")


class Client:
    """A member as clients are: it joins, is called to join again, and forgets the id that nobody knows."""

    def __init__(self, scene: "Scene", name: str, instance_id: str | None = None) -> None:
        self.scene = scene
        self.name = name
        self.instance_id = instance_id
        self.member_id = ""
        self.metadata = b"topics"
        self.attempt = 0
        self.start_over()

    def start_over(self) -> None:
        """Without a generation; an answer that is still to come is about an earlier attempt."""
        self.generation = -1
        self.leads: tuple[str, ...] = ()
        self.joined: JoinAnswer | None = None
        self.synced: SyncAnswer | None = None
        self.is_waiting = False
        self.attempt += 1

    def lose(self, error: ErrorCode) -> None:
        if error in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID):
            self.member_id = ""
        self.start_over()

    def join(self) -> None:
        self.start_over()
        protocols = [("range", self.metadata), ("sticky", b"")]
        request = JoinRequest(
            "g",
            self.member_id,
            self.instance_id,
            self.name,
            "host",
            SESSION_MS,
            REBALANCE_MS,
            "consumer",
            protocols,
            may_need_member_id=True,
            may_skip_assignment=True,
        )
        self.wait_for(self.scene.membership.join(request), self.take_generation)

    def wait_for(self, answer: Answer | Deferred[Answer], take: Callable[[Answer], None]) -> None:
        attempt = self.attempt
        self.is_waiting = True

        def taken(answer: Answer) -> None:
            if attempt == self.attempt:
                self.is_waiting = False
                take(answer)

        if isinstance(answer, Deferred):
            answer.when_done(taken)
        else:
            taken(answer)

    def take_generation(self, answer: JoinAnswer) -> None:
        self.joined = answer
        if answer.error is ErrorCode.MEMBER_ID_REQUIRED:
            self.member_id = answer.member_id
        elif answer.error is ErrorCode.NONE:
            self.member_id, self.generation = answer.member_id, answer.generation
            self.leads = tuple(member_id for member_id, _, _ in answer.members)
            if self.instance_id is not None and self.scene.state is GroupState.STABLE:
                assert any(m.member_id == self.member_id for m in self.scene.durable()), "fenced before it is on disk"
        else:
            self.lose(answer.error)

    def sync(self) -> None:
        assignments = {i: b"%d of %s" % (self.generation, i.encode()) for i in self.leads}
        request = SyncRequest("g", self.generation, self.member_id, self.instance_id, "consumer", None, assignments)
        self.wait_for(self.scene.membership.sync(request), self.take_assignment)

    def take_assignment(self, answer: SyncAnswer) -> None:
        if answer.error is not ErrorCode.NONE:
            self.lose(answer.error)
            return
        self.synced = answer
        mine = [m.assignment for m in self.scene.durable() if m.member_id == self.member_id]
        assert answer.assignment in mine, "an assignment was answered before it was on disk"

    def heartbeat(self) -> ErrorCode:
        error = self.scene.membership.heartbeat("g", self.generation, self.member_id, self.instance_id)
        if error is not ErrorCode.NONE:
            self.lose(error)
        return error

    def leave(self) -> ErrorCode:
        errors = self.scene.membership.leave("g", [(self.member_id, self.instance_id)])
        self.member_id = ""
        self.start_over()
        return errors if isinstance(errors, ErrorCode) else errors[0]

    def resume(self) -> None:
        """The next thing that a client does."""
        if self.is_waiting:
            return
        if self.generation < 0:
            self.join()
        elif self.synced is None:
            self.sync()
        else:
            self.heartbeat()


class Scene:
    """One group of up to five clients, the last two of them static."""

    def __init__(self, delay_ms: int = DELAY_MS, error: OSError = FULL) -> None:
        self.clock = ManualClock()
        self.timers = Timers(self.clock)
        self.log: MemoryStateLog[StateRecord] = MemoryStateLog()
        self.error = error
        self.is_behind = False  # the group could not say that it is empty
        self.membership = Membership(
            self.clock,
            self.timers,
            SeededEntropy(),
            GroupLimits(initial_rebalance_delay_ms=delay_ms),
            Runtime(self, self.log),
        )
        self.clients = [Client(self, f"c{n}", f"i{n}" if n > 2 else None) for n in range(5)]

    @property
    def group(self) -> Group:
        return self.membership.groups["g"]

    @property
    def state(self) -> GroupState:
        return self.group.state if "g" in self.membership.groups else GroupState.DEAD

    def replay(self, record: StateRecord) -> None:
        self.membership.replay(record)

    def snapshot(self) -> Iterator[StateRecord]:
        yield from self.membership.snapshot()

    def advance(self, milliseconds: float) -> None:
        advance(self.clock, self.timers, milliseconds)

    def durable(self) -> list[GroupMetadataValue.MemberMetadata]:
        """All members of all generations that are on disk."""
        records = [r for _, batch in self.log.appended[: self.log.synced] for r in batch if r.value is not None]
        return [member for record in records for member in read_group(record.value or b"").members]

    @contextmanager
    def broken_disk(self) -> Iterator[None]:
        self.log.error = self.error
        yield
        self.log.error = None

    def settle(self, clients: list[Client]) -> None:
        """All clients take steps until they are one generation with assignments."""
        for _ in range(40):
            for client in clients:
                client.resume()
            self.log.sync()
            self.advance(1_000)
            if self.state is GroupState.STABLE and all(
                client.synced and client.generation == self.group.generation for client in clients
            ):
                return
        raise AssertionError("the clients do not become a group")


def settled_scene(count: int = 2) -> Scene:
    scene = Scene()
    scene.clients[0].join()
    scene.settle(scene.clients[:count])
    return scene


def value_of(membership: Membership) -> GroupMetadataValue | None:
    """All that a record says of the group."""
    group = membership.groups.get("g")
    return None if group is None else group.to_value({m.member_id: m.assignment for m in group.members.values()})


def replayed(records: list[StateRecord]) -> Membership:
    scene = Scene()
    for record in records:
        scene.replay(record)
    return scene.membership


# -- a group's life


def test_members_join_together_and_get_what_the_leader_has_given_them() -> None:
    scene = Scene()
    first, second = scene.clients[:2]
    for client in (first, second):
        client.join()
        assert client.joined is not None
        assert client.joined.error is ErrorCode.MEMBER_ID_REQUIRED
        client.join()
    assert scene.state is GroupState.PREPARING_REBALANCE
    scene.advance(DELAY_MS - 1)
    assert first.is_waiting
    scene.advance(DELAY_MS + 1)  # another one came, so the delay is had twice
    assert (first.generation, second.generation) == (1, 1)
    assert (first.leads, second.leads) == ((first.member_id, second.member_id), ())
    second.sync()
    first.sync()
    assert (scene.state, first.is_waiting, second.is_waiting) == (GroupState.STABLE, True, True)
    scene.log.sync()
    assert second.synced is not None
    assert second.synced.assignment == b"1 of %s" % second.member_id.encode()
    assert first.heartbeat() is second.heartbeat() is ErrorCode.NONE


def test_a_member_that_leaves_calls_the_others_to_join_again() -> None:
    scene = settled_scene()
    first, second = scene.clients[:2]
    assert first.leave() is ErrorCode.NONE
    assert second.heartbeat() is ErrorCode.REBALANCE_IN_PROGRESS
    second.join()
    assert second.leads == (second.member_id,)
    assert scene.group.generation == 2


def joined_scene() -> Scene:
    """Two members of one generation, of whom none has an assignment yet."""
    scene = Scene(0)
    first, second = scene.clients[:2]
    for client in (first, first, second, second, first):
        client.join()
    assert scene.state is GroupState.COMPLETING_REBALANCE
    return scene


def test_a_member_that_never_asks_for_its_assignment_is_out_when_the_rebalance_times_out() -> None:
    scene = joined_scene()
    first, second = scene.clients[:2]
    first.sync()
    scene.log.sync()
    for _ in range(REBALANCE_MS // 5_000 - 1):
        scene.advance(5_000)
        assert first.heartbeat() is second.heartbeat() is ErrorCode.NONE
    scene.advance(5_000)
    assert second.heartbeat() is ErrorCode.UNKNOWN_MEMBER_ID
    assert first.heartbeat() is ErrorCode.REBALANCE_IN_PROGRESS


def test_a_member_that_joins_or_syncs_again_is_answered_again() -> None:
    scene = joined_scene()
    first, second = scene.clients[:2]
    generation = second.generation
    second.join()  # its answer was lost
    assert (second.generation, scene.state) == (generation, GroupState.COMPLETING_REBALANCE)
    request = SyncRequest("g", generation, second.member_id, None, "consumer", None, {})
    answers = [scene.membership.sync(request) for _ in range(2)]
    first.sync()
    scene.log.sync()
    errors = [answer.answer.error for answer in answers if isinstance(answer, Deferred)]
    assert errors == [ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.NONE]  # the earlier request is no longer waited for


def test_what_is_not_of_the_group_is_refused() -> None:
    scene = settled_scene()
    member = scene.clients[0]
    other = SyncRequest("g", member.generation, member.member_id, None, "consumer", "sticky", {})
    answer = scene.membership.sync(other)
    assert isinstance(answer, SyncAnswer)
    assert answer.error is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert scene.membership.leave("", [(member.member_id, None)]) is ErrorCode.INVALID_GROUP_ID
    with pytest.raises(ProtocolError, match="not one of a classic group"):
        scene.replay(offset_record("g", "t", 0, None))


def test_a_member_that_is_silent_is_out_when_its_session_ends() -> None:
    scene = settled_scene()
    first, second = scene.clients[:2]
    assert first.heartbeat() is second.heartbeat() is ErrorCode.NONE
    scene.advance(SESSION_MS - 1)
    assert first.heartbeat() is ErrorCode.NONE
    scene.advance(1)
    assert list(scene.group.members) == [first.member_id]
    assert first.heartbeat() is ErrorCode.REBALANCE_IN_PROGRESS
    assert second.heartbeat() is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_member_that_waits_for_the_group_is_not_missed() -> None:
    scene = settled_scene()
    first, second = scene.clients[:2]
    first.metadata = b"other topics"
    first.join()
    for _ in range(4):  # the other one says that it lives, but does not join
        scene.advance(REBALANCE_MS / 4 - 1)
        scene.membership.heartbeat("g", 1, second.member_id, None)
    assert first.is_waiting
    assert first.member_id in scene.group.members
    scene.advance(4)
    assert first.generation == 2
    assert first.leads == (first.member_id,)


def test_the_last_to_leave_leaves_an_empty_group_on_disk() -> None:
    scene = settled_scene()
    for client in scene.clients[:2]:
        client.leave()
    assert scene.state is GroupState.EMPTY
    value = read_group(scene.log.records[-1].value or b"")
    assert (value.members, value.generation, value.protocol) == ([], 2, None)


def test_a_static_member_comes_back_to_its_assignment_without_a_rebalance() -> None:
    scene = settled_scene(4)
    static = scene.clients[3]
    old_id, had = static.member_id, static.synced
    static.member_id = ""
    static.join()
    assert static.is_waiting  # its new id is not on disk yet
    scene.log.sync()
    assert static.generation == scene.group.generation == 1
    static.sync()
    assert static.synced == had
    error = scene.membership.heartbeat("g", 1, old_id, static.instance_id)
    assert error is ErrorCode.FENCED_INSTANCE_ID
    check(scene)


def test_a_group_of_which_only_static_members_are_left_waits_for_one_of_them() -> None:
    scene = settled_scene(4)
    scene.clients[0].leave()  # calls the others, and none of them comes for longer than the rebalance may take
    static = scene.clients[3]
    for _ in range(8):
        scene.advance(SESSION_MS / 2)
        scene.membership.heartbeat("g", 1, static.member_id, static.instance_id)
    assert list(scene.group.members) == [static.member_id]
    assert scene.state is GroupState.PREPARING_REBALANCE
    static.join()
    assert static.generation == 2


# -- appends that fail


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FULL, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (RecordTooLargeError("too large"), ErrorCode.UNKNOWN_SERVER_ERROR),
    ],
)
def test_an_assignment_that_is_not_written_is_answered_to_nobody_and_the_next_one_works(
    error: OSError, code: ErrorCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(0, error)
    first, second = scene.clients[:2]
    for client in (first, first, second, second, first):
        client.join()
    told: list[ErrorCode] = []
    with scene.broken_disk(), monkeypatch.context() as patch:
        patch.setattr(Client, "take_assignment", lambda _, answer: told.append(answer.error))
        second.sync()
        first.sync()
    assert told == [code, code]
    assert scene.state is GroupState.PREPARING_REBALANCE
    assert [m.assignment for m in scene.group.members.values()] == [b"", b""]
    assert scene.log.appended == []
    for client in (first, second):
        client.start_over()
    scene.settle([first, second])


def test_a_static_member_whose_return_is_not_written_is_as_it_was_and_may_come_again() -> None:
    scene = settled_scene(4)
    static = scene.clients[3]
    before, old_id = value_of(scene.membership), static.member_id
    static.member_id = ""
    with scene.broken_disk():
        static.join()
    assert static.generation == -1
    assert value_of(scene.membership) == before
    assert scene.membership.heartbeat("g", 1, old_id, static.instance_id) is ErrorCode.NONE
    static.join()
    scene.log.sync()
    assert static.generation == 1


def test_a_group_whose_end_is_not_written_is_empty_all_the_same_and_begins_again() -> None:
    scene = settled_scene()
    with scene.broken_disk():
        for client in scene.clients[:2]:
            client.leave()
    assert scene.state is GroupState.EMPTY
    scene.settle(scene.clients[:2])
    assert replayed(scene.log.records).groups["g"].generation == scene.group.generation


# -- any history


class Step(NamedTuple):
    """What happens: to which client, or for how long."""

    what: str
    client: int
    wait_ms: int


STEPS = {
    "remove": 1,
    "resume": 12,
    "heartbeat": 2,
    "leave": 1,
    "forget": 1,
    "change": 1,
    "wait": 4,
    "break": 1,
    "mend": 2,
    "disk": 4,
}
WAITS_MS = (1, 1_000, 3_000, 9_999, 20_000)
any_step = st.builds(
    Step,
    st.sampled_from([what for what, weight in STEPS.items() for _ in range(weight)]),
    st.integers(0, 4),
    st.sampled_from(WAITS_MS),
)


def act(scene: Scene, step: Step) -> None:
    client = scene.clients[step.client]
    match step.what:
        case "resume":
            client.resume()
        case "heartbeat" if client.generation >= 0:
            client.heartbeat()
        case "leave" if client.member_id:
            client.leave()
        case "forget":  # the client is started again
            client.member_id = ""
            client.start_over()
        case "change":
            client.metadata = b"topics %d" % step.wait_ms
            client.start_over()
        case "wait":
            scene.advance(step.wait_ms)
        case "remove" if "g" in scene.membership.groups and scene.log.error is None:
            scene.membership.runtime.apply("g", [group_record("g", None)])
        case "break":
            scene.log.error = scene.error
        case "mend":
            scene.log.error = None
        case "disk":
            scene.log.sync()


def check(scene: Scene) -> None:
    """What holds after every step."""
    group = scene.membership.groups.get("g")
    if group is None:
        return
    statics = {m.instance_id: m.member_id for m in group.members.values() if m.instance_id is not None}
    assert group.static_members == statics
    assert group.unsynced <= group.members.keys()
    assert group.leader in group.members if group.members else group.leader is None
    for member in group.members.values():
        assert member.session is not None
        assert member.session.callback is not None, "a member that would never be missed"
    if group.state not in (GroupState.EMPTY, GroupState.STABLE):
        return
    value = value_of(scene.membership)
    assert value_of(replayed(list(scene.membership.snapshot()))) == value
    if group.state is GroupState.EMPTY and scene.log.error is not None:
        scene.is_behind = True  # its end may not be written: the only change that is made all the same
    elif group.state is GroupState.STABLE:
        scene.is_behind = False
    if not scene.is_behind and group.generation:
        assert value_of(replayed(scene.log.records)) == value


class WatchedState:
    """Stands in for the state of groups, and keeps what it was changed from and to."""

    def __init__(self, slot: Any, seen: set[tuple[str, str]]) -> None:
        self.slot = slot
        self.seen = seen

    def __get__(self, group: Group, owner: type[Group]) -> object:
        return self.slot.__get__(group, owner)

    def __set__(self, group: Group, state: GroupState) -> None:
        try:
            before = self.slot.__get__(group, Group)
        except AttributeError:  # it is being made
            before = state
        if before is not state:
            self.seen.add((before.value, state.value))
        self.slot.__set__(group, state)


def play(script: list[Step], delay_ms: int, members: int) -> tuple[Scene, set[tuple[str, str]]]:
    """Does all steps, in a group that has members already or in none; returns the changes of its state, too."""
    scene, seen = Scene(delay_ms), set[tuple[str, str]]()
    if members:
        scene.clients[-1].join()
        scene.settle(scene.clients[-members:])
    for step in script:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Group, "state", WatchedState(vars(Group)["state"], seen))
            act(scene, step)
        check(scene)
    return scene, seen


DIAGRAM = transitions(classic_group.__doc__)


@settings(max_examples=150)
@given(st.lists(any_step, max_size=60), st.sampled_from([0, DELAY_MS]), st.sampled_from([0, 3, 5]))
def test_after_any_history_records_and_snapshot_make_the_group_and_clients_become_one_again(
    script: list[Step], delay_ms: int, members: int
) -> None:
    scene, seen = play(script, delay_ms, members)
    assert seen <= DIAGRAM
    scene.log.error = None
    scene.log.sync()
    for client in scene.clients[:2]:  # the others are gone for good
        if not client.is_waiting:
            client.start_over()
    scene.clients[0].resume()
    scene.settle(scene.clients[:2])
    check(scene)


def test_every_transition_of_the_diagram_is_made() -> None:
    seen: set[tuple[str, str]] = set()
    for seed in range(60):
        random = Random(seed)
        names, weights = zip(*STEPS.items(), strict=True)
        script = [
            Step(random.choices(names, weights)[0], random.randrange(5), random.choice(WAITS_MS)) for _ in range(60)
        ]
        seen |= play(script, 0, 0)[1]
    assert seen == DIAGRAM
