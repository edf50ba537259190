"""The simulated broker process: the real core, dispatch and journal driver, on the simulated disk and network.

It does the work of the server's shell as events. A sync of the journal takes a moment, during which requests are still
served. A checkpoint runs in steps between other events, as its thread would. Timers fire when they are due. Work in slices
is interrupted at moments that the seed chooses. The process can be stopped cleanly or killed (then the page cache outlives
it), and its power can be cut.

If a start fails because of damage or a failing disk, it is tried again later, as a supervisor would do.
"""

import errno
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from random import Random

from headwater.broker.configs.settings import Settings
from headwater.broker.core import BrokerCore
from headwater.broker.durability import Durability
from headwater.broker.metadata import Topic
from headwater.broker.partitions import Partitions
from headwater.effects.clock import Clock
from headwater.effects.entropy import SeededEntropy
from headwater.storage.checkpoint import Checkpoint
from headwater.storage.config import LogConfig
from headwater.storage.errors import StorageError
from headwater.testing.simulate.broker_end import BrokerEnd
from headwater.testing.simulate.disk import SimulatedFiles
from headwater.testing.simulate.world import World

SYNC_MS_MIN = 0.3
SYNC_MS_MAX = (2.0, 15.0, 120.0)
STEP_MS_MAX = 20.0
DOWN_MS_MIN, DOWN_MS_MAX = 50.0, 1500.0
RETRY_MS = 1000.0
DIRECTORY = "data"


class SlicingClock:
    """The clock that ends the slices of work: the seed decides after how many steps."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.now_ms = 0.0

    def wall_ms(self) -> int:
        return int(self.now_ms)

    def steady_ms(self) -> float:
        if self.random.random() < 0.1:
            self.now_ms += 20.0
        return self.now_ms


class SmallPartitions(Partitions):
    """Partitions with segments so small that logs roll, and indexes so fine that they have entries."""

    segment_bytes = 5000

    def log_config(self, topic: Topic) -> LogConfig:
        known = self.log_configs.get(topic.topic_id)
        if known is not None:
            return known
        config = super().log_config(topic)
        small = replace(config, segment_bytes=min(self.segment_bytes, config.segment_bytes), index_interval_bytes=200)
        self.log_configs[topic.topic_id] = small
        return small


class SimulatedCore(BrokerCore):
    """The core, with small partitions."""

    partitions_class = SmallPartitions


class EventDisk:
    """The journal driver's disk: the seed decides how long syncs and checkpoints take."""

    def __init__(self, node: "Node", durability: Durability) -> None:
        self.node, self.durability = node, durability
        self.world = node.world
        self.life = node.life

    def begin_sync(self, file: int) -> bool:
        delay_ms = self.world.random.uniform(SYNC_MS_MIN, self.node.sync_ms_max)
        self.world.later(delay_ms, lambda: self.end_sync(file))
        return False

    def end_sync(self, file: int) -> None:
        if self.node.life != self.life:
            return
        try:
            self.durability.journal.sync(file)
        except OSError as error:
            self.durability.synced(error)
        else:
            self.durability.synced(None)
        self.node.after_event()

    def run_checkpoint(self, checkpoint: Checkpoint) -> None:
        steps = checkpoint.steps()
        self.world.later(self.world.random.random() * STEP_MS_MAX, lambda: self.step(steps))

    def step(self, steps: Iterator[None]) -> None:
        if self.node.life != self.life:
            return
        try:
            for _ in range(self.world.random.randint(1, 6)):
                next(steps)
        except StopIteration:
            self.durability.checkpoint_ended(None)
        except OSError as error:
            self.durability.checkpoint_ended(error)
        else:
            self.world.later(self.world.random.random() * STEP_MS_MAX, lambda: self.step(steps))
        self.node.after_event()

    def journal_advanced(self) -> None:
        """Does nothing: in the simulation nothing waits for room in the journal."""

    def failed(self, error: Exception) -> None:
        self.node.world.later(0, lambda: self.node.end_failed(self.life, error))

    def report(self, error: Exception) -> None:
        self.node.defect(error)


