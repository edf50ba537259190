"""One seed: a broker, its clients, and what goes wrong; then the verdict.

A run has four parts. First the topics are created. Then everything happens at once, for 60 seconds of simulated time. Then
nothing more goes wrong: every client gets the time to finish its work, and transactions that were left open time out. At the
end the broker's power is cut once more, it starts, and every partition and every group's offset is read. The checker
compares these final reads with everything that the clients had seen.

    result = simulate(seed)
    assert not result.findings

The same seed gives the same run, to the byte (`Result.transcript`).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from headwater.storage.failed_syncs import WHAT_TO_DO
from headwater.testing.simulate.administration import Administrator, Recycler
from headwater.testing.simulate.anomalies import Copy, Rules
from headwater.testing.simulate.checker import check
from headwater.testing.simulate.client import Call
from headwater.testing.simulate.consumers import Consumer, RecycledConsumer
from headwater.testing.simulate.disk import SimulatedFiles
from headwater.testing.simulate.final_reads import FinalReader
from headwater.testing.simulate.history import History
from headwater.testing.simulate.members import COPY_PREFIX, Copier, GroupConsumer
from headwater.testing.simulate.nemesis import Nemesis
from headwater.testing.simulate.node import Node
from headwater.testing.simulate.producers import IdempotentProducer
from headwater.testing.simulate.scene import Scene, TopicLife
from headwater.testing.simulate.transacting import TransactionalProducer
from headwater.testing.simulate.world import Process, World

ACTIVE_MS = 60_000.0
FINISH_MS = 90_000.0
TIMED_OUT_MS = 25_000.0
READ_MS = 60_000.0
SETUP_MS = 30_000.0
RETENTION_MS = 12_000
SEGMENT_SIZES = (3000, 8000, 30_000)
JOURNAL_SIZES = (1 << 16, 1 << 17, 1 << 18)
SETTINGS = {
    "group.initial.rebalance.delay.ms": 100,
    "group.consumer.assignment.interval.ms": 100,
    "group.min.session.timeout.ms": 1000,
    "group.consumer.session.timeout.ms": 6000,
    "group.consumer.min.session.timeout.ms": 1000,
    "group.consumer.heartbeat.interval.ms": 1500,
    "group.consumer.min.heartbeat.interval.ms": 1000,
    "offsets.topic.num.partitions": 2,
    "transaction.state.log.num.partitions": 2,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 2000,
    "log.cleaner.backoff.ms": 3000,
    "log.retention.check.interval.ms": 3000,
    "log.flush.offset.checkpoint.interval.ms": 7000,
}


@dataclass(slots=True)
class Result:
    """The result of a seed."""

    seed: int
    findings: list[str]
    transcript: str
    operations: int
    simulated_ms: float
    crash_states: int  # starts on a disk after a power cut
    kills: int
    clean_stops: int
    failed_disks: int
    faults: int
    routed_requests: int  # produce requests that took a route, in all lives but the last
    history: History = field(repr=False)


class Simulation:
    """See the module's docstring."""

    def __init__(self, seed: int, *, change: Callable[["Simulation"], None] | None = None) -> None:
        world = self.world = World(seed)
        random = world.random
        files = self.files = SimulatedFiles(random)
        settings = {**SETTINGS, "headwater.journal.file.bytes": random.choice(JOURNAL_SIZES)}
        node = self.node = Node(world, files, settings, random.choice(SEGMENT_SIZES))
        world.on_power_cut = node.power_cut
        node.asks_for_reboot = self.asks_for_reboot
        self.scene = Scene(world, files, node)
        self.history = self.scene.history
        self.is_ready = False
        self.copies: list[Copy] = []
        self.exclusive_groups: list[str] = []
        self.errors: list[str] = []
        self.errors_seen = 0
        if change is not None:
            change(self)

    def asks_for_reboot(self) -> bool:
        """Whether the broker, in the life that ends, has logged that the page cache must not be trusted."""
        new, self.errors_seen = self.errors[self.errors_seen :], len(self.errors)
        return any(WHAT_TO_DO in text for text in new)

    # -- the scenario

    def prepare(self) -> Process:
        """Creates the topics and starts all actors."""
        admin = Administrator(self.scene, "admin", [])
        chance, random = self.world.chance, self.world.random
        compacted = {
            "cleanup.policy": "compact",
            "min.cleanable.dirty.ratio": "0.1",
            "segment.ms": "5000",
            "delete.retention.ms": "1000",
        }
        plain = yield from self.make(admin, "plain", 2)
        mixed = yield from self.make(admin, "mixed", 2)
        admin.topics += [plain, mixed]
        self.scene.add(admin, admin.run())
        producers = [plain, plain, mixed]
        readers = [[plain, mixed]]
        if chance(0.5):
            trimmed = yield from self.make(admin, "trimmed", 1)
            trimmed.is_trimmed = True
            admin.topics.append(trimmed)
            producers.append(trimmed)
            readers.append([trimmed, mixed])
        if chance(0.5):
            topic = yield from self.make(admin, "compacted", 1, **compacted)
            topic.is_compacted = True
            producers.append(topic)
            readers.append([topic])
        if chance(0.4):
            topic = yield from self.make(
                admin, "expiring", 1, **{"retention.ms": str(RETENTION_MS), "segment.ms": "4000"}
            )
            producers.append(topic)
            readers.append([topic, plain])
        for n, topic in enumerate(producers):
            pause_ms = random.choice((600.0, 1200.0))
            producer = IdempotentProducer(self.scene, f"p{n}", topic, pause_ms)
            self.scene.add(producer, producer.run())
        for n, topics in enumerate(readers):
            consumer = Consumer(self.scene, f"c{n}", topics, is_committed=chance(0.5), pause_ms=700.0)
            self.scene.add(consumer, consumer.run())
        yield from self.prepare_transactions(admin, mixed)
        yield from self.prepare_groups(admin, plain)
        if chance(0.4):
            recycler, reader = Recycler(self.scene, "recycler", []), RecycledConsumer(self.scene, "reader")
            self.scene.add(recycler, recycler.run())
            self.scene.add(reader, reader.run())
        self.prepare_nemesis()
        self.is_ready = True

    def make(self, admin: Administrator, name: str, partitions: int, **configs: str) -> Call:
        topic = self.scene.new_topic(name, partitions)
        yield from admin.create(topic, configs)
        return topic

    def prepare_transactions(self, admin: Administrator, mixed: TopicLife) -> Call:
        random = self.world.random
        second = yield from self.make(admin, "second", 1)
        for n in range(random.randint(1, 3)):
            producer = TransactionalProducer(
                self.scene,
                f"tx{n}",
                [mixed, second],
                version=random.choice((2, 2, 1)),
                pause_ms=random.choice((700.0, 1500.0)),
            )
            self.scene.groups[f"of-tx{n}"] = [mixed, second]
            self.scene.add(producer, producer.run())

    def prepare_groups(self, admin: Administrator, plain: TopicLife) -> Call:
        chance, random = self.world.chance, self.world.random
        is_modern = chance(0.5)
        group = "modern" if is_modern else "classic"
        self.scene.groups[group] = [plain]
        self.exclusive_groups.append(group)
        for n in range(random.randint(1, 3)):
            member = GroupConsumer(self.scene, f"{group}{n}", group, [plain], is_modern=is_modern)
            self.scene.add(member, member.run())
        if chance(0.6):
            target = yield from self.make(admin, "target", plain.partitions)
            self.copies.append(Copy("copiers", plain.label, target.label, COPY_PREFIX))
            self.scene.groups["copiers"] = [plain]
            is_modern = chance(0.5)
            for n in range(random.randint(1, 2)):
                copier = Copier(self.scene, f"copier{n}", "copiers", (plain, target), is_modern=is_modern)
                self.scene.add(copier, copier.run())

    def prepare_nemesis(self) -> None:
        nemesis, world, chance = Nemesis(self.scene), self.world, self.world.chance
        world.start(nemesis.crash(world.random.choice((2500.0, 5000.0, 10_000.0, 20_000.0))))
        world.start(nemesis.cut_connections(world.random.choice((700.0, 3000.0))))
        if chance(0.4):
            world.start(nemesis.fail_disk(12_000.0))
        if chance(0.4):
            world.start(nemesis.move_clock(8000.0))
        if chance(0.1):
            self.scene.fragile = frozenset({"mixed", "trimmed", "compacted", "expiring"})
        self.node.while_down = nemesis.between_lives

    # -- the run

    def run(self) -> Result:
        world = self.world
        with ErrorLog(self.errors):
            self.node.start()
            world.start(self.prepare())
            world.run_until(SETUP_MS, lambda: self.is_ready)
            if not self.is_ready:
                world.find("the topics cannot be made")
            world.run_until(world.now_ms + ACTIVE_MS)
            self.finish()
            self.read()
        anomalies = [str(anomaly) for anomaly in check(self.history, self.rules())]
        self.check_named()
        self.check_unnamed()
        return Result(
            world.seed,
            world.findings + anomalies,
            world.transcript.hexdigest(),
            len(self.history.operations),
            world.now_ms,
            self.node.crashes,
            self.node.kills,
            self.node.stops,
            self.node.failures,
            self.files.faults_injected,
            self.node.routed_requests,
            self.history,
        )

    def finish(self) -> None:
        """Nothing more goes wrong; every client finishes, and transactions that were left open time out."""
        world = self.world
        self.scene.is_ending = True
        self.node.while_down = lambda: None
        self.files.heal()
        self.files.cut_after = None
        world.later(0, self.node.stop)
        world.run_until(world.now_ms + FINISH_MS, lambda: not any(actor.is_busy for actor in self.scene.actors))
        busy = [actor.name for actor in self.scene.actors if actor.is_busy]
        if busy and not self.scene.has_damage:
            world.find(f"{', '.join(busy)} got no final answers")
        world.run_until(world.now_ms + TIMED_OUT_MS)

    def read(self) -> None:
        """Cuts the power once more; then everything is read."""
        world = self.world
        self.scene.is_over = True
        world.run_until(world.now_ms + 5000, lambda: self.node.core is not None)
        world.later(0, self.node.power_cut)
        reader = FinalReader(self.scene, "final")
        self.scene.add(reader, reader.run())
        world.run_until(world.now_ms + READ_MS, lambda: reader.has_read)
        if not reader.has_read:
            world.find("the final reads do not end")

    def rules(self) -> Rules:
        expired = self.world.latest_wall_ms - RETENTION_MS + 1
        return Rules(
            compacted=frozenset({"compacted"}),
            expired_before_ms={"expiring": expired},
            exclusive_groups=frozenset(self.exclusive_groups),
            damaged=frozenset(self.scene.damaged),
            copies=tuple(self.copies),
        )

    def check_named(self) -> None:
        """Checks that damage which lost records was reported: in the log at ERROR, or to a client that asked for them."""
        if not self.scene.damaged:
            return
        without = replace(self.rules(), damaged=frozenset())
        for label, partition in sorted(self.scene.damaged):
            where = f"{label}-{partition}"
            missing = [a for a in check(self.history, without) if a.where == where]
            is_named = (label, partition) in self.scene.named or any(where in text for text in self.errors)
            if missing and not is_named:
                self.world.find(f"{where} is damaged, and no error names it: {missing[0]}")

    def check_unnamed(self) -> None:
        """A power cut is not damage: if no file was damaged, nothing may be reported as damaged or lost."""
        if self.scene.damaged or self.scene.has_lost_checkpoint or self.files.faults_injected:
            return
        for text in self.errors:
            if any(word in text for word in ("damaged", "missing", "lost")):
                self.world.find(f"no file was damaged, and yet: {text}")


class ErrorLog(logging.Handler):
    """Collects the errors that the broker logs, and keeps its log off the terminal."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.ERROR)
        self.lines = lines
        self.logger = logging.getLogger("headwater")

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def __enter__(self) -> "ErrorLog":
        self.before = self.logger.propagate, self.logger.level
        self.logger.addHandler(self)
        self.logger.propagate = False
        self.logger.setLevel(logging.ERROR)
        return self

    def __exit__(self, *error: object) -> None:
        self.logger.removeHandler(self)
        self.logger.propagate, level = self.before
        self.logger.setLevel(level)


def simulate(seed: int) -> Result:
    """Runs a seed from its beginning to its verdict."""
    return Simulation(seed).run()
