"""A group member without a network or a clock: each answer of the coordinator, and what the member makes of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

import headwater.client.membership
from headwater.client.errors import AuthorizationError, ClientError, MemberFencedError
from headwater.client.group_members import (
    Assigned,
    Call,
    JoinedMember,
    Left,
    Lost,
    MemberSettings,
    Pause,
    Rebalancing,
    Refused,
)
from headwater.client.membership import AGAIN, NEXT, Membership, State, Step
from headwater.client.wire_settings import Address
from headwater.effects.entropy import SeededEntropy
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from headwater.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from headwater.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse
from headwater.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse
from headwater.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse

SETTINGS = MemberSettings("g", "sr", session_timeout_ms=10_000, rebalance_timeout_ms=30_000)
HERE = Address("here", 9092)


class Names:
    """Each member brings a name; the leader tells everybody all names."""

    def __init__(self, name: bytes = b"me") -> None:
        self.name = name

    def protocols(self) -> Sequence[tuple[str, bytes]]:
        return [("v0", self.name)]

    def assign(self, protocol: str, members: Sequence[JoinedMember]) -> Mapping[str, bytes]:
        assert protocol == "v0"
        names = b",".join(member.metadata for member in members)
        return {member.member_id: names for member in members}


class Driver:
    """A member and a clock, and a coordinator that says what the test wants."""

    def __init__(self, settings: MemberSettings = SETTINGS) -> None:
        self.member = Membership(settings, Names(), SeededEntropy())
        self.now_ms = 1000.0

    def next(self) -> Call:
        """The next request, after the pause before it if there is one."""
        for _ in range(3):
            step = self.member.next_step(self.now_ms)
            if isinstance(step, Call):
                return step
            assert isinstance(step, Pause)
            assert step.until_ms > self.now_ms
            self.now_ms = step.until_ms
        raise AssertionError("it pauses for ever")

    def answer(self, answer: Any, after_ms: float = 0.0) -> Any:
        """Answers the next request; returns it."""
        call = self.next()
        self.now_ms += after_ms
        self.member.answered(answer, self.now_ms)
        return call.message

    def find(self) -> None:
        found = FindCoordinatorResponse.Coordinator("g", 1, "here", 9092)
        assert isinstance(self.answer(FindCoordinatorResponse(coordinators=[found])), FindCoordinatorRequest)

    def join(self, leader: str = "m-1", generation: int = 1, **more: Any) -> JoinGroupRequest:
        member = JoinGroupResponse.JoinGroupResponseMember
        members = [member("m-1", None, b"me"), member("m-2", None, b"other")] if leader == "m-1" else []
        answer = JoinGroupResponse(0, 0, generation, "sr", "v0", leader, member_id="m-1", members=members, **more)
        request = self.answer(answer)
        assert isinstance(request, JoinGroupRequest)
        return request

    def sync(self) -> SyncGroupRequest:
        request = self.answer(SyncGroupResponse(assignment=b"part"))
        assert isinstance(request, SyncGroupRequest)
        return request

    def stable(self, leader: str = "m-1") -> None:
        self.find()
        self.join(leader)
        self.sync()
        assert self.told() == [Assigned(1, "m-1", leader, "v0", b"part")]

    def heartbeat(self, error: int = 0) -> None:
        assert isinstance(self.answer(HeartbeatResponse(0, error)), HeartbeatRequest)

    def told(self) -> list[Any]:
        told = list(self.member.occurrences)
        self.member.occurrences.clear()
        return told

    @property
    def state(self) -> State:
        return self.member.state


@pytest.fixture
def driver() -> Driver:
    return Driver()


def test_a_new_member_gets_an_id_first_then_joins_and_leads(driver: Driver) -> None:
    driver.find()
    assert driver.member.coordinator == HERE
    first = driver.answer(JoinGroupResponse(0, ErrorCode.MEMBER_ID_REQUIRED, member_id="m-1"))
    assert (first.member_id, first.protocol_type, first.session_timeout_ms, first.rebalance_timeout_ms) == (
        "",
        "sr",
        10_000,
        30_000,
    )
    assert driver.join().member_id == "m-1"
    request = driver.sync()
    assert (request.generation_id, request.member_id, request.protocol_name) == (1, "m-1", "v0")
    assert {each.member_id: each.assignment for each in request.assignments} == {
        "m-1": b"me,other",
        "m-2": b"me,other",
    }
    (assigned,) = driver.told()
    assert assigned == Assigned(1, "m-1", "m-1", "v0", b"part")
    assert assigned.is_leader


def test_a_follower_sends_no_assignments(driver: Driver) -> None:
    driver.find()
    driver.join("m-2")
    assert driver.sync().assignments == []
    assert not driver.told()[0].is_leader


def test_a_leader_that_must_not_assign_again_does_not(driver: Driver) -> None:
    driver.find()
    driver.join(skip_assignment=True)
    assert driver.sync().assignments == []
    assert driver.told()[0].is_leader


def test_an_older_broker_answers_for_one_coordinator(driver: Driver) -> None:
    driver.answer(FindCoordinatorResponse(0, host="there", port=9))
    assert driver.member.coordinator == Address("there", 9)


def test_heartbeats_come_at_their_interval_and_extend_the_lease(driver: Driver) -> None:
    driver.stable()
    for number in range(1, 6):
        call = driver.next()
        assert driver.now_ms == 1000 + 3000 * number
        assert (call.message.generation_id, call.message.member_id) == (1, "m-1")
        driver.member.answered(HeartbeatResponse(), driver.now_ms)
        assert driver.member.holding(driver.now_ms + 9_999) is not None
        assert driver.member.holding(driver.now_ms + 10_000) is None
    assert driver.told() == []


def test_the_lease_counts_from_when_the_request_was_sent(driver: Driver) -> None:
    driver.stable()
    sent_ms = driver.next() and driver.now_ms
    driver.member.answered(HeartbeatResponse(), sent_ms + 2000)
    assert driver.member.holding(sent_ms + 9_999) is not None
    assert driver.member.holding(sent_ms + 10_000) is None


def test_the_lease_is_no_longer_than_others_wait_for_this_member() -> None:
    driver = Driver(SETTINGS._replace(session_timeout_ms=40_000, rebalance_timeout_ms=6_000))
    driver.stable()
    assert driver.member.holding(6_999) is not None
    assert driver.member.holding(7_000) is None


def test_a_rebalance_is_joined_with_the_same_member_id(driver: Driver) -> None:
    driver.stable()
    driver.heartbeat(ErrorCode.REBALANCE_IN_PROGRESS)
    assert driver.told() == [Rebalancing()]
    assert driver.member.holding(driver.now_ms) is None
    assert driver.join(generation=2).member_id == "m-1"
    driver.sync()
    assert driver.told() == [Assigned(2, "m-1", "m-1", "v0", b"part")]


@pytest.mark.parametrize(
    ("error", "member_id"), [(ErrorCode.ILLEGAL_GENERATION, "m-1"), (ErrorCode.UNKNOWN_MEMBER_ID, "")]
)
def test_a_member_that_missed_a_generation_has_lost_its_part(driver: Driver, error: int, member_id: str) -> None:
    driver.stable()
    driver.heartbeat(error)
    (lost,) = driver.told()
    assert isinstance(lost, Lost)
    assert ErrorCode(error).name in lost.reason
    assert driver.next().message.member_id == member_id


def test_silence_is_waited_for_until_the_lease_is_over(driver: Driver) -> None:
    driver.stable()
    end_ms = driver.member.lease_until_ms
    attempts = 0
    while driver.state is State.STABLE:
        step = driver.member.next_step(driver.now_ms)
        assert driver.told() == [] or driver.now_ms >= end_ms
        if isinstance(step, Pause):
            driver.now_ms = step.until_ms
        elif isinstance(step, Call):
            assert step.timeout_ms <= max(1.0, end_ms - driver.now_ms)
            attempts += 1
            driver.now_ms += 500
            driver.member.answered(None, driver.now_ms)
    assert attempts > 3
    assert end_ms <= driver.now_ms <= end_ms + 500
    assert driver.member.current is None


def test_a_lost_lease_is_reported_and_the_member_joins_again_with_its_id(driver: Driver) -> None:
    driver.stable()
    driver.now_ms += 10_000
    assert driver.answer(None).member_id == "m-1"
    (lost,) = driver.told()
    assert lost.reason == "group g: nothing was heard of its coordinator for 10000 ms"
    driver.find()
    driver.join(generation=3)
    driver.sync()
    assert driver.told() == [Assigned(3, "m-1", "m-1", "v0", b"part")]


def test_a_lease_that_ends_while_it_rejoins_is_reported_once(driver: Driver) -> None:
    driver.stable()
    driver.heartbeat(ErrorCode.REBALANCE_IN_PROGRESS)
    driver.answer(None, after_ms=35_000)
    told = driver.told()
    assert told[0] == Rebalancing()
    assert isinstance(told[1], Lost)
    driver.answer(None, after_ms=35_000)
    assert driver.told() == []


def test_a_coordinator_that_moves_is_found_again_and_the_membership_continues(driver: Driver) -> None:
    driver.stable()
    driver.heartbeat(ErrorCode.NOT_COORDINATOR)
    assert driver.member.coordinator is None
    driver.find()
    driver.heartbeat()
    assert driver.told() == []
    assert driver.state is State.STABLE


def test_a_coordinator_that_loads_is_asked_again_without_a_search(driver: Driver) -> None:
    driver.find()
    driver.answer(JoinGroupResponse(0, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS))
    before_ms = driver.now_ms
    driver.join()
    assert driver.now_ms > before_ms


def test_a_sync_without_an_answer_joins_again(driver: Driver) -> None:
    driver.find()
    driver.join()
    driver.answer(None)
    driver.find()
    assert driver.join(generation=1).member_id == "m-1"


@pytest.mark.parametrize(
    ("error", "member_id"),
    [
        (ErrorCode.REBALANCE_IN_PROGRESS, "m-1"),
        (ErrorCode.ILLEGAL_GENERATION, "m-1"),
        (ErrorCode.UNKNOWN_MEMBER_ID, ""),
        (ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, "m-1"),
    ],
)
def test_an_error_instead_of_an_assignment_joins_again_after_a_pause(
    driver: Driver, error: int, member_id: str
) -> None:
    driver.find()
    driver.join()
    driver.answer(SyncGroupResponse(0, error))
    before_ms = driver.now_ms
    assert driver.join().member_id == member_id
    assert driver.now_ms > before_ms
    assert driver.told() == []


@pytest.mark.parametrize(
    "error",
    [
        ErrorCode.INCONSISTENT_GROUP_PROTOCOL,
        ErrorCode.INVALID_SESSION_TIMEOUT,
        ErrorCode.GROUP_AUTHORIZATION_FAILED,
        ErrorCode.GROUP_MAX_SIZE_REACHED,
        ErrorCode.FENCED_INSTANCE_ID,
    ],
)
def test_what_no_other_attempt_will_change_ends_it(driver: Driver, error: int) -> None:
    driver.find()
    driver.answer(JoinGroupResponse(0, error))
    (refused,) = driver.told()
    assert isinstance(refused, Refused)
    assert "group g at here:9092" in str(refused.error)
    assert ErrorCode(error).name in str(refused.error)
    assert driver.member.next_step(driver.now_ms) is None
    driver.member.leave()
    assert driver.state is State.FAILED


def test_a_static_member_that_was_replaced_is_fenced() -> None:
    driver = Driver(SETTINGS._replace(instance_id="one"))
    driver.find()
    call = driver.next()
    assert (call.message.group_instance_id, call.at_least) == ("one", 5)
    driver.member.answered(JoinGroupResponse(0, 0, 1, "sr", "v0", "m-9", member_id="m-1"), driver.now_ms)
    driver.sync()
    driver.told()
    assert driver.next().at_least == 3
    driver.member.answered(HeartbeatResponse(0, ErrorCode.FENCED_INSTANCE_ID), driver.now_ms)
    (refused,) = driver.told()
    assert isinstance(refused.error, MemberFencedError)
    assert driver.member.holding(driver.now_ms) is None


def test_a_group_that_one_may_not_read_is_named() -> None:
    driver = Driver()
    found = FindCoordinatorResponse.Coordinator("g", error_code=ErrorCode.GROUP_AUTHORIZATION_FAILED)
    driver.answer(FindCoordinatorResponse(coordinators=[found]))
    (refused,) = driver.told()
    assert isinstance(refused.error, AuthorizationError)
    assert "group g" in str(refused.error)


@pytest.mark.parametrize("answer", [None, ErrorCode.COORDINATOR_NOT_AVAILABLE])
def test_a_coordinator_that_is_not_there_yet_is_asked_for_again(driver: Driver, answer: int | None) -> None:
    found = FindCoordinatorResponse.Coordinator("g", error_code=answer or 0)
    for _ in range(20):
        driver.answer(None if answer is None else FindCoordinatorResponse(coordinators=[found]))
    assert 1000 < driver.now_ms - 1000 < 20 * 1200
    driver.find()
    driver.join()


def test_a_member_id_that_is_never_given_ends_the_membership(driver: Driver) -> None:
    driver.find()
    driver.answer(JoinGroupResponse(0, ErrorCode.MEMBER_ID_REQUIRED, member_id=""))
    assert driver.state is State.FAILED


def test_changed_metadata_makes_everybody_join_again(driver: Driver) -> None:
    driver.stable()
    driver.member.join_again("has moved")
    assert driver.told() == [Rebalancing()]
    assert driver.join(generation=2).reason == "has moved"
    driver.member.join_again("it joins anyway")
    assert driver.told() == []


def test_leaves_and_is_done(driver: Driver) -> None:
    driver.stable()
    driver.member.leave()
    assert driver.member.holding(driver.now_ms) is None
    request = driver.answer(LeaveGroupResponse())
    assert isinstance(request, LeaveGroupRequest)
    assert (request.member_id, request.members[0].member_id) == ("m-1", "m-1")
    assert driver.told() == [Left()]
    assert driver.member.next_step(driver.now_ms) is None


def test_a_leaving_that_is_not_answered_is_not_tried_again(driver: Driver) -> None:
    driver.stable()
    driver.member.leave()
    driver.answer(None)
    assert driver.told() == [Left()]
    assert driver.state is State.LEFT


def test_leaving_drops_the_request_that_is_under_way(driver: Driver) -> None:
    driver.find()
    driver.answer(JoinGroupResponse(0, ErrorCode.MEMBER_ID_REQUIRED, member_id="m-1"))
    assert isinstance(driver.next().message, JoinGroupRequest)
    driver.member.leave()
    assert isinstance(driver.answer(LeaveGroupResponse()), LeaveGroupRequest)


def test_one_that_never_joined_has_nothing_to_leave(driver: Driver) -> None:
    driver.member.leave()
    assert driver.member.next_step(driver.now_ms) is None
    assert driver.told() == [Left()]


@pytest.mark.parametrize("for_good", [False, True])
def test_a_static_member_keeps_its_place_unless_it_leaves_for_good(for_good: bool) -> None:
    driver = Driver(SETTINGS._replace(instance_id="one"))
    driver.stable()
    driver.member.leave(for_good=for_good)
    if for_good:
        assert driver.answer(LeaveGroupResponse()).members[0].group_instance_id == "one"
    assert driver.member.next_step(driver.now_ms) is None
    assert driver.told() == [Left()]


def test_the_table_is_the_one_that_the_module_shows() -> None:
    rows = [line.split()[:3] for line in str(headwater.client.membership.__doc__).splitlines() if line[:4] == "    "]
    shown = {(State[row[0]], Step[row[1]]): State[row[2]] for row in rows if row[0] in State.__members__}
    assert shown == NEXT
    assert set(AGAIN) < {step for _, step in NEXT}


def test_an_error_that_the_caller_reports_ends_it(driver: Driver) -> None:
    driver.stable()
    driver.next()
    driver.member.fail(ClientError("no"))
    assert isinstance(driver.told()[0], Refused)
    assert driver.state is State.FAILED
    driver.member.fail(ClientError("again"))
    assert driver.told() == []
