"""The whole broker on files that crash: what was acknowledged is there, once, in order, and offsets never go back.

Each seed is a history: idempotent producers with several batches under way, group commits, deletions, checkpoints and
clean restarts; then a power cut at any moment, after which of every unsynced write any part may be missing, torn or
there; then the producers send again what was not acknowledged, as clients do. A failure prints its seed.
TEST_SEEDS says how many histories are tried.
"""

import os
from collections import defaultdict
from random import Random

import pytest

from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.delete_records import DeleteRecordsRequest
from headwater.protocol.messages.delete_topics import DeleteTopicsRequest
from headwater.protocol.messages.list_offsets import ListOffsetsRequest
from headwater.protocol.messages.offset_commit import OffsetCommitRequest
from headwater.protocol.messages.offset_fetch import OffsetFetchRequest
from headwater.protocol.records import Record, build_batch
from tests.broker.harness import Harness, Pending
from tests.simulation.crashing import CrashHistory

SEEDS = int(os.environ.get("TEST_SEEDS", "60"))
CHUNK = 50
LIVES = 4
PRODUCERS = 2
IN_FLIGHT_MAX = 5


class Lane:
    """One producer's batches to one partition: sent in order, acknowledged in order, sent again after a crash."""

    def __init__(self, producer_id: int, topic: str, partition: int) -> None:
        self.producer_id = producer_id
        self.topic, self.partition = topic, partition
        self.next_sequence = 0
        self.unacknowledged: list[tuple[int, list[bytes], Pending | None]] = []
        self.acknowledged: list[bytes] = []

    def send(self, broker: Harness, random: Random) -> None:
        if len(self.unacknowledged) >= IN_FLIGHT_MAX:
            return
        values = [
            b"%d/%d/%d" % (self.producer_id, self.partition, self.next_sequence + n) + bytes(random.randrange(200))
            for n in range(random.randint(1, 4))
        ]
        sequence, self.next_sequence = self.next_sequence, self.next_sequence + len(values)
        self.unacknowledged.append((sequence, values, self.transmit(broker, sequence, values)))

    def transmit(self, broker: Harness, sequence: int, values: list[bytes]) -> Pending:
        batch = build_batch(
            [Record(None, value, (), broker.clock.wall_ms()) for value in values],
            producer_id=self.producer_id,
            producer_epoch=0,
            base_sequence=sequence,
        )
        return broker.produce_batch(self.topic, batch, self.partition)

    def collect(self) -> None:
        while self.unacknowledged and (pending := self.unacknowledged[0][2]) is not None and pending.is_done:
            _, values, _ = self.unacknowledged.pop(0)
            answer = pending.message.responses[0].partition_responses[0]
            assert answer.error_code == 0, (answer, self.producer_id)
            self.acknowledged += values

    def send_again(self, broker: Harness) -> None:
        self.unacknowledged = [
            (sequence, values, self.transmit(broker, sequence, values)) for sequence, values, _ in self.unacknowledged
        ]


