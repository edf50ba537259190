"""KIP-848's groups: joining, reconciling, leaving, fencing, regular expressions, static members, both protocols at once."""

import errno
from collections.abc import Mapping
from typing import Any

import pytest

from headwater.protocol.apis import ApiKey
from headwater.protocol.compiled import decode, encode
from headwater.protocol.config_resources import ConfigResourceType
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from headwater.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from headwater.protocol.messages.delete_groups import DeleteGroupsRequest
from headwater.protocol.messages.delete_topics import DeleteTopicsRequest
from headwater.protocol.messages.describe_groups import DescribeGroupsRequest
from headwater.protocol.messages.embedded import ConsumerProtocolAssignment, ConsumerProtocolSubscription
from headwater.protocol.messages.heartbeat import HeartbeatRequest
from headwater.protocol.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from headwater.protocol.messages.join_group import JoinGroupRequest
from headwater.protocol.messages.leave_group import LeaveGroupRequest
from headwater.protocol.messages.list_groups import ListGroupsRequest
from headwater.protocol.messages.offset_commit import OffsetCommitRequest
from headwater.protocol.messages.sync_group import SyncGroupRequest
from tests.broker.harness import NO_PAIRS, Harness

GROUP = "g"
Topics = ConsumerGroupHeartbeatRequest.TopicPartitions


def new_broker(partitions: int = 6, pairs: Mapping[str, object] = NO_PAIRS) -> Harness:
    broker = Harness(pairs=pairs)
    broker.create_topic("t", partitions)
    return broker


class Member:
    """A client of the new protocol, as clients are: it takes what it is given and reports what it has."""

    def __init__(self, broker: Harness, member_id: str, **joining: Any) -> None:
        self.broker = broker
        self.member_id = member_id
        self.epoch = 0
        self.assigned: dict[bytes, list[int]] = {}
        self.joining: dict[str, Any] = {"subscribed_topic_names": ["t"], "rebalance_timeout_ms": 60_000, **joining}

    def send(self, epoch: int, **values: Any) -> Any:
        instance_id = self.joining.get("instance_id")
        values.setdefault("instance_id", instance_id)
        request = ConsumerGroupHeartbeatRequest(GROUP, self.member_id, epoch, **values)
        return self.broker.call(ApiKey.CONSUMER_GROUP_HEARTBEAT, 1, request)

    def take(self, answer: Any) -> Any:
        if answer.error_code == 0:
            self.epoch = answer.member_epoch
            if answer.assignment is not None:
                self.assigned = {t.topic_id: list(t.partitions) for t in answer.assignment.topic_partitions}
        return answer

    def join(self) -> Any:
        self.assigned = {}
        return self.take(self.send(0, topic_partitions=[], **self.joining))

    def beat(self, *, reports: bool = True) -> Any:
        owned = [Topics(topic_id, parts) for topic_id, parts in self.assigned.items()] if reports else None
        return self.take(self.send(self.epoch, topic_partitions=owned))

    def leave(self, epoch: int = -1) -> Any:
        return self.send(epoch)

    def partitions(self, name: str = "t") -> list[int]:
        return sorted(self.assigned.get(self.broker.core.metadata.topics[name].topic_id, []))


def settle(*members: Member) -> None:
    """Heartbeats until nobody is given anything new."""
    for _ in range(10):
        before = [(m.epoch, dict(m.assigned)) for m in members]
        for member in members:
            assert member.beat().error_code == 0
        if before == [(m.epoch, dict(m.assigned)) for m in members]:
            return
    raise AssertionError("the group does not settle")


def describe(broker: Harness) -> Any:
    return broker.call(ApiKey.CONSUMER_GROUP_DESCRIBE, 1, ConsumerGroupDescribeRequest([GROUP], True)).groups[0]


