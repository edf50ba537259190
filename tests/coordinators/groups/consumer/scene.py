"""One group of KIP-848 and its clients, without a broker."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from headwater.coordinators.groups.consumer.coordinator import ConsumerGroups
from headwater.coordinators.groups.consumer.group import (
    JOIN_EPOCH,
    LEAVE_EPOCH,
    LEAVE_STATIC_EPOCH,
    ConsumerGroup,
    ConsumerGroupState,
    MemberState,
    keys_of,
)
from headwater.coordinators.groups.consumer.heartbeat import Heartbeat, HeartbeatAnswer
from headwater.coordinators.groups.consumer.subscriptions import ConsumerGroupLimits
from headwater.effects.clock import ManualClock
from headwater.effects.timers import Timers
from headwater.protocol.error_codes import ErrorCode
from headwater.replay.decision import Runtime
from headwater.replay.deferred import Deferred
from headwater.replay.state_record import StateRecord
from tests.coordinators.time_passing import advance
from tests.replay.state_log import MemoryStateLog

SESSION_MS, REBALANCE_MS = 45_000, 20_000
Place = tuple[bytes, int]


class Topics:
    """The topics that there are, by name: the number of partitions."""

    def __init__(self) -> None:
        self.partitions = {"t": 4}
        self.topics_version = 0

    def find_topic(self, name: str) -> tuple[bytes, int] | None:
        return (name.encode().ljust(16), self.partitions[name]) if name in self.partitions else None

    def topic_names(self) -> Iterator[str]:
        return iter(self.partitions)

    def topic_name(self, topic_id: bytes) -> str | None:
        name = topic_id.decode().rstrip()
        return name if name in self.partitions else None

    def grow(self, name: str, partitions: int) -> None:
        self.partitions[name] = max(partitions, self.partitions.get(name, 0))
        self.topics_version += 1


class Client:
    """A member that behaves like a real client: it accepts what it is assigned, and reports what it owns."""

    def __init__(self, scene: "Scene", name: str, instance_id: str | None = None) -> None:
        self.scene = scene
        self.name = self.member_id = name
        self.instance_id = instance_id
        self.starts = 0
        self.topics: frozenset[str] | None = frozenset({"t"})
        self.expression: str | None = None
        self.attempt = 0
        self.lose()

    def lose(self) -> None:
        """Not a member: it has nothing, and joins."""
        self.epoch = JOIN_EPOCH
        self.assigned: frozenset[Place] = frozenset()
        self.answer: HeartbeatAnswer | None = None
        self.attempt += 1

    def start_again(self) -> None:
        self.starts += 1
        self.member_id = f"{self.name}.{self.starts}"
        self.lose()

    def send(self, epoch: int, *, says_all: bool = True) -> ErrorCode | None:
        """Sends a heartbeat; returns the error of its answer, None while it waits."""
        owned: dict[bytes, frozenset[int]] = {}
        for topic_id, partition in self.assigned:
            owned[topic_id] = owned.get(topic_id, frozenset()) | {partition}
        request = Heartbeat(
            "g",
            self.member_id,
            epoch,
            self.instance_id,
            None,
            REBALANCE_MS if says_all else -1,
            self.topics if says_all else None,
            self.expression if says_all else None,
            None,
            owned if says_all else None,
            "client",
            "host",
            lambda topic: topic not in self.scene.hidden,
        )
        answer = self.scene.groups.heartbeat(request)
        self.attempt += 1
        attempt, self.answer = self.attempt, None
        if isinstance(answer, Deferred):
            answer.when_done(lambda answer: self.take(answer, attempt))
        else:
            self.take(answer, attempt)
        return None if self.answer is None else self.answer.error

    def take(self, answer: HeartbeatAnswer, attempt: int) -> None:
        if attempt != self.attempt:
            return
        if answer.error in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_MEMBER_EPOCH, ErrorCode.GROUP_ID_NOT_FOUND):
            self.lose()
        elif answer.error is ErrorCode.NONE and answer.epoch >= 0:
            self.epoch = answer.epoch
            if answer.assignment is not None:
                self.assigned = frozenset(keys_of(answer.assignment))
        self.answer = answer

    def beat(self, *, says_all: bool = True) -> ErrorCode | None:
        return self.send(self.epoch, says_all=says_all or self.epoch == JOIN_EPOCH)

    def leave(self) -> ErrorCode | None:
        """A static member leaves for now. Sent by one that closes: it does not wait."""
        error = self.send(LEAVE_EPOCH if self.instance_id is None else LEAVE_STATIC_EPOCH)
        self.lose()
        return error


class Scene:
    """One group of up to four clients, the last of them static."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.interval_ms = 0  # between two assignments
        self.hidden: set[str] = set()  # topics that clients must not know about
        self.log: MemoryStateLog[StateRecord] = MemoryStateLog()
        self.topics = Topics()
        self.begin()
        self.clients = [Client(self, f"c{n}", "i" if n == 3 else None) for n in range(4)]

    def begin(self) -> None:
        self.timers = Timers(self.clock)
        limits = ConsumerGroupLimits(SESSION_MS)
        self.groups = ConsumerGroups(
            self.clock,
            self.timers,
            self.topics,
            Runtime(self, self.log),
            limits,
            lambda _: limits,
            lambda _: self.interval_ms,
            lambda _: False,
        )

    def replay(self, record: StateRecord) -> None:
        self.groups.replay(record)

    def snapshot(self) -> Iterator[StateRecord]:
        yield from self.groups.snapshot()

    @property
    def group(self) -> ConsumerGroup:
        return self.groups.groups["g"]

    def member_state(self, client: Client) -> MemberState:
        return self.group.members[client.member_id].state

    def crash(self) -> None:
        self.log.crash()
        self.begin()
        for record in self.log.records:
            self.groups.replay(record)
        self.groups.started()

    @contextmanager
    def broken_disk(self) -> Iterator[None]:
        self.log.error = OSError(errno.ENOSPC, "the disk is full")
        yield
        self.log.error = None

    def advance(self, milliseconds: float) -> None:
        advance(self.clock, self.timers, milliseconds)

    def settle(self, clients: list[Client]) -> None:
        """Heartbeats of all of them until the group is stable."""
        for _ in range(30):
            for client in clients:
                client.beat()
                self.log.sync()
            self.advance(3_000)
            if self.group.state is ConsumerGroupState.STABLE and len(self.group.members) == len(clients):
                return
        raise AssertionError("the group does not become stable")


def settled_scene(count: int = 2) -> Scene:
    scene = Scene()
    scene.settle(scene.clients[:count])
    return scene
