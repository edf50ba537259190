"""Power cuts in the middle of transactions: each is there in all of its partitions and offsets, or in none.

Each seed is a history of transactional producers over several partitions and a group, on files that crash: of every
unsynced write any part may be missing, torn or there. After each crash the producers start again, as applications do;
what was answered must hold, and what was not must be whole. A failure prints its seed.
"""

import os
from random import Random

import pytest

from tests.broker.harness import Pending
from tests.broker.transactional import Producer, committed_values, fetched_offset
from tests.simulation.crashing import CrashHistory, CrashingHarness

SEEDS = int(os.environ.get("TEST_SEEDS", "60")) // 2
CHUNK = 50
LIVES = 4
PARTITIONS = (("a", 0), ("a", 1), ("b", 0))


class Lane:
    """One producer and its transactions, numbered; each writes its number to some partitions, and as an offset."""

    def __init__(self, broker: CrashingHarness, number: int, version: int) -> None:
        self.name = f"tx-{number}"
        self.producer = Producer(broker, self.name, version)
        self.next = 1
        self.open: dict[tuple[str, int], int] = {}  # partitions of the open transaction, and the records in each
        self.pending: list[Pending] = []
        self.offset: Pending | None = None
        self.ending: tuple[bool, Pending] | None = None
        self.outcomes: dict[int, bool | None] = {}  # None: nobody was told
        self.written: dict[int, dict[tuple[str, int], int]] = {}
        self.has_offset: set[int] = set()

    def value(self) -> bytes:
        return b"%s:%d" % (self.name.encode(), self.next)

    def step(self, random: Random) -> None:
        producer = self.producer
        if self.ending is not None:
            return
        action = random.random()
        if action < 0.6:
            key = random.choice(PARTITIONS)
            if producer.version < 2 and key not in self.open:
                producer.broker.hold_syncs = False
                assert producer.add(*key) == 0
                producer.broker.hold_syncs = True
            self.open[key] = self.open.get(key, 0) + 1
            self.pending.append(producer.send_produce(key[0], self.value(), partition=key[1]))
        elif action < 0.75 and producer.version >= 2 and self.offset is None:
            self.offset = producer.send_offset(self.name, "a", self.next)
        elif (self.open or self.offset is not None) and all(p.is_done for p in (*self.pending, self.offset) if p):
            commit = random.random() < 0.7
            self.note(None)
            self.ending = commit, producer.send_end(commit=commit)

    def note(self, outcome: bool | None) -> None:
        self.outcomes[self.next] = outcome
        self.written[self.next] = dict(self.open)
        if self.offset is not None:
            self.has_offset.add(self.next)

    def collect(self) -> None:
        for pending in self.pending:
            if pending.is_done:
                assert pending.message.responses[0].partition_responses[0].error_code == 0
        if self.ending is not None and self.ending[1].is_done:
            commit, pending = self.ending
            answer = pending.message
            assert answer.error_code == 0, answer
            if self.producer.version >= 2:
                self.producer.took(answer)
            self.note(commit)
            self.begin_next()

    def begin_next(self) -> None:
        self.next += 1
        self.open, self.pending, self.offset, self.ending = {}, [], None, None

    def start_again(self) -> None:
        """After a crash. What was not ended is aborted; what was being ended is whatever it became."""
        if self.ending is None and (self.open or self.offset is not None):
            self.note(False)
        assert self.producer.init().error_code == 0
        self.begin_next()


class History(CrashHistory):
    """One seed."""

    def __init__(self, seed: int) -> None:
        partitions = {"offsets.topic.num.partitions": 2, "transaction.state.log.num.partitions": 2}
        super().__init__(seed, (600, 3000, 100_000), **partitions)
        self.lanes = [Lane(self.broker, n, version) for n, version in enumerate((2, 2, 1))]
        for lane in self.lanes:
            assert lane.producer.init().error_code == 0
        self.broker.hold_syncs = True

    def run(self) -> None:
        for _ in range(LIVES):
            for _ in range(self.random.randint(5, 60)):
                self.step()
            self.crash()
            self.broker.core = self.broker.open()
            self.broker.sync()
            self.check()

    def step(self) -> None:
        action = self.random.random()
        if action < 0.75:
            self.random.choice(self.lanes).step(self.random)
        elif action < 0.92:  # one sync, so that a crash can come between the steps of an ending
            self.broker.sync_one()
        elif action < 0.97:
            self.broker.sync()
        else:
            self.broker.core.durability.begin_checkpoint()
        self.broker.begin_sync()
        for lane in self.lanes:
            lane.collect()

    def check(self) -> None:
        self.broker.hold_syncs = False
        for lane in self.lanes:
            lane.start_again()
        topics = self.broker.core.metadata.topics
        logs = {key: self.broker.core.log(topics[key[0]], key[1]) for key in PARTITIONS}
        self.broker.sync()
        seen = {key: committed_values(self.broker, *key) for key in PARTITIONS}
        for key in PARTITIONS:
            log = logs[key]
            assert log.last_stable_offset == log.high_watermark, key
        for lane in self.lanes:
            for number, outcome in lane.outcomes.items():
                self.check_transaction(lane, number, outcome, seen)
            committed = [n for n, outcome in lane.outcomes.items() if outcome and n in lane.has_offset]
            offset, error = fetched_offset(self.broker, lane.name, "a")
            assert error == 0
            assert offset == (committed[-1] if committed else -1), (lane.name, offset, committed)
        self.broker.hold_syncs = True

    def check_transaction(
        self, lane: Lane, number: int, outcome: bool | None, seen: dict[tuple[str, int], list[bytes]]
    ) -> None:
        value = b"%s:%d" % (lane.name.encode(), number)
        found = {key: seen[key].count(value) for key in PARTITIONS if seen[key].count(value)}
        if outcome is None:  # all or nothing; from now on it is known
            offset, _ = fetched_offset(self.broker, lane.name, "a")
            outcome = bool(found) or (number in lane.has_offset and offset == number)
            lane.outcomes[number] = outcome
        assert found == (lane.written[number] if outcome else {}), (lane.name, number, outcome)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_no_transaction_is_torn(first: int) -> None:
    for seed in range(first, min(first + CHUNK, SEEDS)):
        try:
            History(seed).run()
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {error}") from error