class Node:
    """See the module's docstring."""

    def __init__(self, world: World, files: SimulatedFiles, settings: Mapping[str, object], segment_bytes: int) -> None:
        self.world, self.files = world, files
        self.settings = Settings.from_pairs({key: str(value) for key, value in settings.items()})
        self.core_class = type("SimulatedCore", (SimulatedCore,), {"segment_bytes": segment_bytes})
        self.core: BrokerCore | None = None
        self.life = 0
        self.sync_ms_max = world.random.choice(SYNC_MS_MAX)
        self.ends: dict[BrokerEnd, Callable[[], None]] = {}  # each notifies its client when the broker is gone
        self.timer_ms = float("inf")
        self.crashes = self.kills = self.stops = self.failures = 0
        self.routed_requests = 0  # in all lives that have ended
        self.is_ending = False
        self.asks_for_reboot: Callable[[], bool] = lambda: False  # the log says that the machine has to be restarted
        self.while_down: Callable[[], None] = lambda: None  # changes the disk between two lives

    @property
    def running_core(self) -> BrokerCore:
        assert self.core is not None
        return self.core

    # -- life

    def start(self) -> None:
        if self.core is not None:
            return
        self.life += 1
        clock: Clock = self.world.clock
        try:
            core = self.core_class(
                self.settings, self.files, clock, SeededEntropy(self.world.random.getrandbits(32)), directory=DIRECTORY
            )
        except (OSError, StorageError) as error:
            self.start_failed(error)
            return
        core.durability.disk = EventDisk(self, core.durability)
        core.work.clock = SlicingClock(self.world.random)
        self.core = core
        self.timer_ms = float("inf")
        self.world.record(b"start %d" % self.life)
        core.durability.after_timers()
        self.after_event()

    def start_failed(self, error: Exception) -> None:
        """Reports a failed start, unless the disk explains it."""
        self.world.record(b"no start")
        self.end_process()
        if self.files.failing is None:
            self.world.find(f"the broker does not start: {error!r}")
            return
        self.failures += 1
        self.world.later(RETRY_MS, self.start)

    def restart_later(self) -> None:
        self.while_down()
        self.world.later(self.world.random.uniform(DOWN_MS_MIN, DOWN_MS_MAX), self.start)

    def leave(self) -> None:
        """Ends the process; its clients notice."""
        if self.core is not None:
            self.routed_requests += self.core.routed_requests
        self.core = None
        self.life += 1
        ends, self.ends = self.ends, {}
        for end, gone in ends.items():
            end.is_open = False
            gone()

    def power_cut(self) -> None:
        """Cuts the machine's power; unsynced writes may be lost."""
        if self.core is None and not self.files.is_off:
            return
        self.crashes += 1
        self.world.record(b"power cut")
        self.leave()
        self.files.power_on()
        self.restart_later()

    def kill(self) -> None:
        """Ends the process as SIGKILL does: nothing more is written, and no write is lost."""
        if self.core is None:
            return
        self.kills += 1
        self.world.record(b"kill")
        self.leave()
        self.files.forget_process()
        self.restart_later()

    def stop(self) -> None:
        """Stops cleanly: no more requests are read, and the work in progress is finished."""
        core = self.core
        if core is None:
            return
        if core.durability.syncing is not None or core.durability.checkpoint is not None:
            self.world.later(1.0, self.stop)  # the shell waits for both
            return
        self.stops += 1
        self.world.record(b"stop")
        try:
            core.close()
        except OSError as error:
            self.end_failed(self.life, error)
            return
        self.leave()
        self.files.forget_process()
        self.restart_later()

    def end_failed(self, life: int, error: Exception) -> None:
        """The broker ends because of its disk; if the disk had no fault, that is a finding."""
        if self.core is None or self.life != life:
            return
        self.failures += 1
        self.world.record(b"failed")
        if not self.files.faults_injected:
            self.world.find(f"the broker ended without a fault of the disk: {error!r}")
        self.core.store.abandon()
        self.leave()
        self.end_process()
        self.restart_later()

    def end_process(self) -> None:
        """Restarts the machine, which drops the page cache, if the log asks for that: a supervisor would do so too."""
        if self.asks_for_reboot():
            self.files.power_on()
        else:
            self.files.forget_process()

    def defect(self, error: Exception) -> None:
        """A request raised an exception that cannot be sent as an answer."""
        if isinstance(error, OSError) and error.errno in (errno.EIO, errno.ENOSPC, errno.EMFILE):
            self.world.find(f"an error of the disk was not answered: {error!r}")
        else:
            self.world.find(f"a defect: {error!r}")

    # -- what the shell does

    def accept(self, send: Callable[[bytes], None], gone: Callable[[], None]) -> BrokerEnd | None:
        """The broker's end of a new connection; None if nobody listens."""
        if self.core is None:
            return None
        end = BrokerEnd(self, send)
        self.ends[end] = gone
        return end

    def ended(self, end: BrokerEnd) -> None:
        self.ends.pop(end, None)

    def after_event(self) -> None:
        core = self.core
        if core is None:
            return
        if core.durability.syncing is None:
            core.durability.after_event()
        deadline_ms = core.timers.next_deadline_ms()
        if deadline_ms is not None and deadline_ms < self.timer_ms:
            self.timer_ms = deadline_ms
            life = self.life
            self.world.at(deadline_ms, lambda: self.run_timers(life, deadline_ms))

    def run_timers(self, life: int, deadline_ms: float) -> None:
        core = self.core
        if core is None or life != self.life or deadline_ms != self.timer_ms:
            return
        self.timer_ms = float("inf")
        try:
            core.timers.run_due()
        except Exception as error:  # noqa: BLE001 - a defect: it is reported, and the run continues
            self.defect(error)
        core.durability.after_timers()
        self.after_event()
