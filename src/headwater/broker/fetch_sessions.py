"""Fetch sessions (KIP-227): a client names its partitions once, and then gets only those that have news.

After that it only sends changes. The number of sessions, and of their partitions, is bounded.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from headwater.effects.clock import Clock
from headwater.effects.entropy import Entropy
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.fetch import FetchRequest, FetchResponse

SESSIONLESS_EPOCH = -1
INITIAL_EPOCH = 0
EVICTION_MS = 120_000
SESSION_PARTITIONS_MAX = 100_000
ALL_PARTITIONS_MAX = 1_000_000  # of all sessions, in some 200 MiB

PartitionKey: TypeAlias = tuple[bytes, str, int]  # topic id (or zero), topic name (or ""), partition


@dataclass(slots=True, eq=False)
class FetchTarget:
    """A partition that a client reads, and the last state that was sent to it."""

    topic_id: bytes
    topic: str
    partition: int
    fetch_offset: int
    max_bytes: int
    leader_epoch: int
    last_fetched_epoch: int
    known_high_watermark: int = -1
    known_start_offset: int = -1
    known_last_stable_offset: int = -1
    had_error: bool = False


@dataclass(slots=True, eq=False)
class FetchSession:
    """A client's partitions, in the order in which they are served."""

    session_id: int
    epoch: int
    used_ms: float
    targets: "OrderedDict[PartitionKey, FetchTarget]"


class FetchSessions:
    """All sessions. Their number is bounded: the least recently used one is removed if it was not used for two minutes."""

    def __init__(self, clock: Clock, entropy: Entropy, slots: int) -> None:
        self.clock = clock
        self.entropy = entropy
        self.slots = slots
        self.sessions: OrderedDict[int, FetchSession] = OrderedDict()
        self.partitions = 0  # of all sessions

    def create(self, targets: "OrderedDict[PartitionKey, FetchTarget]") -> FetchSession | None:
        """A new session, or None if there is no room."""
        now = self.clock.steady_ms()
        if len(self.sessions) >= self.slots:
            oldest = next(iter(self.sessions.values()), None)
            if oldest is None or now - oldest.used_ms < EVICTION_MS:
                return None
            self.close(oldest.session_id)
        if len(targets) > SESSION_PARTITIONS_MAX or self.partitions + len(targets) > ALL_PARTITIONS_MAX:
            return None  # the client then names its partitions in each request
        session_id = 0
        while session_id == 0 or session_id in self.sessions:
            session_id = int.from_bytes(self.entropy.bytes(4), "big") & 0x7FFFFFFF
        session = self.sessions[session_id] = FetchSession(session_id, 1, now, targets)
        self.partitions += len(targets)
        return session

    def resume(self, session_id: int, epoch: int) -> tuple[FetchSession | None, ErrorCode]:
        """The session that an incremental fetch continues."""
        session = self.sessions.get(session_id)
        if session is None:
            return None, ErrorCode.FETCH_SESSION_ID_NOT_FOUND
        if session.epoch != epoch:
            return None, ErrorCode.INVALID_FETCH_SESSION_EPOCH
        session.epoch = 1 if epoch == 0x7FFFFFFF else epoch + 1
        session.used_ms = self.clock.steady_ms()
        self.sessions.move_to_end(session_id)
        return session, ErrorCode.NONE

    def update(self, session: FetchSession, request: FetchRequest) -> None:
        """Applies the additions, changes and removals of an incremental fetch."""
        before = len(session.targets)
        update_session(session, request, before + ALL_PARTITIONS_MAX - self.partitions)
        self.partitions += len(session.targets) - before

    def close(self, session_id: int) -> None:
        session = self.sessions.pop(session_id, None)
        if session is not None:
            self.partitions -= len(session.targets)


def requested_targets(request: FetchRequest) -> Iterable[tuple[PartitionKey, FetchTarget]]:
    for topic in request.topics:
        for p in topic.partitions:
            target = FetchTarget(
                topic.topic_id,
                topic.topic,
                p.partition,
                p.fetch_offset,
                p.partition_max_bytes,
                p.current_leader_epoch,
                p.last_fetched_epoch,
            )
            yield (topic.topic_id, topic.topic, p.partition), target


def update_session(session: FetchSession, request: FetchRequest, partitions_max: int) -> None:
    partitions_max = min(partitions_max, SESSION_PARTITIONS_MAX)
    for key, target in requested_targets(request):
        known = session.targets.get(key)
        if known is None:
            if len(session.targets) < partitions_max:
                session.targets[key] = target
            continue
        known.fetch_offset, known.max_bytes = target.fetch_offset, target.max_bytes
        known.leader_epoch, known.last_fetched_epoch = target.leader_epoch, target.last_fetched_epoch
    for topic in request.forgotten_topics_data:
        for partition in topic.partitions:
            session.targets.pop((topic.topic_id, topic.topic, partition), None)


def has_news(target: FetchTarget, data: FetchResponse.PartitionData) -> bool:
    """Whether an incremental response has to name this partition. Records what the client then knows."""
    news = bool(
        data.records
        or data.error_code
        or data.diverging_epoch is not None
        or target.had_error
        or target.known_high_watermark != data.high_watermark
        or target.known_start_offset != data.log_start_offset
        or target.known_last_stable_offset != data.last_stable_offset
    )
    if news:
        target.known_last_stable_offset = data.last_stable_offset
        target.known_high_watermark, target.known_start_offset = data.high_watermark, data.log_start_offset
        target.had_error = data.error_code != 0
    return news
