"""The real broker's core on in-memory files and a clock that is moved by hand: no port, no thread, no waiting."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Unpack

from headwater.broker.configs.settings import Settings
from headwater.broker.connection import Connection
from headwater.broker.core import BrokerCore
from headwater.broker.dispatch import dispatch
from headwater.broker.durability import ThisThread
from headwater.effects.clock import ManualClock
from headwater.effects.entropy import SeededEntropy
from headwater.effects.memory_files import MemoryFiles
from headwater.observability.counters import Counters
from headwater.protocol.api_classes import response_class
from headwater.protocol.apis import APIS, ApiKey
from headwater.protocol.compiled import decode
from headwater.protocol.frames import request_frame, response_header_version
from headwater.protocol.messages.create_topics import CreateTopicsRequest
from headwater.protocol.messages.fetch import FetchRequest, FetchResponse
from headwater.protocol.messages.produce import ProduceRequest, ProduceResponse
from headwater.protocol.records import Record, batches, build_batch, records
from headwater.replay.deferred import Deferred
from headwater.storage.checkpoint import Checkpoint
from tests.broker.topic_configs import TopicConfigs, creatable_configs

NO_PAIRS: Mapping[str, object] = MappingProxyType({})


class Pending:
    """An answer that may still come."""

    def __init__(self, harness: "Harness", key: int, version: int, answer: Any) -> None:
        self.harness, self.key, self.version = harness, key, version
        self.buffers: Any = None
        self.is_done = False
        if isinstance(answer, Deferred):
            answer.when_done(self.take)
        else:
            self.take(answer)

    def take(self, buffers: Any) -> None:
        self.buffers, self.is_done = buffers, True

    @property
    def message(self) -> Any:
        """The decoded answer; it must be there, and no bytes may follow it."""
        assert self.is_done, "no answer yet"
        if self.buffers is None:
            return None
        api = APIS[self.key]
        frame = b"".join(self.buffers)
        assert int.from_bytes(frame[:4], "big") == len(frame) - 4
        class_ = response_class(self.key)
        start = 9 if response_header_version(api, self.version) else 8
        message, end = decode(class_, self.version, frame, start)
        assert end == len(frame)
        return message


class HeldDisk(ThisThread):
    """The test says when a sync ends. A checkpoint is done at once, unless it is held."""

    def __init__(self, core: BrokerCore) -> None:
        super().__init__(core.durability)
        core.durability.disk = self
        self.file: int | None = None  # its sync is under way
        self.holds_checkpoints = False
        self.held_checkpoint: Checkpoint | None = None
        self.errors: list[Exception] = []

    def begin_sync(self, file: int) -> bool:
        self.file = file
        return False

    def run_checkpoint(self, checkpoint: Checkpoint) -> None:
        if self.holds_checkpoints:
            self.held_checkpoint = checkpoint
        else:
            super().run_checkpoint(checkpoint)

    def sync(self) -> OSError | None:
        """The file is synced, and nobody knows yet."""
        assert self.file is not None, "no sync is under way"
        file, self.file = self.file, None
        try:
            self.durability.journal.sync(file)
        except OSError as error:
            return error
        return None

    def report(self, error: Exception) -> None:
        self.errors.append(error)

    def raise_errors(self) -> None:
        if self.durability.error is not None:
            raise self.durability.error
        errors, self.errors = self.errors, []
        for error in errors:
            raise error


class Harness:
    """A broker with the settings `pairs`, and a client of it. Unless `hold_syncs` is set, what is appended is synced at once."""

    def __init__(
        self, files: MemoryFiles | None = None, clock: ManualClock | None = None, pairs: Mapping[str, object] = NO_PAIRS
    ) -> None:
        self.files = files or MemoryFiles()
        self.clock = clock or ManualClock()
        defaults = {
            "group.consumer.assignment.interval.ms": 0,
            "group.initial.rebalance.delay.ms": 0,
            "headwater.journal.file.bytes": 1 << 20,
        }
        self.pairs = {key: str(value) for key, value in {**defaults, **pairs}.items()}
        self.hold_syncs = False
        self.connection = Connection("/test")
        self.entropy = SeededEntropy(7)  # of all its lives: a broker does not make the same ids again after a restart
        self.core = self.open()

    def open(self) -> BrokerCore:
        settings = Settings.from_pairs(self.pairs)
        return BrokerCore(settings, self.files, self.clock, self.entropy, directory="data")

    def restart(self) -> None:
        """Stops cleanly and starts again."""
        self.core.close()
        self.core = self.open()

    def kill(self) -> None:
        """Ends without a word, and starts again on what is in the files."""
        self.core.store.abandon()
        self.core = self.open()

    @property
    def core(self) -> BrokerCore:
        return self.current

    @core.setter
    def core(self, core: BrokerCore) -> None:
        self.current, self.disk = core, HeldDisk(core)
        # The one before died with its broker.
        self.connection = Connection("/test", principal=self.connection.principal)
        self.counters = Counters(core.occurrences)

    def sync(self) -> None:
        """Puts all that waits on disk. Raises what the broker fails with."""
        self.begin_sync()
        while self.disk.file is not None:
            self.end_sync()
        durability = self.core.durability
        if durability.journal.waiting_bytes and durability.shortage is not None:
            raise durability.shortage

    def sync_one(self) -> None:
        """Ends one sync of the journal. What is appended because of it is written, and is not on disk yet."""
        self.begin_sync()
        if self.disk.file is not None:
            self.end_sync()

    def begin_sync(self) -> None:
        """What waits is on its way to the disk, unless something else is."""
        if self.core.durability.syncing is None:
            self.core.durability.after_timers()
        self.disk.raise_errors()

    def end_sync(self) -> None:
        """What is on its way to the disk has come there."""
        error = self.disk.sync()
        self.core.durability.synced(error)
        self.disk.raise_errors()

    def send(self, key: int, version: int, message: Any, client_id: str = "client") -> Pending:
        frame = bytearray(request_frame(APIS[key], version, 1, client_id, message)[4:])
        pending = Pending(self, key, version, dispatch(self.core, self.connection, frame))
        if not self.hold_syncs:
            self.sync()
        return pending

    def call(self, key: int, version: int, message: Any) -> Any:
        return self.send(key, version, message).message

    def advance(self, milliseconds: float) -> None:
        """Moves the clock, in steps, so that timers that set timers all run."""
        left = milliseconds
        while left > 0:
            step = min(left, 1000.0)
            self.clock.advance(step)
            left -= step
            self.core.timers.run_due()
            if not self.hold_syncs:
                self.sync()

    def create_topic(self, name: str, partitions: int = 1, **configs: Unpack[TopicConfigs]) -> None:
        wanted = CreateTopicsRequest.CreatableTopic(name, partitions, 1, configs=creatable_configs(configs))
        answer = self.call(ApiKey.CREATE_TOPICS, 7, CreateTopicsRequest([wanted]))
        assert answer.topics[0].error_code == 0, answer

    def produce_batch(self, topic: str, batch: bytes | bytearray, partition: int = 0, acks: int = -1) -> Pending:
        data = ProduceRequest.PartitionProduceData(partition, bytes(batch))
        body = ProduceRequest(None, acks, 1000, [ProduceRequest.TopicProduceData(name=topic, partition_data=[data])])
        return self.send(ApiKey.PRODUCE, 9, body)

    def produce(
        self, topic: str, *contents: bytes, partition: int = 0, **batch: Any
    ) -> ProduceResponse.PartitionProduceResponse:
        now = self.clock.wall_ms()
        built = build_batch([Record(b"k", value, (), now) for value in contents], **batch)
        answer = self.produce_batch(topic, built, partition).message
        response: ProduceResponse.PartitionProduceResponse = answer.responses[0].partition_responses[0]
        return response

    def fetch_request(self, topic: str, offset: int, partition: int = 0, **more: Any) -> FetchRequest:
        wanted = FetchRequest.FetchPartition(partition, fetch_offset=offset, partition_max_bytes=1 << 20)
        values = {"max_wait_ms": 0, "min_bytes": 1, "max_bytes": 1 << 20, "session_epoch": -1, **more}
        return FetchRequest(topics=[FetchRequest.FetchTopic(topic=topic, partitions=[wanted])], **values)

    def fetch(self, topic: str, offset: int = 0, partition: int = 0, **more: Any) -> FetchResponse.PartitionData:
        answer = self.call(ApiKey.FETCH, 12, self.fetch_request(topic, offset, partition, **more))
        data: FetchResponse.PartitionData = answer.responses[0].partitions[0]
        return data

    def read_all(self, topic: str, partition: int = 0) -> list[Record]:
        """Every visible record, through Fetch."""
        log = self.core.partitions.log(self.core.metadata.topics[topic], partition)
        offset, found = log.start_offset, []
        while offset < log.high_watermark:
            data = self.fetch(topic, offset, partition)
            assert data.error_code == 0
            assert data.records
            for header, batch in batches(data.records):
                found += [r for r in records(header, batch) if r.offset >= offset]
                offset = header.next_offset
        return found