@pytest.mark.parametrize("assignor", ["uniform", "range", None])
def test_partitions_are_shared_and_no_two_members_have_one(assignor: str | None) -> None:
    broker = new_broker()
    a, b, c = (Member(broker, name, server_assignor=assignor) for name in "abc")
    assert a.join().error_code == 0
    assert a.partitions() == [0, 1, 2, 3, 4, 5]
    b.join()
    assert b.partitions() == []  # a has yet to give up its share
    assert describe(broker).group_state == "Reconciling"
    settle(a, b)
    assert (len(a.partitions()), len(b.partitions())) == (3, 3)
    c.join()
    settle(a, b, c)
    assert sorted(a.partitions() + b.partitions() + c.partitions()) == [0, 1, 2, 3, 4, 5]
    assert {len(m.partitions()) for m in (a, b, c)} == {2}
    described = describe(broker)
    assert (described.group_state, described.assignor_name) == ("Stable", assignor or "uniform")
    assert {m.member_epoch for m in described.members} == {described.group_epoch}


def test_a_member_that_reports_nothing_keeps_what_it_should_give_up_until_its_time_is_up() -> None:
    broker = new_broker()
    a, b = Member(broker, "a", rebalance_timeout_ms=20_000), Member(broker, "b")
    a.join()
    b.join()
    for _ in range(5):
        a.beat(reports=False)
        b.beat()
    assert b.partitions() == []
    for _ in range(5):
        broker.advance(5_000)
        b.beat()
        a.send(a.epoch)
    assert a.beat().error_code == ErrorCode.UNKNOWN_MEMBER_ID
    b.beat()
    assert b.partitions() == [0, 1, 2, 3, 4, 5]


def test_a_silent_member_is_out_after_its_session_and_one_that_leaves_is_out_at_once() -> None:
    broker = new_broker()
    a, b, c = (Member(broker, name) for name in "abc")
    for member in (a, b, c):
        member.join()
    settle(a, b, c)
    assert c.leave().member_epoch == -1
    settle(a, b)
    for _ in range(10):
        broker.advance(5_000)
        a.beat()
    assert b.beat().error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert a.partitions() == [0, 1, 2, 3, 4, 5]


def test_a_change_that_cannot_be_written_leaves_the_group_as_it_was() -> None:
    broker = new_broker()
    a, b = Member(broker, "a"), Member(broker, "b")
    a.join()
    before = describe(broker)
    broker.files.fault = lambda call, path: errno.ENOSPC if call == "write" else None
    assert b.join().error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert a.leave().error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    broker.files.fault = None
    assert describe(broker) == before
    assert (a.beat().member_epoch, a.partitions()) == (a.epoch, [0, 1, 2, 3, 4, 5])
    assert b.join().error_code == 0
    settle(a, b)
    broker.kill()
    assert [member.member_id for member in describe(broker).members] == ["a", "b"]


def test_a_member_whose_leaving_could_not_be_written_is_out_when_its_session_is_over() -> None:
    broker = new_broker()
    a, b = Member(broker, "a"), Member(broker, "b")
    a.join()
    b.join()
    settle(a, b)
    broker.files.fault = lambda call, path: errno.ENOSPC if call == "write" else None
    assert b.leave().error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    for silent_s in range(0, 60, 5):  # the first removal by the broker cannot be written either
        broker.advance(5_000)
        a.send(a.epoch)
        if silent_s == 45:
            assert len(describe(broker).members) == 2
            broker.files.fault = None
    for _ in range(9):
        broker.advance(5_000)
        a.beat()
    settle(a)
    assert a.partitions() == [0, 1, 2, 3, 4, 5]


def test_members_and_assignments_outlive_restarts() -> None:
    broker = new_broker()
    a, b = Member(broker, "a"), Member(broker, "b")
    a.join()
    b.join()
    a.beat()
    for how in ("kill", "restart"):
        getattr(broker, how)()
        epochs = a.epoch, b.epoch
        settle(a, b)
        assert (len(a.partitions()), len(b.partitions())) == (3, 3)
        assert how == "kill" or epochs == (a.epoch, b.epoch)
    broker.core.groups.consumers.groups.clear()
    broker.kill()
    described = describe(broker)
    assert (described.group_state, len(described.members)) == ("Stable", 2)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"rebalance_timeout_ms": -1}, ErrorCode.INVALID_REQUEST),
        ({"subscribed_topic_names": None}, ErrorCode.INVALID_REQUEST),
        ({"topic_partitions": [Topics(bytes(16), [1])]}, ErrorCode.INVALID_REQUEST),
        ({"server_assignor": "none"}, ErrorCode.UNSUPPORTED_ASSIGNOR),
        ({"rack_id": ""}, ErrorCode.INVALID_REQUEST),
        ({"instance_id": ""}, ErrorCode.INVALID_REQUEST),
        ({"subscribed_topic_regex": "("}, ErrorCode.INVALID_REGULAR_EXPRESSION),
        ({"subscribed_topic_regex": "a" * 5000}, ErrorCode.INVALID_REGULAR_EXPRESSION),
    ],
)
def test_what_cannot_be_right_is_refused_and_leaves_no_group(changes: dict[str, Any], error: ErrorCode) -> None:
    broker = new_broker()
    member = Member(broker, "a")
    assert member.send(0, **{"topic_partitions": [], **member.joining, **changes}).error_code == error
    assert broker.core.groups.consumers.groups == {}


