"""A compacted topic that is replayed to its end into a machine, then followed: state that several processes share.

The topic is the state. Each process replays it into a machine of its own (`replay.decision` has the theory), and then keeps
reading, so that what any of them writes reaches all. A change is decided, written, and read back like everybody else's;
only then does the call return. So a process sees its own writes, and no state exists that is not in the topic.

    class Names:
        def __init__(self) -> None:
            self.names: dict[bytes, bytes] = {}

        def replay(self, record: TopicRecord) -> None:
            if record.value is None:
                self.names.pop(record.key, None)
            else:
                self.names[record.key] = record.value

        def snapshot(self) -> Iterator[TopicRecord]:
            yield from (TopicRecord(key, value) for key, value in self.names.items())

    names = Names()
    with ReplayedTopic("localhost:9092", "names", names, leader=election) as topic:
        topic.carry_out(lambda: Decision([TopicRecord(b"a", b"1")], "taken"))
        with topic.lock:                     # the machine does not change meanwhile
            names.names[b"a"]

**One writer at a time.** Two processes that decide at once, from the same state, may contradict each other: both take the
same free id. If that matters, use a leader, elected by `leadership`: only the leader decides. An election alone is not
enough: a leader that was held up for a minute does not know that it was deposed. So its writes are fenced:

1. The leader opens a writer with the topic's transactional id. From then on the broker refuses every earlier writer.
2. It reads to the end: now its state has all that any earlier writer has written.
3. It checks that it still leads. Then it decides, and writes in a transaction.

A write is accepted only if no later leader has done step 1. So whatever a leader decides is decided from a state that has
every earlier write, however slow or wrong the election is. The election only says who should try. A leader that finds itself
fenced, though it leads, begins again with step 1, a few times at most.

Without a leader anybody writes, each record for itself. Then a decision may miss what others write at the same time. That is
right for records that one process owns, such as its own status.

**What ends it.** A record that the machine cannot replay (it raises) is damage, and named with its offset. A topic that was
deleted, or deleted and created again, is lost. Neither is mended or passed over: every later call raises the same error, and
nothing is written. A broker that is away ends nothing: calls raise ClientTimeoutError, and reading continues when it is back.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from confluent_kafka import Message
from confluent_kafka.admin import OffsetSpec

from headwater.client.admin import Admin
from headwater.client.connections import BrokerLike, Settings
from headwater.client.errors import (
    ClientError,
    ClientTimeoutError,
    ConfigurationError,
    DamagedTopicError,
    LostTopicError,
    NotLeaderError,
    ProducerFencedError,
    TopicBusyError,
    UnknownOutcomeError,
    UnknownTopicError,
)
from headwater.client.names import checked_timeout_ms, checked_topic
from headwater.client.partition_reader import PartitionReader
from headwater.client.positions import Partition
from headwater.client.topic_offsets import offset_when_led
from headwater.client.topic_record import TopicRecord
from headwater.client.topic_writer import TopicWriter
from headwater.effects.clock import Clock, SystemClock
from headwater.replay.decision import Decision

Answer = TypeVar("Answer")
TIMEOUT_MS = 30_000.0
POLL_S = 0.1
BATCH_MAX = 500
WAITING_MAX = 1000
ATTEMPTS_MAX = 3
COMPACTED = {"cleanup.policy": "compact"}


class TopicMachine(Protocol):
    """State that a topic is replayed into; see `replay.decision.Machine`."""

    def replay(self, record: TopicRecord) -> None:
        """Changes the state as the record says. What it raises is damage."""
        ...

    def snapshot(self) -> Iterable[TopicRecord]:
        """Records that make this state from nothing."""
        ...


class Leader(Protocol):
    """What says who may decide: `leadership.LeaderElection` is one."""

    def term(self) -> int:
        """A number for this time of leading. Raises NotLeaderError if this process does not lead now."""
        ...


class ReplayedTopic:
    """See the module's docstring. Raises ConfigurationError for a topic that is not compacted, or not of one partition.

    If the topic does not exist it is created, with `configs` and `replicas` (-1: the broker's default).
    Each call waits for at most `timeout_ms`. At most `waiting_max` calls may wait to decide.
    """

    def __init__(
        self,
        broker: BrokerLike,
        topic: str,
        machine: TopicMachine,
        *,
        leader: Leader | None = None,
        transactional_id: str | None = None,
        configs: Mapping[str, object] | None = None,
        replicas: int = -1,
        settings: Settings | None = None,
        timeout_ms: float = TIMEOUT_MS,
        waiting_max: int = WAITING_MAX,
        clock: Clock | None = None,
    ) -> None:
        self.broker, self.topic, self.machine, self.leader = broker, checked_topic(topic), machine, leader
        self.transactional_id = transactional_id or f"{topic}-leader"
        self.configs, self.replicas, self.settings = {**COMPACTED, **(configs or {})}, replicas, settings
        self.timeout_ms = checked_timeout_ms(timeout_ms)
        self.clock: Clock = clock or SystemClock()
        self.admin = Admin(broker, timeout_ms=self.timeout_ms, settings=settings)
        self.topic_id = ""
        self.lock = threading.RLock()  # the machine changes only under it
        self.replayed = threading.Condition(self.lock)  # notified when `position` or `error` changes
        self.position = 0  # the offset after what is replayed
        self.error: ClientError | None = None  # what ended it
        self.deciding = threading.Lock()
        self.waiting = threading.BoundedSemaphore(waiting_max)
        self.writer: TopicWriter | None = None
        self.writer_term: int | None = None  # the leader's, for which the writer was opened
        self.is_closing = False
        self.thread: threading.Thread | None = None

    # -- beginning and end

    def open(self) -> Self:
        """Creates or checks the topic, and replays it to its end. Raises ClientError."""
        self.topic_id = self.checked_topic_id()
        start = self.offset_of(OffsetSpec.earliest())
        reader = PartitionReader(
            self.broker, {Partition(self.topic, 0): start}, what=f"replaying {self.topic}", settings=self.settings
        )
        self.position = start
        self.thread = threading.Thread(
            target=self.follow, args=(reader,), name=f"headwater-replay-{self.topic}", daemon=True
        )
        self.thread.start()
        try:
            self.read_to_end()
        except BaseException:
            self.close()
            raise
        return self

    def checked_topic_id(self) -> str:
        try:
            found = self.admin.describe_topic(self.topic)
        except UnknownTopicError:
            self.admin.create_topic(self.topic, 1, replicas=self.replicas, configs=self.configs, exist_ok=True)
            found = self.described_soon()
        if len(found.partitions) != 1:
            raise ConfigurationError(
                f"topic {self.topic} has {len(found.partitions)} partitions; it needs 1 to be replayed"
            )
        policy = self.admin.configs(self.topic).get("cleanup.policy")
        if policy != "compact":
            raise ConfigurationError(
                f"topic {self.topic} has cleanup.policy={policy}, so that state in it would expire; set it to compact"
            )
        return found.id

    def described_soon(self) -> Any:
        """The topic's description; brokers of a cluster may learn of a new topic a moment later. Raises UnknownTopicError."""
        deadline_ms = self.clock.steady_ms() + self.timeout_ms
        while True:
            try:
                return self.admin.describe_topic(self.topic)
            except UnknownTopicError:
                if self.clock.steady_ms() >= deadline_ms:
                    raise
                with self.replayed:
                    self.replayed.wait(POLL_S)

    def close(self) -> None:
        """Stops following. Calls that still wait raise ClientError."""
        with self.replayed:
            self.is_closing = True
            self.error = self.error or ClientError(f"the reader of topic {self.topic} is closed")
            self.replayed.notify_all()
        if self.thread is not None:
            self.thread.join()
        with self.deciding:
            self.drop_writer()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- replaying, in a thread of its own

    def follow(self, reader: PartitionReader) -> None:
        try:
            while not self.is_closing:
                messages = reader.poll(BATCH_MAX, POLL_S)
                with self.replayed:
                    self.replay(messages)
                    self.position = max(self.position, reader.positions[Partition(self.topic, 0)])
                    self.replayed.notify_all()
        except UnknownTopicError as error:
            self.end(LostTopicError(f"topic {self.topic} was deleted, and its state with it: {error}"))
        except ClientError as error:
            self.end(error)
        finally:
            reader.close()

    def replay(self, messages: Sequence[Message]) -> None:
        """Raises DamagedTopicError."""
        for message in messages:
            record = TopicRecord(message.key(), message.value(), message.offset(), message.timestamp()[1])
            try:
                self.machine.replay(record)
            except Exception as error:
                raise DamagedTopicError(
                    f"topic {self.topic}: the record at offset {record.offset} cannot be replayed: {error!r}"
                ) from error
            self.position = record.offset + 1

    def end(self, error: ClientError) -> ClientError:
        """Nothing is read or written from now on."""
        with self.replayed:
            self.error = self.error or error
            self.replayed.notify_all()
        return error

    def check_error(self) -> None:
        if self.error is not None:
            raise self.error

    # -- waiting

    def read_to_end(self, timeout_ms: float | None = None) -> int:
        """Waits until all completed writes before this call are replayed. Returns the offset after them.

        Raises ClientError: LostTopicError, DamagedTopicError, ClientTimeoutError.
        """
        deadline_ms = self.deadline(timeout_ms)
        self.check_topic()
        end = self.offset_of(OffsetSpec.latest())
        self.wait_replayed(end, deadline_ms)
        return end

    def wait_replayed(self, offset: int, deadline_ms: float) -> None:
        """Waits until everything before an offset is replayed. Raises ClientError."""
        with self.replayed:
            while self.position < offset:
                self.check_error()
                left_ms = deadline_ms - self.clock.steady_ms()
                if left_ms <= 0:
                    raise ClientTimeoutError(
                        f"replaying {self.topic} from {self.admin.address}: is at offset {self.position} of {offset}"
                    )
                self.replayed.wait(left_ms / 1000)
            self.check_error()

    def deadline(self, timeout_ms: float | None) -> float:
        return self.clock.steady_ms() + (self.timeout_ms if timeout_ms is None else checked_timeout_ms(timeout_ms))

    def check_topic(self) -> None:
        """Raises LostTopicError if the topic is not the one that was opened."""
        self.check_error()
        try:
            found = self.admin.describe_topic(self.topic).id
        except UnknownTopicError as error:
            raise self.end(LostTopicError(f"topic {self.topic} was deleted, and its state with it")) from error
        if found != self.topic_id:
            raise self.end(
                LostTopicError(
                    f"topic {self.topic} was deleted and created again (its id is {found} now, not {self.topic_id})"
                )
            )

    def offset_of(self, spec: OffsetSpec) -> int:
        """Where the topic begins or ends, for a reader of what is committed."""
        return offset_when_led(self.admin, self.topic, spec, self.clock, self.timeout_ms)

    # -- writing

    def write(self, records: Sequence[TopicRecord], timeout_ms: float | None = None) -> None:
        """Writes records and waits until they are replayed here. Raises as `carry_out` does."""
        self.carry_out(lambda: Decision(records, None), timeout_ms)

    def carry_out(self, decide: Callable[[], Decision[TopicRecord, Answer]], timeout_ms: float | None = None) -> Answer:
        """Decides on the latest state, writes the decision's records, and answers when they are replayed here.

        `decide` runs under `lock`. It changes nothing, and may run again. Raises what it raises, and ClientError:
        NotLeaderError if another process leads, TopicBusyError if too many calls wait, UnknownOutcomeError if the
        records may have been written or not.
        """
        deadline_ms = self.deadline(timeout_ms)
        with self.turn(deadline_ms):
            for _ in range(ATTEMPTS_MAX):
                term = self.prepare(deadline_ms)
                with self.lock:
                    decision = decide()
                if not decision.records:
                    return decision.answer
                try:
                    self.append(decision.records, deadline_ms)
                except ProducerFencedError:
                    self.drop_writer()
                    if term is None:
                        raise
                else:
                    return decision.answer
        raise NotLeaderError(f"topic {self.topic}: another process takes its writer away again and again")

    @contextmanager
    def turn(self, deadline_ms: float) -> Iterator[None]:
        """One decides at a time. Raises ClientError."""
        if not self.waiting.acquire(blocking=False):
            raise TopicBusyError(f"topic {self.topic}: too many calls wait to write to it")
        try:
            if not self.deciding.acquire(timeout=max(0.0, deadline_ms - self.clock.steady_ms()) / 1000):
                raise ClientTimeoutError(f"topic {self.topic}: others were deciding for all of this call's time")
            try:
                yield
            finally:
                self.deciding.release()
        finally:
            self.waiting.release()

    def prepare(self, deadline_ms: float) -> int | None:
        """Makes sure that there is a writer, and that the state has all that others wrote. Returns the leader's term."""
        self.check_topic()
        if self.leader is None:
            if self.writer is None:
                self.writer = TopicWriter(self.broker, self.topic, settings=self.settings)
            self.read_to_end(deadline_ms - self.clock.steady_ms())
            return None
        term = self.leader.term()
        if self.writer is None or self.writer_term != term:
            self.drop_writer()
            writer = TopicWriter(self.broker, self.topic, self.transactional_id, self.settings)
            self.writer, self.writer_term = writer, term
            writer.open(deadline_ms - self.clock.steady_ms())
            self.read_to_end(deadline_ms - self.clock.steady_ms())
        if self.leader.term() != term:
            raise NotLeaderError(f"topic {self.topic}: the leader changed meanwhile")
        return term

    def append(self, records: Sequence[TopicRecord], deadline_ms: float) -> None:
        """Writes, and waits until it is read back. Raises ClientError."""
        assert self.writer is not None
        before = self.position
        try:
            last = self.writer.write(records, max(1.0, deadline_ms - self.clock.steady_ms()))
        except UnknownOutcomeError:
            self.drop_writer()  # the next call finds out: it ends an open transaction and reads to the end
            raise
        if last < before:
            raise self.end(
                LostTopicError(f"topic {self.topic} was deleted and created again: offset {last} comes after {before}")
            )
        self.wait_replayed(last + 1, deadline_ms)

    def drop_writer(self) -> None:
        writer, self.writer, self.writer_term = self.writer, None, None
        if writer is not None:
            writer.close()
