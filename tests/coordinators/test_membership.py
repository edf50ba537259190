"""Classic groups on a clock that is moved by hand: joins, rebalances, static members, timeouts, restarts."""

from typing import Any

import pytest

from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.delete_groups import DeleteGroupsRequest
from headwater.protocol.messages.describe_groups import DescribeGroupsRequest
from headwater.protocol.messages.heartbeat import HeartbeatRequest
from headwater.protocol.messages.join_group import JoinGroupRequest
from headwater.protocol.messages.leave_group import LeaveGroupRequest
from headwater.protocol.messages.list_groups import ListGroupsRequest
from headwater.protocol.messages.sync_group import SyncGroupRequest
from tests.broker.harness import Harness, Pending

SESSION_MS = 10_000
REBALANCE_MS = 30_000


def join(broker: Harness, member_id: str = "", instance: str | None = None, version: int = 9, **more: Any) -> Pending:
    protocols = more.pop("protocols", [("range", b"meta")])
    request = JoinGroupRequest(
        "g",
        SESSION_MS,
        REBALANCE_MS,
        member_id,
        instance,
        more.pop("protocol_type", "consumer"),
        [JoinGroupRequest.JoinGroupRequestProtocol(*p) for p in protocols],
    )
    return broker.send(ApiKey.JOIN_GROUP, version, request)


def new_member(broker: Harness) -> str:
    """The id with which a new member has to join again (KIP-394)."""
    answer = join(broker).message
    assert answer.error_code == ErrorCode.MEMBER_ID_REQUIRED
    return str(answer.member_id)


def sync(broker: Harness, generation: int, member_id: str, assignments: dict[str, bytes] | None = None) -> Pending:
    pairs = [SyncGroupRequest.SyncGroupRequestAssignment(k, v) for k, v in (assignments or {}).items()]
    request = SyncGroupRequest("g", generation, member_id, None, "consumer", "range", pairs)
    return broker.send(ApiKey.SYNC_GROUP, 5, request)


def heartbeat(broker: Harness, generation: int, member_id: str, instance: str | None = None) -> int:
    request = HeartbeatRequest("g", generation, member_id, instance)
    return int(broker.call(ApiKey.HEARTBEAT, 4, request).error_code)


def state(broker: Harness) -> str:
    return str(broker.call(ApiKey.DESCRIBE_GROUPS, 5, DescribeGroupsRequest(["g"])).groups[0].group_state)


def stable_group(broker: Harness, count: int = 2) -> list[str]:
    """A group of members with assignments, the leader first."""
    ids = [new_member(broker) for _ in range(count)]
    pending = [join(broker, member_id) for member_id in ids]
    generation = pending[0].message.generation_id
    leader = pending[0].message.leader
    ids.sort(key=lambda member_id: member_id != leader)
    synced = [sync(broker, generation, member_id) for member_id in ids[1:]]
    sync(broker, generation, leader, {member_id: member_id.encode() for member_id in ids})
    assert all(s.message.error_code == 0 for s in synced)
    assert state(broker) == "Stable"
    return ids


def test_one_member_has_the_group() -> None:
    broker = Harness()
    member_id = new_member(broker)
    answer = join(broker, member_id).message
    assert (answer.error_code, answer.generation_id, answer.leader) == (0, 1, member_id)
    assert [(m.member_id, m.metadata) for m in answer.members] == [(member_id, b"meta")]
    assert state(broker) == "CompletingRebalance"
    assert sync(broker, 1, member_id, {member_id: b"all"}).message.assignment == b"all"
    assert state(broker) == "Stable"


def test_a_join_waits_for_the_other_members() -> None:
    broker = Harness()
    first = stable_group(broker, 1)[0]
    second = new_member(broker)
    pending = join(broker, second)
    assert not pending.is_done
    assert heartbeat(broker, 1, first) == ErrorCode.REBALANCE_IN_PROGRESS
    again = join(broker, first)
    assert pending.message.generation_id == again.message.generation_id == 2
    assert again.message.leader == first
    assert len(again.message.members) == 2
    assert pending.message.members == []


def test_a_sync_waits_for_the_leader_and_the_disk() -> None:
    broker = Harness()
    ids = [new_member(broker) for _ in range(2)]
    first, second = (join(broker, member_id) for member_id in ids)
    leader, follower = first.message.leader, next(i for i in ids if i != first.message.leader)
    assert second.is_done
    broker.hold_syncs = True
    waiting = sync(broker, 1, follower)
    leading = sync(broker, 1, leader, {leader: b"a", follower: b"b"})
    assert not waiting.is_done
    assert not leading.is_done
    broker.sync()
    assert (leading.message.assignment, waiting.message.assignment) == (b"a", b"b")