class History(CrashHistory):
    """One seed."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, (1500, 5000, 100_000), **{"offsets.topic.num.partitions": 3})
        self.broker.hold_syncs = True
        self.lanes = [Lane(100 + p, topic, n) for p in range(PRODUCERS) for topic, n in (("a", 0), ("a", 1), ("b", 0))]
        self.starts: dict[tuple[str, int], int] = defaultdict(int)
        self.committed = 0
        self.commits: list[tuple[int, Pending]] = []
        self.extra_topics: dict[str, bool] = {}

    def run(self) -> None:
        for _ in range(LIVES):
            for _ in range(self.random.randint(3, 30)):
                self.step()
            if self.random.random() < 0.15:
                self.broker.sync()
                self.collect()
                self.broker.core.close()
            self.crash()
            self.broker.core = self.broker.open()
            self.check()

    def step(self) -> None:
        random, broker = self.random, self.broker
        action = random.random()
        if action < 0.6:
            random.choice(self.lanes).send(broker, random)
        elif action < 0.75:
            broker.sync()
        elif action < 0.85:
            self.commit()
        elif action < 0.9:
            broker.core.durability.begin_checkpoint()
        elif action < 0.94:
            self.delete_records()
        else:
            self.change_topics()
        broker.begin_sync()
        broker.clock.advance(random.randrange(100))
        self.collect()

    def commit(self) -> None:
        offset = self.committed + len(self.commits) + 1
        partition = OffsetCommitRequest.OffsetCommitRequestPartition(0, offset)
        topic = OffsetCommitRequest.OffsetCommitRequestTopic(name="a", partitions=[partition])
        request = OffsetCommitRequest("group", topics=[topic])
        self.commits.append((offset, self.broker.send(ApiKey.OFFSET_COMMIT, 8, request)))

    def delete_records(self) -> None:
        log = self.broker.core.log(self.broker.core.metadata.topics["a"], 0)
        offset = self.random.randint(0, log.high_watermark)
        partition = DeleteRecordsRequest.DeleteRecordsPartition(0, offset)
        request = DeleteRecordsRequest([DeleteRecordsRequest.DeleteRecordsTopic("a", [partition])], 1000)
        answer = self.broker.call(ApiKey.DELETE_RECORDS, 2, request)
        self.starts["a", 0] = max(self.starts["a", 0], answer.topics[0].partitions[0].low_watermark)

    def change_topics(self) -> None:
        """Creates or deletes a topic and waits for the answer."""
        existing = [name for name, exists in self.extra_topics.items() if exists]
        self.broker.hold_syncs = False
        if existing and self.random.random() < 0.5:
            name = self.random.choice(existing)
            answer = self.broker.call(ApiKey.DELETE_TOPICS, 5, DeleteTopicsRequest(topic_names=[name]))
            assert answer.responses[0].error_code == ErrorCode.NONE
            self.extra_topics[name] = False
        else:
            name = f"extra-{len(self.extra_topics) % 3}"
            if not self.extra_topics.get(name):
                self.broker.create_topic(name, 2)
                self.broker.produce(name, name.encode())
                self.extra_topics[name] = True
        self.broker.hold_syncs = True

    def collect(self) -> None:
        for lane in self.lanes:
            lane.collect()
        while self.commits and self.commits[0][1].is_done:
            offset, pending = self.commits.pop(0)
            assert pending.message.topics[0].partitions[0].error_code == 0
            self.committed = offset

    def check(self) -> None:
        """After a restart: nothing acknowledged is missing; then what was not acknowledged is sent again."""
        self.check_group()
        for name, exists in self.extra_topics.items():
            topic = self.broker.core.metadata.topics.get(name)
            assert (topic is not None) == exists, name
            if exists:
                assert [r.value for r in self.broker.read_all(name)] == [name.encode()]
        self.check_records()
        for lane in self.lanes:
            lane.send_again(self.broker)
        self.broker.sync()
        self.collect()
        assert not any(lane.unacknowledged for lane in self.lanes)
        self.check_records()

    def check_group(self) -> None:
        group = OffsetFetchRequest.OffsetFetchRequestTopic("a", [0])
        answer = self.broker.call(ApiKey.OFFSET_FETCH, 5, OffsetFetchRequest(group_id="group", topics=[group]))
        found = answer.topics[0].partitions[0].committed_offset
        sent = self.committed + len(self.commits)
        if self.committed or found >= 0:
            assert self.committed <= found <= sent, (self.committed, found, sent)
        self.committed, self.commits = max(self.committed, found), []

    def check_records(self) -> None:
        for topic, partition in (("a", 0), ("a", 1), ("b", 0)):
            log = self.broker.core.log(self.broker.core.metadata.topics[topic], partition)
            start = self.starts[topic, partition]
            assert log.start_offset >= start
            found = self.broker.read_all(topic, partition)
            assert [r.offset for r in found] == list(range(log.start_offset, log.end_offset))
            self.check_times(topic, partition, found)
            for lane in (lane for lane in self.lanes if (lane.topic, lane.partition) == (topic, partition)):
                prefix = b"%d/" % lane.producer_id
                mine = [r.value or b"" for r in found if (r.value or b"").startswith(prefix)]
                sequences = [int(value.split(b"\0")[0].split(b"/")[2]) for value in mine]
                if sequences:
                    assert sequences == list(range(sequences[0], sequences[-1] + 1)), sequences
                if log.start_offset == 0:
                    assert mine[: len(lane.acknowledged)] == lane.acknowledged
                elif lane.acknowledged and sequences:
                    assert sequences[-1] >= int(lane.acknowledged[-1].split(b"\0")[0].split(b"/")[2])

    def check_times(self, topic: str, partition: int, found: list[Record]) -> None:
        """Look-ups by time find what a reader of everything finds: half-written indexes must not be believed."""
        if not found:
            return
        wanted = self.random.choice(found).timestamp + self.random.randint(-1, 1)
        latest = max(r.timestamp for r in found)
        for timestamp, expected in (
            (wanted, next((r.offset for r in found if r.timestamp >= wanted), -1)),
            (latest, next(r.offset for r in found if r.timestamp == latest)),
            (-3, next(r.offset for r in found if r.timestamp == latest)),
        ):
            asked = ListOffsetsRequest.ListOffsetsPartition(partition, -1, timestamp)
            request = ListOffsetsRequest(topics=[ListOffsetsRequest.ListOffsetsTopic(topic, [asked])])
            answer = self.broker.call(ApiKey.LIST_OFFSETS, 8, request).topics[0].partitions[0]
            assert (answer.error_code, answer.offset) == (0, expected), (topic, partition, timestamp)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_nothing_acknowledged_is_lost(first: int) -> None:
    for seed in range(first, min(first + CHUNK, SEEDS)):
        try:
            History(seed).run()
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {error}") from error