def test_epochs_fence() -> None:
    broker = new_broker()
    a, b = Member(broker, "a"), Member(broker, "b")
    assert a.send(3).error_code == ErrorCode.GROUP_ID_NOT_FOUND
    a.join()
    assert b.send(3).error_code == ErrorCode.UNKNOWN_MEMBER_ID
    first = a.epoch
    assert a.send(first + 1).error_code == ErrorCode.FENCED_MEMBER_EPOCH
    b.join()
    a.beat()
    a.beat()
    assert a.epoch > first
    owned = [Topics(topic_id, parts) for topic_id, parts in a.assigned.items()]
    assert a.send(first, topic_partitions=owned).error_code == 0  # the answer with the new epoch may have been lost
    assert a.send(first, topic_partitions=[Topics(owned[0].topic_id, list(range(6)))]).error_code == 110
    assert a.send(first).error_code == ErrorCode.FENCED_MEMBER_EPOCH
    assert a.send(-3).error_code == ErrorCode.INVALID_REQUEST


def test_another_assignor_of_the_group_is_a_new_epoch() -> None:
    broker = new_broker()
    a = Member(broker, "a")
    a.join()
    first = a.epoch
    a.joining["server_assignor"] = "uniform"  # the default
    assert a.join().member_epoch == first
    a.joining["server_assignor"] = "range"
    assert a.join().member_epoch == first + 1
    assert describe(broker).assignor_name == "range"


def set_config(broker: Harness, kind: ConfigResourceType, name: str, key: str, value: int) -> int:
    """The error code."""
    change = IncrementalAlterConfigsRequest.AlterableConfig(key, 0, str(value))
    resource = IncrementalAlterConfigsRequest.AlterConfigsResource(kind, name, [change])
    answer = broker.call(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, IncrementalAlterConfigsRequest([resource]))
    return int(answer.responses[0].error_code)


def test_the_interval_between_assignments_is_the_groups_or_the_brokers_within_the_bounds() -> None:
    key = "group.consumer.assignment.interval.ms"
    pairs = {key: 1_000, "group.consumer.max.assignment.interval.ms": 20_000}
    broker = new_broker(pairs=pairs)

    def is_delayed(interval_ms: int) -> bool:
        a, b = Member(broker, "a"), Member(broker, "b")
        a.join()
        broker.clock.advance(interval_ms - 1)
        b.join()
        was_delayed = describe(broker).group_state == "Assigning"
        broker.clock.advance(1)
        a.beat()
        assert describe(broker).group_state == "Reconciling"
        a.leave()
        b.leave()
        broker.advance(60_000)
        return bool(was_delayed)

    assert is_delayed(1_000)
    assert set_config(broker, ConfigResourceType.BROKER, "", key, 7_000) == ErrorCode.NONE
    assert is_delayed(7_000)
    group_key = "consumer.assignment.interval.ms"
    assert set_config(broker, ConfigResourceType.GROUP, GROUP, group_key, 20_001) == ErrorCode.INVALID_CONFIG
    assert set_config(broker, ConfigResourceType.GROUP, GROUP, group_key, 20_000) == ErrorCode.NONE
    assert is_delayed(20_000)
    broker.pairs["group.consumer.max.assignment.interval.ms"] = "9000"
    broker.restart()
    assert is_delayed(9_000)


