"""Reads for Fetch, within limits, and waits for data.

A fetch that finds too little waits: it watches its logs until enough has become visible or its time is up, and then reads
again.
"""

from collections.abc import Callable, Iterable

from headwater.broker.cluster import Endpoint
from headwater.broker.connection import Wait
from headwater.broker.fetch_sessions import FetchTarget
from headwater.broker.metadata import Topic
from headwater.broker.partitions import Partitions
from headwater.effects.timers import Timers
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.fetch import FetchResponse
from headwater.protocol.schema import ZERO_UUID
from headwater.replay.deferred import Deferred
from headwater.replay.sync_number import NO_SYNC
from headwater.storage.log import Log


class FetchReader:
    """Reads a fetch's partitions, as often as necessary."""

    def __init__(
        self,
        partitions: Partitions,
        targets: Iterable[FetchTarget],
        max_bytes: int,
        *,
        by_id: bool,
        committed: bool = False,
        may_read: Callable[[str], bool] = lambda name: True,
        endpoint: Endpoint | None = None,
        from_follower: bool = False,
        room: Callable[[], int] = lambda: 2**31 - 1,
        hold: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.partitions = partitions
        self.may_read = may_read
        self.endpoint = endpoint
        self.from_follower = from_follower
        self.targets = list(targets)
        self.max_bytes = max_bytes
        self.room, self.hold = room, hold
        self.by_id = by_id
        self.committed = committed
        self.is_behind = False  # the last reading lacks something that was acknowledged before the request

    def find_log(self, target: FetchTarget) -> tuple[Log | None, ErrorCode]:
        topic = self.find_topic(target)
        if topic is None and self.by_id:
            return None, ErrorCode.UNKNOWN_TOPIC_ID
        if not self.may_read(topic.name if topic is not None else target.topic):
            return None, ErrorCode.TOPIC_AUTHORIZATION_FAILED
        return self.partitions.find(
            topic,
            target.partition,
            target.leader_epoch,
            endpoint=self.endpoint,
            from_follower=self.from_follower,
        )

    def find_topic(self, target: FetchTarget) -> Topic | None:
        metadata = self.partitions.metadata
        return metadata.by_id.get(target.topic_id) if self.by_id else metadata.topics.get(target.topic)

    def logs(self) -> list[tuple[FetchTarget, Log]]:
        """The targets that can be read."""
        found = ((target, self.find_log(target)[0]) for target in self.targets)
        return [(target, log) for target, log in found if log is not None]

    def read(self) -> "Reading":
        """What each partition has now.

        If clients do not read their answers, there may be less room than was asked for, or none. Then there are no records.
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
            self.hold(reading.total - before)  # others may read meanwhile
            yield
        return reading

    def read_partition(self, target: FetchTarget, size_left: int, *, at_least_one: bool) -> FetchResponse.PartitionData:
        log, error = self.find_log(target)
        if log is None:
            return error_data(target.partition, error)
        try:
            return self.read_log(log, target, size_left, at_least_one=at_least_one)
        except OSError:  # damaged, or on a failing disk; the other partitions are served
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
    """The result of a fetch's reading: each partition's data, the total of bytes, and whether a partition has an error."""

    __slots__ = ("has_error", "max_bytes", "reader", "results", "room", "total")

    def __init__(self, reader: FetchReader) -> None:
        self.reader = reader
        self.results: list[tuple[FetchTarget, FetchResponse.PartitionData]] = []
        self.total, self.has_error = 0, False
        reader.is_behind = False
        self.room = reader.room()
        self.max_bytes = min(reader.max_bytes, self.room)

    def min_bytes(self, wanted: int) -> int:
        """How many bytes are enough: less than wanted if there is no room for that."""
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
    """A fetch that waits for data. `waits` are the waits of its connection, which end with it."""

    def __init__(self, timers: Timers, waits: set[Wait], reader: FetchReader, min_bytes: int, max_wait_ms: int) -> None:
        self.partitions = reader.partitions
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
            self.partitions.watch(log, self)
        self.bytes: dict[Log, int] = {}  # the bytes to read in each log, once one of the logs has grown
        self.total = 0
        self.timer = timers.call_later(max_wait_ms, self.time_out)

    def check(self, grown: Log) -> None:
        """A log of this fetch has grown. Only that one is examined again, because there may be thousands."""
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
        except OSError:  # the answer will say so
            return self.min_bytes

    def time_out(self) -> None:
        """Answers, but not before everything that was acknowledged with acks=1 can be read."""
        awaited = (log for _, log in self.watched if log.promised_offset > log.high_watermark)
        sync = max(map(self.partitions.store.sync_of_end, awaited), default=NO_SYNC)
        self.partitions.durability.when_durable(sync, self.finish)

    def finish(self) -> None:
        """Answers with what can be read now."""
        if self.deferred.done:
            return
        self.stop()
        if self.respond is not None:
            self.deferred.complete(self.respond())

    def stop(self) -> None:
        self.timer.cancel()
        self.waits.discard(self)
        for _, log in self.watched:
            self.partitions.unwatch(log, self)


def grouped_response(
    results: Iterable[tuple[FetchTarget, FetchResponse.PartitionData]], session_id: int
) -> FetchResponse:
    """A response that groups partitions by topic, in the order in which they were read."""
    topics: dict[tuple[bytes, str], FetchResponse.FetchableTopicResponse] = {}
    for target, data in results:
        key = (target.topic_id, target.topic)
        topic = topics.get(key)
        if topic is None:
            topic = topics[key] = FetchResponse.FetchableTopicResponse(target.topic_id or ZERO_UUID, target.topic)
        topic.partitions.append(data)
    return FetchResponse(session_id=session_id, responses=list(topics.values()))
