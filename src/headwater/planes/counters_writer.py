"""Writes the broker's counters to the topic from which its planes read them, once per second, in the broker's process.

A snapshot is appended like any record, and becomes durable and visible like any record. If the disk is full, only snapshots
are lost: it is a line in the log, and the next second tries again.
"""

from collections.abc import Callable, Mapping

from headwater.broker.core import BrokerCore
from headwater.broker.limited_log import LimitedLog
from headwater.effects.logs import get_logger
from headwater.planes.counters_topic import CONFIGS, INTERVAL_MS, TOPIC, encode
from headwater.protocol.errors import ApiError
from headwater.protocol.records import Record, build_batch, read_header
from headwater.storage.log import Log

logger = get_logger(__name__)


class CountersWriter:
    """Writes from `start` until the core ends. `read` returns the present numbers."""

    def __init__(self, core: BrokerCore, read: Callable[[], Mapping[str, float]]) -> None:
        self.core, self.read = core, read
        self.log = LimitedLog(logger, core.clock.steady_ms)

    def start(self) -> None:
        """The first snapshot is written with the next timers, so the caller has to run the core's timers."""
        self.core.timers.call_later(0, self.write_regularly)

    def write_regularly(self) -> None:
        self.core.timers.call_later(INTERVAL_MS, self.write_regularly)
        if self.core.is_failed:
            return
        try:
            self.write()
        except (OSError, ApiError) as error:
            self.log.warning("counters", "the counters cannot be written to %s: %s", TOPIC, error)

    def write(self) -> None:
        """Appends a snapshot. Raises OSError and ApiError."""
        log = self.topic_log()
        batch = build_batch([Record(None, encode(self.read()), (), self.core.clock.wall_ms())])
        self.core.partitions.append(log, batch, read_header(batch))

    def topic_log(self) -> Log:
        core = self.core
        if TOPIC not in core.metadata.topics:
            # The planes only use the first node.
            core.topics.create(TOPIC, 1, CONFIGS, 1, {0: core.cluster.node_ids[:1]})
        return core.partitions.log(core.metadata.topics[TOPIC], 0)