def test_a_member_is_described_with_what_it_has_not_given_back_yet() -> None:
    broker = new_broker()
    a, b = Member(broker, "a"), Member(broker, "b")
    a.join()
    b.join()
    assert a.beat().error_code == 0
    assert len(a.partitions()) == 3
    members = {m.member_id: m for m in describe(broker).members}
    assert members["a"].assignment.topic_partitions[0].partitions == list(range(6))
    assert members["a"].subscribed_topic_regex == ""
    a.beat()
    members = {m.member_id: m for m in describe(broker).members}
    assert members["a"].assignment.topic_partitions[0].partitions == a.partitions()


def test_static_members_come_back_to_what_they_had() -> None:
    broker = new_broker()
    a = Member(broker, "a", instance_id="one")
    b = Member(broker, "b", instance_id="two")
    a.join()
    b.join()
    settle(a, b)
    had, epoch = a.partitions(), a.epoch
    early = Member(broker, "a2", instance_id="one")
    assert early.join().error_code == ErrorCode.UNRELEASED_INSTANCE_ID
    assert Member(broker, "a", instance_id="one").join().error_code == ErrorCode.UNRELEASED_INSTANCE_ID
    assert a.leave(-2).member_epoch == -2
    broker.advance(10_000)
    back = Member(broker, "a2", instance_id="one")
    assert back.join().error_code == 0
    assert (back.partitions(), back.epoch) == (had, epoch)
    assert a.beat().error_code == ErrorCode.FENCED_INSTANCE_ID
    settle(back, b)


def test_regular_expressions_find_topics_as_they_come_and_go() -> None:
    broker = new_broker()
    broker.create_topic("orders-eu", 2)
    member = Member(broker, "a", subscribed_topic_names=None, subscribed_topic_regex="orders-.*")
    member.join()
    assert member.partitions("orders-eu") == [0, 1]
    broker.create_topic("orders-us", 1)
    member.beat()
    assert member.partitions("orders-us") == [0]
    broker.call(ApiKey.DELETE_TOPICS, 5, DeleteTopicsRequest(topic_names=["orders-eu"]))
    member.beat()
    member.beat()
    assert list(member.assigned) == [broker.core.metadata.topics["orders-us"].topic_id]
    broker.kill()
    assert describe(broker).members[0].subscribed_topic_regex == "orders-.*"
    assert member.beat().error_code == 0


def commit(broker: Harness, member_id: str, epoch: int, partition: int = 0, version: int = 9) -> int:
    """The error code."""
    offset = OffsetCommitRequest.OffsetCommitRequestPartition(partition, 5)
    topic = OffsetCommitRequest.OffsetCommitRequestTopic(name="t", partitions=[offset])
    answer = broker.call(ApiKey.OFFSET_COMMIT, version, OffsetCommitRequest(GROUP, epoch, member_id, topics=[topic]))
    return int(answer.topics[0].partitions[0].error_code)


def test_only_members_commit() -> None:
    broker = new_broker()
    a = Member(broker, "a")
    assert commit(broker, "a", 1) == ErrorCode.GROUP_ID_NOT_FOUND
    a.join()
    assert commit(broker, "a", a.epoch) == 0
    assert commit(broker, "a", a.epoch, version=8) == ErrorCode.UNSUPPORTED_VERSION
    assert commit(broker, "a", a.epoch - 1) == ErrorCode.STALE_MEMBER_EPOCH
    assert commit(broker, "a", a.epoch + 1) == ErrorCode.STALE_MEMBER_EPOCH
    assert commit(broker, "nobody", a.epoch) == ErrorCode.UNKNOWN_MEMBER_ID
    assert commit(broker, "", -1) == ErrorCode.UNKNOWN_MEMBER_ID
    a.leave()
    assert commit(broker, "", -1) == 0


@pytest.mark.parametrize("restarts", [False, True])
def test_an_older_epoch_commits_what_it_has_had_since(restarts: bool) -> None:
    broker = new_broker()
    a, b = Member(broker, "a"), Member(broker, "b")
    a.join()
    first = a.epoch
    b.join()
    settle(a, b)
    assert a.epoch > first
    if restarts:
        broker.kill()
    kept, given_up = a.partitions()[0], b.partitions()[0]
    assert commit(broker, "a", first, kept) == 0
    assert commit(broker, "a", first, given_up) == ErrorCode.STALE_MEMBER_EPOCH
    assert commit(broker, "a", first - 1, kept) == ErrorCode.STALE_MEMBER_EPOCH
    assert commit(broker, "b", first, given_up) == ErrorCode.STALE_MEMBER_EPOCH  # it came with a later one


