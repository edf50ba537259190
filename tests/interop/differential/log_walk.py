"""One log: what is written, deleted, asked for by offset, by time and by leader epoch."""

from typing import Any

from headwater.protocol.apis import ApiKey
from headwater.protocol.records import Record, build_batch
from tests.security.matrix import error_codes, message

from .requests import fetch, produce, same
from .side import Side, Step
from .walks import Walk, step

START_MS = 1_795_000_000_000
SPECIAL_TIMES = {-1: 4, -2: 4, -3: 7, -4: 8, -5: 9}  # and the version that knows them


class LogWalk(Walk):
    """Offsets are those that a walk may have reached, and some beyond."""

    weights = {
        "produce": 6,
        "produce_idempotently": 4,
        "delete_records": 1,
        "list_offsets": 4,
        "fetch": 4,
        "ask_for_epoch": 1,
        "describe_producers": 1,
    }

    def records(self) -> list[Record]:
        count = self.random.randint(1, 4)
        times = [START_MS + self.random.randint(0, 100) for _ in range(count)]
        return [Record(b"k", b"%d" % n, (), time_ms) for n, time_ms in enumerate(times)]

    def produce(self) -> Step:
        acks, partition, found = self.random.choice([-1, 1, 1, 7]), self.random.randint(0, 1), self.records()
        make = produce(self.topic, bytes(build_batch(found)), partition, None, acks)
        return step(f"produce to {partition}, acks {acks}", ApiKey.PRODUCE, self.version(9, 13), make)

    def produce_idempotently(self) -> Step:
        """A producer of its own id; sequences continue, are repeated or leave a gap, in this epoch, the last or the next."""
        found, shift = self.records(), self.often(0, -1, 1)
        order = self.often("next", "again", "too far", "first")
        place = f"{self.name} sequence"

        def make(side: Side) -> Any:
            if f"{self.name} id" not in side.known:
                init = message(ApiKey.INIT_PRODUCER_ID)(None, 60_000)
                side.known[f"{self.name} id"] = side.wire.call(ApiKey.INIT_PRODUCER_ID, 4, init).producer_id
            epoch = max(0, side.known.get(f"{self.name} epoch", 0) + shift)
            following, last = side.known.get(f"{place} {epoch}", (0, 0))
            sequence = {"next": following, "again": last, "too far": following + 5, "first": 0}[order]
            side.known[f"{self.name} sent"] = epoch, sequence, sequence + len(found)
            data = build_batch(
                found, producer_id=side.known[f"{self.name} id"], producer_epoch=epoch, base_sequence=sequence
            )
            return produce(self.topic, bytes(data), 0)(side)

        def remember(side: Side, answer: Any) -> None:
            epoch, sequence, following = side.known[f"{self.name} sent"]
            if not any(error_codes(answer)) and order in ("next", "too far"):
                side.known[f"{place} {epoch}"] = following, sequence
                side.known[f"{self.name} epoch"] = epoch

        name = f"produce the {order}, epoch {shift:+}"
        return step(name, ApiKey.PRODUCE, self.version(9, 13), make, remember=remember)

    def delete_records(self) -> Step:
        offset, key = self.often(self.random.randint(0, 8), -1, 99, -2), ApiKey.DELETE_RECORDS
        m = message(key)
        topics = [m.DeleteRecordsTopic(self.topic, [m.DeleteRecordsPartition(n, offset) for n in (0, 9)])]
        return step(f"delete below {offset}", key, self.version(0, 2), same(key, topics, 5000))

    def list_offsets(self) -> Step:
        key, time_ms = ApiKey.LIST_OFFSETS, self.often(START_MS + self.random.randint(-10, 120), *SPECIAL_TIMES)
        m = message(key)
        versions = self.version(SPECIAL_TIMES.get(time_ms, 1), 10)
        epoch = self.often(-1, 0, 5)
        parts = [m.ListOffsetsPartition(n, epoch, time_ms) for n in (0, 1, 9)]
        make = same(key, -1, self.random.randint(0, 1), [m.ListOffsetsTopic(self.topic, parts)], 1000)
        return step(f"list offsets of {time_ms}, epoch {epoch}", key, versions, make)

    def fetch(self) -> Step:
        offset, partition = self.random.randint(-1, 20), self.often(0, 1, 9)
        make = fetch(self.topic, offset, self.random.randint(0, 1), partition)
        return step(f"fetch {partition} from {offset}", ApiKey.FETCH, self.version(4, 18), make)

    def ask_for_epoch(self) -> Step:
        key, m = ApiKey.OFFSET_FOR_LEADER_EPOCH, message(ApiKey.OFFSET_FOR_LEADER_EPOCH)
        asked, current = self.random.randint(-1, 2), self.often(-1, 0, 5)
        parts = [m.OffsetForLeaderPartition(n, current, asked) for n in (0, 9)]
        make = same(key, -1, [m.OffsetForLeaderTopic(self.topic, parts)])
        return step(f"ask for epoch {asked}, current {current}", key, self.version(2, 4), make)

    def describe_producers(self) -> Step:
        key = ApiKey.DESCRIBE_PRODUCERS
        return step("describe producers", key, (0,), same(key, [message(key).TopicRequest(self.topic, [0, 1, 9])]))