def test_a_sync_that_waits_is_called_to_the_next_generation() -> None:
    broker = Harness()
    ids = [new_member(broker) for _ in range(2)]
    first, _ = [join(broker, member_id) for member_id in ids]
    leader = first.message.leader
    waiting = sync(broker, 1, next(member_id for member_id in ids if member_id != leader))
    assert not waiting.is_done
    join(broker, new_member(broker))
    assert waiting.message.error_code == ErrorCode.REBALANCE_IN_PROGRESS


def test_the_rebalance_timeout_ends_the_wait() -> None:
    broker = Harness()
    first = stable_group(broker, 1)[0]
    pending = join(broker, new_member(broker))
    for _ in range(REBALANCE_MS // 5000 - 1):
        broker.advance(5000)
        heartbeat(broker, 1, first)
    assert not pending.is_done
    broker.advance(5000)
    assert pending.message.generation_id == 2
    assert [m.member_id for m in pending.message.members] == [pending.message.member_id]
    assert heartbeat(broker, 1, first) == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_silent_member_expires() -> None:
    broker = Harness()
    ids = stable_group(broker, 2)
    for _ in range(3):
        broker.advance(SESSION_MS / 2)
        assert heartbeat(broker, 1, ids[0]) in (0, ErrorCode.REBALANCE_IN_PROGRESS)
    assert heartbeat(broker, 1, ids[1]) == ErrorCode.UNKNOWN_MEMBER_ID
    assert join(broker, ids[0]).message.generation_id == 2


def test_the_initial_delay_gathers_members() -> None:
    broker = Harness(pairs={"group.initial.rebalance.delay.ms": 3000})
    first = join(broker, new_member(broker))
    broker.advance(2000)
    second = join(broker, new_member(broker))
    broker.advance(2000)
    assert not first.is_done
    broker.advance(3000)
    assert first.message.generation_id == second.message.generation_id == 1
    assert len(first.message.members) == 2


def test_leaving_empties_the_group() -> None:
    broker = Harness()
    ids = stable_group(broker, 2)
    members = [LeaveGroupRequest.MemberIdentity(i) for i in [*ids, "stranger"]]
    answer = broker.call(ApiKey.LEAVE_GROUP, 5, LeaveGroupRequest("g", members))
    assert [m.error_code for m in answer.members] == [0, 0, ErrorCode.UNKNOWN_MEMBER_ID]
    assert state(broker) == "Empty"
    assert broker.call(ApiKey.DELETE_GROUPS, 2, DeleteGroupsRequest(["g"])).results[0].error_code == 0
    assert state(broker) == "Dead"


def test_a_group_with_members_is_not_deleted() -> None:
    broker = Harness()
    stable_group(broker, 1)
    answer = broker.call(ApiKey.DELETE_GROUPS, 2, DeleteGroupsRequest(["g", "unknown"]))
    errors = {result.group_id: result.error_code for result in answer.results}
    assert errors == {"g": ErrorCode.NON_EMPTY_GROUP, "unknown": ErrorCode.GROUP_ID_NOT_FOUND}


class TestErrors:
    @pytest.mark.parametrize(
        ("changes", "error"),
        [
            ({"group_id": ""}, ErrorCode.INVALID_GROUP_ID),
            ({"session_timeout_ms": 10}, ErrorCode.INVALID_SESSION_TIMEOUT),
            ({"member_id": "stranger"}, ErrorCode.UNKNOWN_MEMBER_ID),
            ({"protocols": []}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
            ({"protocol_type": ""}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ],
    )
    def test_joins_that_cannot_be(self, changes: dict[str, Any], error: ErrorCode) -> None:
        protocol = JoinGroupRequest.JoinGroupRequestProtocol("range", b"")
        values: dict[str, Any] = {
            "group_id": "g",
            "session_timeout_ms": SESSION_MS,
            "rebalance_timeout_ms": REBALANCE_MS,
            "protocol_type": "consumer",
            "protocols": [protocol],
        }
        answer = Harness().call(ApiKey.JOIN_GROUP, 5, JoinGroupRequest(**{**values, **changes}))
        assert answer.error_code == error

    def test_a_stranger_protocol(self) -> None:
        broker = Harness()
        stable_group(broker, 1)
        assert join(broker, protocols=[("other", b"")]).message.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        assert join(broker, protocol_type="connect").message.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL

    def test_wrong_generations(self) -> None:
        broker = Harness()
        member_id = stable_group(broker, 1)[0]
        assert heartbeat(broker, 7, member_id) == ErrorCode.ILLEGAL_GENERATION
        assert sync(broker, 7, member_id).message.error_code == ErrorCode.ILLEGAL_GENERATION

    def test_a_full_group(self) -> None:
        broker = Harness(pairs={"group.max.size": 1})
        stable_group(broker, 1)
        assert join(broker).message.error_code == ErrorCode.GROUP_MAX_SIZE_REACHED

    def test_a_member_id_that_is_never_used_expires(self) -> None:
        broker = Harness()
        new_member(broker)
        broker.advance(SESSION_MS)
        assert not broker.core.groups.groups["g"].pending

    def test_a_member_id_outlives_a_rebalance_whose_time_is_up(self) -> None:
        """As in Kafka, it is kept for the session timeout of the member that asked for it, and rebalances wait for it."""
        broker = Harness()
        (member_id,) = stable_group(broker, 1)
        late = JoinGroupRequest("g", 10 * REBALANCE_MS, REBALANCE_MS, "", None, "consumer")
        late.protocols = [JoinGroupRequest.JoinGroupRequestProtocol("range", b"meta")]
        late.member_id = broker.call(ApiKey.JOIN_GROUP, 7, late).member_id
        other = join(broker, new_member(broker))
        rejoined = join(broker, member_id)
        assert not rejoined.is_done
        for _ in range(REBALANCE_MS // 1000):
            assert not rejoined.is_done
            broker.advance(1000)
            heartbeat(broker, 1, member_id)
        assert [answer.message.error_code for answer in (other, rejoined)] == [0, 0]
        assert other.message.generation_id == 2
        joined = broker.send(ApiKey.JOIN_GROUP, 7, late)
        assert not joined.is_done  # it is a member, and the others are to join again
        for member in (member_id, other.message.member_id):
            join(broker, member)
        assert (joined.message.error_code, joined.message.generation_id) == (0, 3)
        assert not broker.core.groups.groups["g"].pending


class TestStaticMembers:
    def join(self, broker: Harness, member_id: str = "", metadata: bytes = b"meta") -> Pending:
        return join(broker, member_id, "one", protocols=[("range", metadata)])

    def stable(self, broker: Harness) -> str:
        answer = self.join(broker).message
        sync(broker, answer.generation_id, answer.member_id, {answer.member_id: b"mine"})
        return str(answer.member_id)

    def test_a_static_member_comes_back_without_a_rebalance(self) -> None:
        broker = Harness()
        old = self.stable(broker)
        answer = self.join(broker).message
        assert answer.generation_id == 1
        assert answer.member_id != old
        assert answer.skip_assignment
        assert sync(broker, 1, answer.member_id).message.assignment == b"mine"
        assert heartbeat(broker, 1, old, "one") == ErrorCode.FENCED_INSTANCE_ID
        assert heartbeat(broker, 1, answer.member_id, "one") == 0

    def test_with_other_metadata_there_is_a_rebalance(self) -> None:
        broker = Harness()
        self.stable(broker)
        assert self.join(broker, metadata=b"other").message.generation_id == 2

    def test_it_is_removed_by_its_instance(self) -> None:
        broker = Harness()
        self.stable(broker)
        member = LeaveGroupRequest.MemberIdentity("", "one")
        answer = broker.call(ApiKey.LEAVE_GROUP, 5, LeaveGroupRequest("g", [member]))
        assert answer.members[0].error_code == 0
        assert state(broker) == "Empty"

    def test_it_survives_a_restart(self) -> None:
        broker = Harness()
        member_id = self.stable(broker)
        broker.kill()
        assert heartbeat(broker, 1, member_id, "one") == 0
        assert self.join(broker).message.generation_id == 1


def test_a_restart_keeps_the_group() -> None:
    broker = Harness()
    ids = stable_group(broker, 2)
    broker.kill()
    assert state(broker) == "Stable"
    assert all(heartbeat(broker, 1, member_id) == 0 for member_id in ids)
    broker.advance(SESSION_MS - 1)
    assert heartbeat(broker, 1, ids[0]) == 0
    broker.advance(SESSION_MS / 2)
    assert heartbeat(broker, 1, ids[1]) == ErrorCode.UNKNOWN_MEMBER_ID


def test_cooperative_members_keep_their_metadata_opaque() -> None:
    broker = Harness()
    ids = [new_member(broker) for _ in range(2)]
    protocols = [[("cooperative-sticky", b"\x00\xffx"), ("range", b"r")], [("range", b"r2")]]
    pending = [join(broker, i, protocols=p) for i, p in zip(ids, protocols, strict=True)]
    answer = next(p.message for p in pending if p.message.members)
    assert answer.protocol_name == "range"
    assert sorted(m.metadata for m in answer.members) == [b"r", b"r2"]


def test_list_groups_filters() -> None:
    broker = Harness()
    stable_group(broker, 1)

    def listed(**filters: Any) -> list[tuple[str, str, str]]:
        answer = broker.call(ApiKey.LIST_GROUPS, 5, ListGroupsRequest(**filters))
        return [(g.group_id, g.group_state, g.group_type) for g in answer.groups]

    assert listed() == [("g", "Stable", "classic")]
    assert listed(states_filter=["Empty"]) == []
    assert listed(states_filter=["stable"], types_filter=["Classic"]) == [("g", "Stable", "classic")]
    assert listed(types_filter=["consumer"]) == []
