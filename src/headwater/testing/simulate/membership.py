"""Membership of simulated consumers in a group: one interface for both protocols.

    join     becomes a member; `assigned` then has the member's partitions
    beat     sends a heartbeat: False if something has changed. Then the consumer commits its progress, and calls
    settle   gives up partitions and accepts new ones; False if the member was removed and has to join again
    leave    leaves the group

Every commit carries `epoch` and `member_id`, so that the broker can refuse a member that has been replaced.
"""

import struct
from collections.abc import Sequence

from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)
from headwater.protocol.messages.heartbeat import HeartbeatRequest
from headwater.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse
from headwater.protocol.messages.leave_group import LeaveGroupRequest
from headwater.protocol.messages.sync_group import SyncGroupRequest
from headwater.testing.simulate.client import RETRIABLE, Call, Client
from headwater.testing.simulate.scene import Place, TopicLife

SESSION_MS = 6000
REBALANCE_MS = 5000
JOIN_TIMEOUT_MS = 12_000.0
LEAVING = -1
JOINING = 0


class Membership:
    """The base of both kinds of membership."""

    def __init__(self, client: Client, group: str, topics: Sequence[TopicLife]) -> None:
        self.client, self.group, self.topics = client, group, topics
        self.by_name = {topic.name: topic for topic in topics}
        self.by_id = {topic.topic_id: topic for topic in topics}
        self.member_id = ""
        self.epoch = -1
        self.assigned: list[Place] = []

    @property
    def is_over(self) -> bool:
        return self.client.scene.is_ending

    def join(self) -> Call:
        raise NotImplementedError

    def beat(self) -> Call:
        raise NotImplementedError

    def settle(self) -> Call:
        raise NotImplementedError

    def leave(self) -> Call:
        raise NotImplementedError


def text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


class ClassicMembership(Membership):
    """JoinGroup, SyncGroup, Heartbeat; the leader assigns ranges of partitions."""

    def join(self) -> Call:
        while not self.is_over:
            answer = yield from self.send_join()
            if answer is None or answer.error_code in RETRIABLE:
                yield from self.client.back_off()
            elif answer.error_code == ErrorCode.MEMBER_ID_REQUIRED:
                self.member_id = answer.member_id
            elif answer.error_code == ErrorCode.UNKNOWN_MEMBER_ID:
                self.member_id = ""
            elif answer.error_code == ErrorCode.NONE:
                self.member_id, self.epoch = answer.member_id, answer.generation_id
                done = yield from self.sync(answer)
                if done:
                    return True
            elif answer.error_code != ErrorCode.REBALANCE_IN_PROGRESS:
                self.client.unexpected("a join", answer.error_code)
                return False
        return False

    def send_join(self) -> Call:
        names = [text(topic.name) for topic in self.topics]
        subscription = struct.pack(">hi", 0, len(names)) + b"".join(names) + struct.pack(">i", -1)
        protocol = JoinGroupRequest.JoinGroupRequestProtocol("range", subscription)
        request = JoinGroupRequest(self.group, SESSION_MS, REBALANCE_MS, self.member_id, None, "consumer", [protocol])
        return (yield from self.client.call(ApiKey.JOIN_GROUP, 5, request, JOIN_TIMEOUT_MS))

    def sync(self, joined: JoinGroupResponse) -> Call:
        assignments = []
        if joined.leader == self.member_id:
            members = sorted(member.member_id for member in joined.members)
            places = [(topic.name, n) for topic in self.topics for n in range(topic.partitions)]
            for n, member_id in enumerate(members):
                content = assignment_bytes(places[n :: len(members)])
                assignments.append(SyncGroupRequest.SyncGroupRequestAssignment(member_id, content))
        request = SyncGroupRequest(self.group, self.epoch, self.member_id, assignments=assignments)
        answer = yield from self.client.call(ApiKey.SYNC_GROUP, 3, request, JOIN_TIMEOUT_MS)
        if answer is None or answer.error_code:
            if answer is not None and answer.error_code == ErrorCode.UNKNOWN_MEMBER_ID:
                self.member_id = ""
            return False
        self.assigned = [(self.by_name[name], n) for name, n in read_assignment(answer.assignment)]
        return True

    def beat(self) -> Call:
        request = HeartbeatRequest(self.group, self.epoch, self.member_id)
        answer = yield from self.client.call(ApiKey.HEARTBEAT, 3, request)
        if answer is None or answer.error_code in RETRIABLE:
            return True
        if answer.error_code == ErrorCode.UNKNOWN_MEMBER_ID:
            self.member_id = ""
        return answer.error_code == ErrorCode.NONE

    def settle(self) -> Call:
        return (yield from self.join())

    def leave(self) -> Call:
        member = LeaveGroupRequest.MemberIdentity(self.member_id)
        yield from self.client.call(ApiKey.LEAVE_GROUP, 4, LeaveGroupRequest(self.group, members=[member]))
        self.member_id, self.assigned = "", []


