"""Fetch: sessions, reads within limits, and waiting for data.

A session (KIP-227) lets a client name its partitions once; afterwards it sends what has changed and gets back only the
partitions that have news. A fetch that finds too little waits, registered at the logs it reads, until enough has become
visible or its time is up, and then reads again.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from headwater.broker.metadata import Topic
from headwater.effects.clock import Clock
from headwater.effects.entropy import Entropy
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.fetch import FetchRequest, FetchResponse
from headwater.protocol.schema import ZERO_UUID
from headwater.replay.deferred import Deferred
from headwater.replay.sync_number import NO_SYNC
from headwater.storage.log import Log

if TYPE_CHECKING:
    from headwater.broker.connection import Connection, Wait
    from headwater.broker.core import BrokerCore

SESSIONLESS_EPOCH = -1
INITIAL_EPOCH = 0
EVICTION_MS = 120_000
SESSION_PARTITIONS_MAX = 100_000
ALL_PARTITIONS_MAX = 1_000_000  # of all sessions: some 200 MiB

PartitionKey: TypeAlias = tuple[bytes, str, int]  # topic id (or zero), topic name (or ""), partition


@dataclass(slots=True, eq=False)
class FetchTarget:
    """A partition that a client reads, and what it was last sent of it."""

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
    """All sessions, a bounded number: the least recently used gives way when it has not been used for two minutes."""

    def __init__(self, clock: Clock, entropy: Entropy, slots: int) -> None:
        self.clock = clock
        self.entropy = entropy
        self.slots = slots
        self.sessions: OrderedDict[int, FetchSession] = OrderedDict()
        self.partitions = 0  # of all sessions

    def create(self, targets: "OrderedDict[PartitionKey, FetchTarget]") -> FetchSession | None:
        """A new session, or None when there is no room."""
        now = self.clock.steady_ms()
        if len(self.sessions) >= self.slots:
            oldest = next(iter(self.sessions.values()), None)
            if oldest is None or now - oldest.used_ms < EVICTION_MS:
                return None
            self.close(oldest.session_id)
        if len(targets) > SESSION_PARTITIONS_MAX or self.partitions + len(targets) > ALL_PARTITIONS_MAX:
            return None  # the client then names its partitions each time
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
        """Applies what an incremental fetch adds, changes and forgets."""
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


class FetchReader:
    """Reads a fetch's partitions, as often as it takes."""

    def __init__(
        self,
        core: "BrokerCore",
        targets: Iterable[FetchTarget],
        max_bytes: int,
        *,
        by_id: bool,
        committed: bool = False,
        may_read: Callable[[str], bool] = lambda name: True,
        connection: "Connection | None" = None,
        from_follower: bool = False,
        room: Callable[[], int] = lambda: 2**31 - 1,
        hold: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.core = core
        self.may_read = may_read
        self.connection = connection
        self.from_follower = from_follower
        self.targets = list(targets)
        self.max_bytes = min(max_bytes, core.settings.fetch_max_bytes)
        self.room, self.hold = room, hold
        self.by_id = by_id
        self.committed = committed
        self.is_behind = False  # what was acknowledged before the request is not all in the last reading

    def find_log(self, target: FetchTarget) -> tuple[Log | None, ErrorCode]:
        topic = self.find_topic(target)
        if topic is None and self.by_id:
            return None, ErrorCode.UNKNOWN_TOPIC_ID
        if not self.may_read(topic.name if topic is not None else target.topic):
            return None, ErrorCode.TOPIC_AUTHORIZATION_FAILED
        return self.core.find_log(
            topic,
            target.partition,
            target.leader_epoch,
            connection=self.connection,
            from_follower=self.from_follower,
        )

    def find_topic(self, target: FetchTarget) -> Topic | None:
        metadata = self.core.metadata
        return metadata.by_id.get(target.topic_id) if self.by_id else metadata.topics.get(target.topic)

    def logs(self) -> list[tuple[FetchTarget, Log]]:
        """The targets that can be read."""
        found = ((target, self.find_log(target)[0]) for target in self.targets)
        return [(target, log) for target, log in found if log is not None]

    def read(self) -> "Reading":
        """What each partition has now.

        Where clients do not read their answers there may be less room than was asked for, or none: then no records.
        """
        reading = Reading(self)
        for target in self.targets:
            reading.add(target)
        return reading

    def read_in_steps(self) -> Steps["Reading"]:
        """As `read`, for a great many partitions."""
        reading = Reading(self)
        for target in self.targets:
            before = reading.total
            reading.add(target)
            self.hold(reading.total - before)  # others read meanwhile
            yield
        return reading

    def read_partition(self, target: FetchTarget, size_left: int, *, at_least_one: bool) -> FetchResponse.PartitionData:
        log, error = self.find_log(target)
        if log is None:
            return error_data(target.partition, error)
        try:
            return self.read_log(log, target, size_left, at_least_one=at_least_one)
        except OSError:  # damaged, or on a failing disk: the other partitions are served
            return error_data(target.partition, ErrorCode.KAFKA_STORAGE_ERROR)

    def read_log(
        self, log: Log, target: FetchTarget, size_left: int, *, at_least_one: bool
    ) -> FetchResponse.PartitionData:
        if not log.start_offset <= target.fetch_offset <= log.end_offset:
            return out_of_range(target.partition)
        high_watermark, last_stable_offset = log.high_watermark, log.last_stable_offset
        data = FetchResponse.PartitionData(
            target.partition, 0, high_watermark, last_stable_offset, log.start_offset, None, -1, b""
        )
        if self.committed:
            data.aborted_transactions = []
        if target.last_fetched_epoch >= 0:
            epoch, end = log.end_offset_for_epoch(target.last_fetched_epoch)
            if epoch < 0:
                return out_of_range(target.partition)
            if epoch < target.last_fetched_epoch or end < target.fetch_offset:
                data.diverging_epoch = FetchResponse.EpochEndOffset(epoch, end)
                return data
        size = min(target.max_bytes, max(size_left, 0))
        if target.fetch_offset < (last_stable_offset if self.committed else high_watermark):
            if self.committed:
                data.records, aborted = log.read_committed(target.fetch_offset, size, at_least_one=at_least_one)
                data.aborted_transactions = [
                    FetchResponse.AbortedTransaction(a.producer_id, a.first_offset) for a in aborted
                ]
            else:
                data.records = log.read(target.fetch_offset, size, at_least_one=at_least_one)
        if log.promised_offset > high_watermark and len(data.records or b"") < size:
            self.is_behind = True
        return data


class Reading:
    """What a fetch has read: each partition's data, the bytes in all, and whether a partition has an error."""

    __slots__ = ("has_error", "max_bytes", "reader", "results", "room", "total")

    def __init__(self, reader: FetchReader) -> None:
        self.reader = reader
        self.results: list[tuple[FetchTarget, FetchResponse.PartitionData]] = []
        self.total, self.has_error = 0, False
        reader.is_behind = False
        self.room = reader.room()
        self.max_bytes = min(reader.max_bytes, self.room)

    def min_bytes(self, wanted: int) -> int:
        """How much is enough: less than what is wanted where there is no room for that."""
        return min(wanted, self.room // 2) if self.room else wanted

    def add(self, target: FetchTarget) -> None:
        at_least_one = self.total == 0 and self.room > 0
        data = self.reader.read_partition(target, self.max_bytes - self.total, at_least_one=at_least_one)
        self.total += len(data.records or b"")
        if data.error_code != 0 or data.diverging_epoch is not None:
            self.has_error = True
        self.results.append((target, data))


def error_data(partition: int, error: ErrorCode) -> FetchResponse.PartitionData:
    return FetchResponse.PartitionData(partition, error, -1, -1, -1, [], -1, b"")


def out_of_range(partition: int) -> FetchResponse.PartitionData:
    data = error_data(partition, ErrorCode.OFFSET_OUT_OF_RANGE)
    data.aborted_transactions = None
    return data


class FetchWait:
    """A fetch that waits for data; `waits` are those of its connection, which end with it."""

    def __init__(
        self, core: "BrokerCore", waits: "set[Wait]", reader: FetchReader, min_bytes: int, max_wait_ms: int
    ) -> None:
        self.core = core
        self.waits = waits
        waits.add(self)
        self.reader = reader
        self.min_bytes = min_bytes
        self.deferred: Deferred[FetchResponse | Steps[FetchResponse]] = Deferred()
        self.respond: Callable[[], FetchResponse | Steps[FetchResponse]] | None = None
        self.watched = reader.logs()
        self.targets: dict[Log, list[FetchTarget]] = {}
        for target, log in self.watched:
            self.targets.setdefault(log, []).append(target)
            core.fetch_waits.setdefault(log, {})[self] = None
        self.bytes: dict[Log, int] = {}  # what there is to read in each log, once one of them has grown
        self.total = 0
        self.timer = core.timers.call_later(max_wait_ms, self.time_out)

    def check(self, grown: Log) -> None:
        """A log that is read here has grown. Only that one is looked at again: there may be thousands."""
        for log in (grown,) if self.bytes else self.targets:
            size = self.bytes_in(log)
            self.total += size - self.bytes.get(log, 0)
            self.bytes[log] = size
        if self.total >= self.min_bytes:
            self.finish()

    def bytes_in(self, log: Log) -> int:
        committed = self.reader.committed
        try:
            return sum(log.bytes_between(target.fetch_offset, committed=committed) for target in self.targets[log])
        except OSError:  # the answer says so
            return self.min_bytes

    def time_out(self) -> None:
        """Answers, but not before what was acknowledged with acks=1 can be read."""
        awaited = (log for _, log in self.watched if log.promised_offset > log.high_watermark)
        sync = max(map(self.core.store.sync_of_end, awaited), default=NO_SYNC)
        self.core.when_durable(sync, self.finish)

    def finish(self) -> None:
        """Answers with what there is."""
        if self.deferred.done:
            return
        self.stop()
        if self.respond is not None:
            self.deferred.complete(self.respond())

    def stop(self) -> None:
        self.timer.cancel()
        self.waits.discard(self)
        for _, log in self.watched:
            waits = self.core.fetch_waits.get(log)
            if waits is not None:
                waits.pop(self, None)
                if not waits:
                    del self.core.fetch_waits[log]


def grouped_response(
    results: Iterable[tuple[FetchTarget, FetchResponse.PartitionData]], session_id: int
) -> FetchResponse:
    """A response with the partitions under their topics, in the order in which they were read."""
    topics: dict[tuple[bytes, str], FetchResponse.FetchableTopicResponse] = {}
    for target, data in results:
        key = (target.topic_id, target.topic)
        topic = topics.get(key)
        if topic is None:
            topic = topics[key] = FetchResponse.FetchableTopicResponse(target.topic_id or ZERO_UUID, target.topic)
        topic.partitions.append(data)
    return FetchResponse(session_id=session_id, responses=list(topics.values()))


def has_news(target: FetchTarget, data: FetchResponse.PartitionData) -> bool:
    """Whether an incremental response has to name this partition; notes what the client then knows."""
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
