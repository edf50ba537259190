"""Committed offsets: durable before anyone sees them, expired when nobody needs them, kept short on disk."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from headwater.broker import state_logs
from headwater.coordinators.groups.classic.group import GroupState, JoinAnswer
from headwater.coordinators.groups.classic.membership import JoinRequest
from headwater.coordinators.groups.coordinator import partition_for
from headwater.coordinators.groups.offsets import Commit
from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from headwater.protocol.messages.delete_groups import DeleteGroupsRequest
from headwater.protocol.messages.delete_topics import DeleteTopicsRequest
from headwater.protocol.messages.leave_group import LeaveGroupRequest
from headwater.protocol.messages.offset_commit import OffsetCommitRequest
from headwater.protocol.messages.offset_delete import OffsetDeleteRequest
from headwater.protocol.messages.offset_fetch import OffsetFetchRequest
from tests.broker.harness import NO_PAIRS, Harness, Pending
from tests.broker.test_slices import TickingClock
from tests.broker.transactional import Producer

from .test_membership import REBALANCE_MS, SESSION_MS, join, stable_group

DAY_MS = 24 * 3_600_000


def commit(
    broker: Harness, offset: int, group: str = "g", generation: int = -1, member: str = "", **more: Any
) -> Pending:
    partition = OffsetCommitRequest.OffsetCommitRequestPartition(more.pop("partition", 0), offset, 3, "note")
    topic = OffsetCommitRequest.OffsetCommitRequestTopic(name=more.pop("topic", "t"), partitions=[partition])
    return broker.send(ApiKey.OFFSET_COMMIT, 8, OffsetCommitRequest(group, generation, member, topics=[topic], **more))


def error_of(pending: Pending) -> int:
    return int(pending.message.topics[0].partitions[0].error_code)


def ask(broker: Harness, group: str = "g") -> Pending:
    topic = OffsetFetchRequest.OffsetFetchRequestTopic("t", [0])
    return broker.send(ApiKey.OFFSET_FETCH, 5, OffsetFetchRequest(group_id=group, topics=[topic]))


def committed(broker: Harness, group: str = "g") -> Any:
    return ask(broker, group).message.topics[0].partitions[0]


def broker_with_topic(pairs: Mapping[str, object] = NO_PAIRS) -> Harness:
    broker = Harness(pairs=pairs)
    broker.create_topic("t", 2)
    return broker


def test_kafkas_hash_finds_the_partition() -> None:
    # The values of Java's "…".hashCode(), without their sign, modulo 50.
    assert partition_for("test", 50) == 3556498 % 50
    assert partition_for("", 50) == 0
    assert partition_for("Hello World", 50) == 862545276 % 50  # its hash is negative
    assert partition_for("polygenelubricants", 50) == 0  # the smallest of all: Java cannot take its sign away
    assert partition_for("g", 50) == 103 % 50


def test_a_commit_is_fetched_with_all_that_it_had() -> None:
    broker = broker_with_topic()
    assert committed(broker).committed_offset == -1
    assert error_of(commit(broker, 42)) == 0
    found = committed(broker)
    assert (found.committed_offset, found.committed_leader_epoch, found.metadata) == (42, 3, "note")
    broker.kill()
    assert committed(broker) == found


def test_nobody_sees_an_offset_that_is_not_on_disk() -> None:
    broker = broker_with_topic()
    commit(broker, 1)
    broker.hold_syncs = True
    pending, asked = commit(broker, 2), ask(broker)
    assert committed(broker, "another group").committed_offset == -1  # waits for nothing
    assert not pending.is_done
    assert not asked.is_done
    broker.sync()
    assert pending.message.topics[0].partitions[0].error_code == 0
    assert asked.message.topics[0].partitions[0].committed_offset == 2


def test_a_client_without_a_member_may_commit_to_a_group_without_members() -> None:
    broker = broker_with_topic()
    assert error_of(commit(broker, 1, generation=1, member="stranger")) == ErrorCode.ILLEGAL_GENERATION
    assert error_of(commit(broker, 1)) == 0
    assert error_of(commit(broker, 1, generation=1, member="stranger")) == ErrorCode.UNKNOWN_MEMBER_ID
    assert error_of(commit(broker, 2, member="stranger")) == 0


def test_only_a_member_of_the_generation_may_commit() -> None:
    broker = broker_with_topic()
    member_id = stable_group(broker, 1)[0]
    assert error_of(commit(broker, 1)) == ErrorCode.UNKNOWN_MEMBER_ID
    assert error_of(commit(broker, 1, generation=1, member="stranger")) == ErrorCode.UNKNOWN_MEMBER_ID
    assert error_of(commit(broker, 1, generation=5, member=member_id)) == ErrorCode.ILLEGAL_GENERATION
    assert error_of(commit(broker, 1, generation=1, member=member_id)) == 0
    assert error_of(commit(broker, 1, group="nobody", generation=3, member="x")) == ErrorCode.ILLEGAL_GENERATION


def test_what_may_be_committed() -> None:
    broker = broker_with_topic(pairs={"offset.metadata.max.bytes": 3})
    assert error_of(commit(broker, 1)) == ErrorCode.OFFSET_METADATA_TOO_LARGE
    assert error_of(commit(broker, 1, topic="unknown")) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert error_of(commit(broker, 1, partition=7)) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_all_offsets_of_a_group_and_of_several() -> None:
    broker = broker_with_topic()
    commit(broker, 1)
    commit(broker, 2, partition=1)
    commit(broker, 3, group="h")
    groups = [OffsetFetchRequest.OffsetFetchRequestGroup(name, topics=None) for name in ("g", "h", "i")]
    answer = broker.call(ApiKey.OFFSET_FETCH, 9, OffsetFetchRequest(groups))
    offsets = {g.group_id: [p.committed_offset for t in g.topics for p in t.partitions] for g in answer.groups}
    assert offsets == {"g": [1, 2], "h": [3], "i": []}


def test_by_topic_id() -> None:
    broker = broker_with_topic()
    topic_id = broker.core.metadata.topics["t"].topic_id
    partition = OffsetCommitRequest.OffsetCommitRequestPartition(0, 9)
    wanted = [
        OffsetCommitRequest.OffsetCommitRequestTopic(topic_id, partitions=[partition]),
        OffsetCommitRequest.OffsetCommitRequestTopic(bytes(16), partitions=[partition]),
    ]
    answer = broker.call(ApiKey.OFFSET_COMMIT, 10, OffsetCommitRequest("g", topics=wanted))
    assert [t.partitions[0].error_code for t in answer.topics] == [0, ErrorCode.UNKNOWN_TOPIC_ID]
    topics = [OffsetFetchRequest.OffsetFetchRequestTopics(topic_id, partition_indexes=[0])]
    groups = [OffsetFetchRequest.OffsetFetchRequestGroup("g", topics=topics)]
    fetched = broker.call(ApiKey.OFFSET_FETCH, 10, OffsetFetchRequest(groups))
    assert fetched.groups[0].topics[0].partitions[0].committed_offset == 9


def test_offsets_expire_when_a_group_is_long_gone() -> None:
    broker = broker_with_topic()
    commit(broker, 1)
    broker.clock.advance(6 * DAY_MS)
    broker.core.expire_offsets()
    broker.sync()
    assert committed(broker).committed_offset == 1
    broker.clock.advance(1 * DAY_MS)
    broker.core.expire_offsets()
    broker.sync()
    assert committed(broker).committed_offset == -1
    broker.kill()
    assert committed(broker).committed_offset == -1
    assert broker.core.groups.group_ids() == []


def test_offsets_are_deleted_on_request_and_with_their_topic() -> None:
    broker = broker_with_topic()
    commit(broker, 1)
    commit(broker, 2, partition=1)
    partition = OffsetDeleteRequest.OffsetDeleteRequestPartition(0)
    topic = OffsetDeleteRequest.OffsetDeleteRequestTopic("t", [partition])
    answer = broker.call(ApiKey.OFFSET_DELETE, 0, OffsetDeleteRequest("g", [topic]))
    assert (answer.error_code, answer.topics[0].partitions[0].error_code) == (0, 0)
    assert committed(broker).committed_offset == -1
    assert broker.call(ApiKey.OFFSET_DELETE, 0, OffsetDeleteRequest("none")).error_code == ErrorCode.GROUP_ID_NOT_FOUND
    broker.call(ApiKey.DELETE_TOPICS, 5, DeleteTopicsRequest(topic_names=["t"]))
    assert broker.core.groups.offsets.groups == {}


def empty_by_removal(broker: Harness) -> None:
    commit(broker, 1)
    partition = OffsetDeleteRequest.OffsetDeleteRequestPartition(0)
    topic = OffsetDeleteRequest.OffsetDeleteRequestTopic("t", [partition])
    assert broker.call(ApiKey.OFFSET_DELETE, 0, OffsetDeleteRequest("g", [topic])).error_code == ErrorCode.NONE


def empty_by_abort(broker: Harness) -> None:
    groups = broker.core.groups
    groups.commit_pending("g", [Commit("t", 0, 1, 0, None)], 7, 0)
    broker.sync()
    groups.end_transaction(7, lambda group_id: True, commit=False)


@pytest.mark.parametrize("empty", [empty_by_removal, empty_by_abort])
def test_a_group_without_offsets_is_known_until_the_next_cleanup(empty: Callable[[Harness], None]) -> None:
    broker = broker_with_topic()
    groups = broker.core.groups
    empty(broker)
    assert (groups.group_ids(), groups.is_known("g"), groups.state_of("g")) == (["g"], True, GroupState.EMPTY)
    assert groups.check_commit("g", 1, "m", None, []) is ErrorCode.UNKNOWN_MEMBER_ID
    assert groups.remove_offsets("g", [("t", 0)]) == {("t", 0): ErrorCode.NONE}
    for protocols, code in (
        ([], ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ([("range", b"")], ErrorCode.UNKNOWN_MEMBER_ID),
    ):
        wanted = JoinRequest("g", "m", None, "client", "host", 10_000, 10_000, "consumer", protocols, False, False)
        answer = groups.join(wanted)
        assert isinstance(answer, JoinAnswer)
        assert answer.error is code
    broker.core.expire_offsets()
    broker.sync()
    assert (groups.group_ids(), groups.is_known("g"), groups.state_of("g")) == ([], False, GroupState.DEAD)
    assert groups.check_commit("g", 1, "m", None, []) is ErrorCode.GROUP_ID_NOT_FOUND
    assert groups.remove_offsets("g", [("t", 0)]) is ErrorCode.GROUP_ID_NOT_FOUND
    broker.kill()
    assert broker.core.groups.group_ids() == []


def test_a_group_without_offsets_can_be_deleted() -> None:
    broker = broker_with_topic()
    empty_by_removal(broker)
    for code in (ErrorCode.NONE, ErrorCode.GROUP_ID_NOT_FOUND):
        answer = broker.call(ApiKey.DELETE_GROUPS, 2, DeleteGroupsRequest(["g"]))
        assert answer.results[0].error_code == code
    assert broker.core.groups.group_ids() == []


def test_what_is_pending_is_removed_with_its_group_and_with_its_topic() -> None:
    broker = broker_with_topic()
    groups = broker.core.groups
    for group_id in ("g", "h"):
        groups.commit_pending(group_id, [Commit("t", n, 1, 0, None) for n in range(2)], 7, 0)
    groups.commit_pending("h", [Commit("u", 0, 1, 0, None)], 7, 0)
    broker.sync()
    answer = broker.call(ApiKey.DELETE_GROUPS, 2, DeleteGroupsRequest(["g"]))
    assert answer.results[0].error_code == ErrorCode.NONE
    groups.forget_topic("t", 4)
    broker.sync()
    assert list(groups.offsets.pending_counts) == [("h", ("u", 0))]
    groups.end_transaction(7, lambda group_id: True, commit=True)
    assert (groups.group_ids(), list(groups.offsets.of_group("h"))) == (["h"], [("u", 0)])


def test_an_empty_consumer_group_that_is_removed_is_forgotten_with_its_offsets() -> None:
    broker = broker_with_topic()
    member = "member"
    joining = ConsumerGroupHeartbeatRequest(
        "g", member, 0, rebalance_timeout_ms=1000, subscribed_topic_names=["t"], topic_partitions=[]
    )
    epoch = broker.call(ApiKey.CONSUMER_GROUP_HEARTBEAT, 1, joining).member_epoch
    partition = OffsetCommitRequest.OffsetCommitRequestPartition(0, 5)
    topic = OffsetCommitRequest.OffsetCommitRequestTopic(name="t", partitions=[partition])
    broker.call(ApiKey.OFFSET_COMMIT, 9, OffsetCommitRequest("g", epoch, member, topics=[topic]))
    broker.call(ApiKey.CONSUMER_GROUP_HEARTBEAT, 1, ConsumerGroupHeartbeatRequest("g", member, -1))
    answer = broker.call(ApiKey.DELETE_GROUPS, 2, DeleteGroupsRequest(["g"]))
    assert answer.results[0].error_code == ErrorCode.NONE
    assert broker.core.groups.offsets.names == set()


def test_many_commits_do_not_make_restarts_slow() -> None:
    broker = broker_with_topic()
    for n in range(6000):
        commit(broker, n)
    broker.core.shorten_state_logs()
    broker.sync()
    broker.core.store.checkpoint()
    topic = broker.core.metadata.topics["__consumer_offsets"]
    log = broker.core.partitions.log(topic, partition_for("g", topic.partitions))
    assert log.end_offset - log.start_offset < 10
    broker.kill()
    assert committed(broker).committed_offset == 5999


def test_a_log_is_shortened_when_its_state_is_on_disk_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_logs, "SNAPSHOT_RECORDS_MIN", 10)
    broker = broker_with_topic()
    for n in range(20):
        commit(broker, n)
    topic = broker.core.metadata.topics["__consumer_offsets"]
    log = broker.core.partitions.log(topic, partition_for("g", topic.partitions))
    end = log.end_offset
    broker.hold_syncs = True
    broker.core.shorten_state_logs()
    assert (log.start_offset, log.end_offset > end) == (0, True)
    broker.sync()
    assert log.start_offset == end
    assert committed(broker).committed_offset == 19


def test_a_group_between_generations_is_not_written_again() -> None:
    broker = broker_with_topic()
    member_id = stable_group(broker, 1)[0]
    for n in range(6000):
        commit(broker, n, generation=1, member=member_id)
    pending = join(broker, member_id)
    assert pending.message.generation_id == 2
    topic = broker.core.metadata.topics["__consumer_offsets"]
    log = broker.core.partitions.log(topic, partition_for("g", topic.partitions))
    end = log.end_offset
    broker.core.shorten_state_logs()
    assert log.end_offset == end
    broker.kill()
    assert broker.core.groups.groups["g"].generation == 1
    assert broker.core.groups.groups["g"].members[member_id].assignment == member_id.encode()


def test_a_group_without_members_and_offsets_is_forgotten() -> None:
    """Its members never committed anything: nothing would ever remove it, in memory and on disk."""
    broker = broker_with_topic()
    ids = stable_group(broker)
    broker.core.expire_offsets()
    broker.sync()
    assert broker.core.groups.group_ids() == ["g"]  # it has members
    members = [LeaveGroupRequest.MemberIdentity(member_id) for member_id in ids]
    broker.call(ApiKey.LEAVE_GROUP, 4, LeaveGroupRequest("g", members=members))
    broker.advance(10 * 60_000)  # offsets.retention.check.interval.ms
    assert broker.core.groups.group_ids() == []
    broker.kill()
    assert broker.core.groups.group_ids() == []


def test_a_group_whose_offsets_wait_for_a_transaction_is_kept() -> None:
    broker = broker_with_topic()
    stable_group(broker)
    producer = Producer(broker, "tx")
    assert producer.init().error_code == 0
    assert producer.commit_offset("g", "t", 7) == 0
    broker.advance(REBALANCE_MS + SESSION_MS)  # the members are gone
    broker.core.expire_offsets()
    broker.sync()
    assert broker.core.groups.group_ids() == ["g"]
    assert producer.end(commit=True) == 0
    assert committed(broker).committed_offset == 7


def test_an_offset_that_a_transaction_may_move_does_not_expire() -> None:
    broker = broker_with_topic()
    commit(broker, 5)
    producer = Producer(broker, "tx")
    assert producer.init().error_code == 0
    assert producer.commit_offset("g", "t", 7) == 0
    broker.clock.advance(8 * DAY_MS)
    broker.core.expire_offsets()
    broker.sync()
    assert committed(broker).committed_offset == 5
    assert producer.end(commit=False) == 0
    broker.core.expire_offsets()
    broker.sync()
    assert committed(broker).committed_offset == -1


def test_long_lists_of_groups_are_looked_through_in_slices() -> None:
    broker = Harness(clock=TickingClock())
    broker.create_topic("t")
    for number in range(50):
        commit(broker, 1, group=f"g{number}")
    broker.clock.advance(8 * DAY_MS)
    broker.core.expire_offsets()
    broker.sync()
    assert 0 < len(broker.core.groups.group_ids()) < 50
    for _ in range(100):  # there are other chores, and each has its turn
        broker.core.timers.run_due()
        broker.sync()
    assert broker.core.groups.group_ids() == []