def test_groups_are_listed_described_and_deleted_by_their_type() -> None:
    broker = new_broker()
    a = Member(broker, "a")
    a.join()
    listed = broker.call(ApiKey.LIST_GROUPS, 5, ListGroupsRequest()).groups
    assert [(g.group_id, g.group_type, g.protocol_type) for g in listed] == [(GROUP, "consumer", "consumer")]
    assert broker.call(ApiKey.LIST_GROUPS, 5, ListGroupsRequest(types_filter=["classic"])).groups == []
    classic = broker.call(ApiKey.DESCRIBE_GROUPS, 6, DescribeGroupsRequest([GROUP])).groups[0]
    assert (classic.error_code, classic.group_state) == (ErrorCode.GROUP_ID_NOT_FOUND, "Dead")
    delete = DeleteGroupsRequest([GROUP])
    assert broker.call(ApiKey.DELETE_GROUPS, 2, delete).results[0].error_code == ErrorCode.NON_EMPTY_GROUP
    a.leave()
    assert broker.call(ApiKey.DELETE_GROUPS, 2, delete).results[0].error_code == 0
    assert describe(broker).error_code == ErrorCode.GROUP_ID_NOT_FOUND
    broker.kill()
    assert describe(broker).error_code == ErrorCode.GROUP_ID_NOT_FOUND


def test_a_full_group_takes_no_more_members() -> None:
    broker = new_broker(pairs={"group.consumer.max.size": 1})
    Member(broker, "a").join()
    assert Member(broker, "b").join().error_code == ErrorCode.GROUP_MAX_SIZE_REACHED


def test_empty_groups_go_with_their_last_offset() -> None:
    broker = new_broker(pairs={"offsets.retention.minutes": 1, "offsets.retention.check.interval.ms": 10_000})
    a = Member(broker, "a")
    a.join()
    assert commit(broker, "a", a.epoch) == 0
    for _ in range(20):
        broker.advance(5_000)
        a.beat()
    assert describe(broker).group_state == "Stable"
    a.leave()
    broker.advance(90_000)
    assert describe(broker).error_code == ErrorCode.GROUP_ID_NOT_FOUND
    broker.kill()
    assert broker.core.groups.group_ids() == []


# -- both protocols


class ClassicMember:
    """A consumer of the classic protocol with the cooperative assignor: it says what it owns and gives up only that."""

    def __init__(self, broker: Harness, topic: str = "t") -> None:
        self.broker = broker
        self.topic = topic
        self.member_id, self.generation = "", -1
        self.owned: list[int] = []

    def subscription(self) -> bytes:
        owned = [ConsumerProtocolSubscription.TopicPartition(self.topic, self.owned)] if self.owned else []
        return b"\0\1" + encode(ConsumerProtocolSubscription([self.topic], owned_partitions=owned), 1)

    def join(self) -> Any:
        protocol = JoinGroupRequest.JoinGroupRequestProtocol("cooperative-sticky", self.subscription())
        for _ in range(2):
            request = JoinGroupRequest(GROUP, 10_000, 60_000, self.member_id, None, "consumer", [protocol])
            pending = self.broker.send(ApiKey.JOIN_GROUP, 5, request)
            if not pending.is_done or pending.message.error_code != ErrorCode.MEMBER_ID_REQUIRED:
                break
            self.member_id = pending.message.member_id
        return pending

    def joined(self, answer: Any) -> None:
        assert answer.error_code == 0, answer
        self.member_id, self.generation = answer.member_id, answer.generation_id
        self.protocol = answer.protocol_name

    def sync(self, assignments: dict[str, list[int]] | None = None) -> Any:
        wanted = [
            SyncGroupRequest.SyncGroupRequestAssignment(member_id, b"\0\1" + encode(self.assignment(parts), 1))
            for member_id, parts in (assignments or {}).items()
        ]
        request = SyncGroupRequest(GROUP, self.generation, self.member_id, None, None, None, wanted)
        answer = self.broker.call(ApiKey.SYNC_GROUP, 4, request)
        if answer.error_code == 0:
            message = decode(ConsumerProtocolAssignment, 1, answer.assignment, 2)[0]
            self.owned = sorted(n for topic in message.assigned_partitions for n in topic.partitions)
        return answer

    def assignment(self, partitions: list[int]) -> ConsumerProtocolAssignment:
        return ConsumerProtocolAssignment([ConsumerProtocolAssignment.TopicPartition(self.topic, partitions)])

    def beat(self) -> int:
        return int(
            self.broker.call(ApiKey.HEARTBEAT, 3, HeartbeatRequest(GROUP, self.generation, self.member_id)).error_code
        )

    def follow(self) -> None:
        """What a client does at each heartbeat."""
        if self.beat() == ErrorCode.REBALANCE_IN_PROGRESS:
            self.joined(self.join().message)
            assert self.sync().error_code == 0


