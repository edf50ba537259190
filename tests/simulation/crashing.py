"""A broker whose files crash, for histories that go through many crashes."""

from collections.abc import Sequence
from random import Random

from headwater.broker.core import BrokerCore
from headwater.broker.metadata import Topic
from headwater.broker.settings import Settings
from headwater.effects.clock import ManualClock
from headwater.effects.entropy import SeededEntropy
from headwater.effects.memory_files import MemoryFiles
from headwater.storage.checkpoints import LOG_STARTS, RECOVERY_POINTS
from headwater.storage.config import LogConfig
from tests.broker.harness import Harness


class CrashingHarness(Harness):
    """A harness whose logs have small segments, so that they roll."""

    segment_bytes = 3000
    opened = 0

    def open(self) -> BrokerCore:
        segment_bytes = self.segment_bytes
        self.opened += 1

        class SmallSegments(BrokerCore):
            def log_config(self, topic: Topic) -> LogConfig:
                return LogConfig(segment_bytes=segment_bytes, index_interval_bytes=200, retention_ms=-1)

        return SmallSegments(
            Settings.from_pairs(self.pairs), self.files, self.clock, SeededEntropy(self.opened), directory="data"
        )


class CrashHistory:
    """What a seed decides of the broker: topics `a` with two partitions and `b` with one, and how soon files are full."""

    loses_files = True

    def __init__(self, seed: int, segment_sizes: Sequence[int], **pairs: int) -> None:
        self.random = Random(seed)
        self.files = MemoryFiles(crashable=True)
        journal_file_bytes = self.random.choice((1 << 16, 1 << 18))
        self.broker = CrashingHarness(
            self.files, ManualClock(), **{"headwater.journal.file.bytes": journal_file_bytes, **pairs}
        )
        self.broker.segment_bytes = self.random.choice(segment_sizes)
        self.broker.create_topic("a", 2)
        self.broker.create_topic("b", 1)

    def crash(self) -> None:
        """A power cut; now and then files that only save work, or have a copy, do not come back either."""
        self.files.crash(self.random)
        if not self.loses_files:
            return
        if self.random.random() < 0.3:
            self.lose(self.random.choice((".index", ".timeindex", ".sums")))
        if self.random.random() < 0.1:
            name = f"data/{self.random.choice((RECOVERY_POINTS, LOG_STARTS))}"
            if self.files.exists(name):
                self.files.remove(name)

    def lose(self, suffix: str) -> None:
        """Empties or removes some files of the logs."""
        for directory in self.files.list_directory("data"):
            if not self.files.exists(f"data/{directory}/leader-epoch-checkpoint"):
                continue
            for name in self.files.list_directory(f"data/{directory}"):
                if name.endswith(suffix) and self.random.random() < 0.5:
                    self.files.remove(f"data/{directory}/{name}")