def assignment_bytes(places: list[tuple[str, int]]) -> bytes:
    by_topic: dict[str, list[int]] = {}
    for name, partition in places:
        by_topic.setdefault(name, []).append(partition)
    content = struct.pack(">hi", 0, len(by_topic))
    for name, partitions in by_topic.items():
        content += text(name) + struct.pack(f">i{len(partitions)}i", len(partitions), *partitions)
    return content + struct.pack(">i", -1)


def read_assignment(data: bytes) -> list[tuple[str, int]]:
    if not data:
        return []
    places: list[tuple[str, int]] = []
    (count,) = struct.unpack_from(">i", data, 2)
    position = 6
    for _ in range(count):
        (size,) = struct.unpack_from(">h", data, position)
        name = data[position + 2 : position + 2 + size].decode()
        position += 2 + size
        (partitions,) = struct.unpack_from(">i", data, position)
        found = struct.unpack_from(f">{partitions}i", data, position + 4)
        position += 4 + 4 * partitions
        places += [(name, n) for n in found]
    return places


class ModernMembership(Membership):
    """KIP-848: one request for everything; the broker assigns the partitions."""

    def __init__(self, client: Client, group: str, topics: Sequence[TopicLife]) -> None:
        super().__init__(client, group, topics)
        self.target: list[Place] = []
        self.is_reported = True  # the broker knows which partitions the member has

    def join(self) -> Call:
        self.member_id = client_made_id(self.client)
        self.assigned, self.target, self.epoch = [], [], JOINING
        while not self.is_over:
            answer = yield from self.heartbeat(JOINING)
            if answer is not None and answer.error_code == ErrorCode.NONE:
                self.accept(answer)
                self.take_target()
                return True
            if answer is not None and answer.error_code not in RETRIABLE:
                if answer.error_code == ErrorCode.UNRELEASED_INSTANCE_ID:
                    return False
                self.member_id = client_made_id(self.client)
            yield from self.client.back_off()
        return False

    def heartbeat(self, epoch: int, *, is_full: bool = False) -> Call:
        topics: list[ConsumerGroupHeartbeatRequest.TopicPartitions] | None = None
        if epoch == JOINING or is_full or not self.is_reported:
            owned: dict[bytes, list[int]] = {}
            for topic, partition in self.assigned:
                owned.setdefault(topic.topic_id, []).append(partition)
            topics = [ConsumerGroupHeartbeatRequest.TopicPartitions(*entry) for entry in owned.items()]
        request = ConsumerGroupHeartbeatRequest(self.group, self.member_id, epoch, topic_partitions=topics)
        if epoch == JOINING:
            request.rebalance_timeout_ms = REBALANCE_MS
            request.subscribed_topic_names = [topic.name for topic in self.topics]
        answer = yield from self.client.call(ApiKey.CONSUMER_GROUP_HEARTBEAT, 1, request)
        if answer is not None and answer.error_code == ErrorCode.NONE and topics is not None:
            self.is_reported = True
        return answer

    def accept(self, answer: ConsumerGroupHeartbeatResponse) -> None:
        self.epoch = answer.member_epoch
        if answer.assignment is not None:
            self.target = [
                (self.by_id[topic.topic_id], n)
                for topic in answer.assignment.topic_partitions
                for n in topic.partitions
            ]

    def take_target(self) -> None:
        if self.target != self.assigned:
            self.assigned, self.is_reported = list(self.target), False

    def beat(self) -> Call:
        answer = yield from self.heartbeat(self.epoch)
        if answer is None or answer.error_code in RETRIABLE:
            self.is_reported = False
            return True
        if answer.error_code:
            self.epoch = JOINING
            return False
        self.accept(answer)
        return self.target == self.assigned

    def settle(self) -> Call:
        if self.epoch == JOINING:
            return (yield from self.join())
        self.assigned = [place for place in self.assigned if place in self.target]
        answer = yield from self.heartbeat(self.epoch, is_full=True)
        if answer is not None and answer.error_code and answer.error_code not in RETRIABLE:
            return (yield from self.join())
        if answer is not None and not answer.error_code:
            self.accept(answer)
            self.take_target()
        else:
            self.is_reported = False
        return True

    def leave(self) -> Call:
        yield from self.heartbeat(LEAVING)
        self.assigned, self.target = [], []


def client_made_id(client: Client) -> str:
    return f"member-{client.random.getrandbits(64):016x}"