def stable_classic_group(broker: Harness) -> ClassicMember:
    classic = ClassicMember(broker)
    classic.joined(classic.join().message)
    assert classic.sync({classic.member_id: list(range(6))}).error_code == 0
    assert classic.owned == list(range(6))
    return classic


def settle_both(classic: ClassicMember, member: Member) -> None:
    for _ in range(8):
        classic.follow()
        assert member.beat().error_code == 0


def test_a_group_moves_to_the_new_protocol_and_back_while_its_members_run() -> None:
    broker = new_broker()
    classic = stable_classic_group(broker)
    member = Member(broker, "new")
    assert member.join().error_code == 0
    settle_both(classic, member)
    assert sorted(classic.owned + member.partitions()) == list(range(6))
    assert len(classic.owned) == len(member.partitions()) == 3
    assert {m.member_type for m in describe(broker).members} == {0, 1}
    broker.kill()
    settle_both(classic, member)
    assert member.leave().error_code == 0
    assert classic.beat() == ErrorCode.REBALANCE_IN_PROGRESS
    again = classic.join()
    classic.joined(again.message)
    assert again.message.leader == classic.member_id
    assert classic.sync({classic.member_id: list(range(6))}).error_code == 0
    assert classic.owned == list(range(6))
    listed = broker.call(ApiKey.LIST_GROUPS, 5, ListGroupsRequest()).groups
    assert [g.group_type for g in listed] == ["classic"]


def test_a_classic_member_joins_a_group_of_the_new_protocol_and_leaves() -> None:
    broker = new_broker()
    member = Member(broker, "new")
    member.join()
    classic = ClassicMember(broker)
    classic.joined(classic.join().message)
    classic.sync()
    settle_both(classic, member)
    assert (len(classic.owned), len(member.partitions())) == (3, 3)
    leaving = LeaveGroupRequest(GROUP, members=[LeaveGroupRequest.MemberIdentity(classic.member_id)])
    assert broker.call(ApiKey.LEAVE_GROUP, 4, leaving).members[0].error_code == 0
    member.beat()
    assert member.partitions() == list(range(6))
    assert classic.beat() == ErrorCode.UNKNOWN_MEMBER_ID


def test_other_protocol_types_stay_out() -> None:
    broker = new_broker()
    Member(broker, "new").join()
    protocol = JoinGroupRequest.JoinGroupRequestProtocol("x", b"anything")
    request = JoinGroupRequest(GROUP, 10_000, 60_000, "", None, "connect", [protocol])
    assert broker.call(ApiKey.JOIN_GROUP, 3, request).error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL


def test_the_policy_can_keep_the_protocols_apart() -> None:
    broker = new_broker(pairs={"group.consumer.migration.policy": "disabled"})
    stable_classic_group(broker)
    assert Member(broker, "new").join().error_code == ErrorCode.GROUP_ID_NOT_FOUND


def test_an_empty_classic_group_makes_way() -> None:
    broker = new_broker()
    classic = stable_classic_group(broker)
    leaving = LeaveGroupRequest(GROUP, members=[LeaveGroupRequest.MemberIdentity(classic.member_id)])
    broker.call(ApiKey.LEAVE_GROUP, 4, leaving)
    member = Member(broker, "new")
    assert member.join().error_code == 0
    broker.kill()
    assert member.beat().error_code == 0
    member.leave()
    classic = ClassicMember(broker)
    classic.joined(classic.join().message)
    assert classic.sync({classic.member_id: [0]}).error_code == 0
