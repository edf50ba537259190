"""A real broker for a test: in memory, in this process, with a clock that can be moved and faults on demand."""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from headwater.broker.configs.settings import Settings
from headwater.broker.core import BrokerCore
from headwater.broker.dispatch import served_api
from headwater.broker.shell.embedded import Broker, BrokerError, ThreadRunner
from headwater.broker.shell.listeners import read_listeners
from headwater.broker.shell.server import Server
from headwater.effects.clock import MovableClock, unwatch_moves, watch_moves
from headwater.effects.entropy import SystemEntropy
from headwater.effects.memory_files import MemoryFiles
from headwater.protocol.apis import ApiKey
from headwater.testing.faults import FaultyServer, Network
from headwater.testing.topics import Topic
from headwater.testing.transcript import Transcript, stored_events

MEMORY_BYTES_MAX = 256 << 20
QUICK = {
    # A test has few groups, so fewer partitions have to be created and loaded.
    "offsets.topic.num.partitions": 1,
    "transaction.state.log.num.partitions": 1,
}


USUAL = (
    ApiKey.API_VERSIONS,
    ApiKey.METADATA,
    ApiKey.CREATE_TOPICS,
    ApiKey.PRODUCE,
    ApiKey.FIND_COORDINATOR,
    ApiKey.JOIN_GROUP,
    ApiKey.SYNC_GROUP,
    ApiKey.HEARTBEAT,
    ApiKey.OFFSET_FETCH,
    ApiKey.OFFSET_COMMIT,
    ApiKey.LIST_OFFSETS,
    ApiKey.FETCH,
    ApiKey.LEAVE_GROUP,
)


def prepare() -> None:
    """Imports what nearly every test uses. Otherwise the broker would import it with the first request of each kind."""
    for key in USUAL:
        served_api(key)


class TestRunner(ThreadRunner):
    """Runs the broker on the test's own files, clock and network."""

    __test__ = False

    def open(self) -> BrokerCore:
        broker = cast("TestBroker", self.broker)
        return BrokerCore(broker.settings, broker.files, broker.clock, SystemEntropy(), directory="data")

    def make_server(self, core: BrokerCore) -> Server:
        broker = cast("TestBroker", self.broker)
        return FaultyServer(core, broker.network, broker.transcript)


class TestBroker(Broker):
    """A broker for one test. Its data survives `kill` and `restart`.

    `clock.advance(ms)` moves the time for retention, sessions, transactions and schedules at once. `network` drops and
    delays requests. `disk_full()` refuses writes. `transcript` lists the requests of all clients.
    """

    __test__ = False  # pytest collects classes by this name

    def __init__(
        self, *, settings: Mapping[str, object] | None = None, memory_bytes_max: int = MEMORY_BYTES_MAX
    ) -> None:
        super().__init__(settings={**QUICK, **(settings or {})}, memory_bytes_max=memory_bytes_max)
        self.files = MemoryFiles(memory_bytes_max)
        self.clock = MovableClock()
        self.network = Network()
        self.transcript = Transcript()
        self.topics: dict[str, Topic] = {}
        watch_moves(self.clock, self.clock_moved)

    def make_runner(self) -> ThreadRunner:
        return TestRunner(self)

    @property
    def running(self) -> TestRunner:
        if not isinstance(self.runner, TestRunner):
            raise BrokerError("the broker is not started")
        return self.runner

    def clock_moved(self) -> None:
        if self.runner is not None:
            self.running.call(lambda server: server.run_timers())

    def topic(self, name: str, partitions: int = 1, **configs: object) -> Topic:
        """A topic to send to and to expect from, created if it does not exist. `retention_ms=1000` sets retention.ms."""
        if name not in self.topics:
            self.topics[name] = Topic(self, name)
            self.topics[name].create(partitions, {key.replace("_", "."): value for key, value in configs.items()})
        return self.topics[name]

    # -- faults

    def kill(self) -> None:
        """Ends the broker as SIGKILL does: without any further answer or clean-up. `start` restarts it on the same address."""
        runner = self.running
        addresses = ",".join(f"{name}://{address}" for name, address in runner.addresses.items())

        def die(server: Server) -> None:
            server.core.durability.is_failed = True
            server.abort_clients()

        runner.call(die)
        self.runner = None
        runner.stop()
        self.settings = Settings.from_pairs({**self.pairs, "listeners": addresses})
        self.listeners = read_listeners(self.settings)

    def restart(self) -> None:
        """`kill` and `start`."""
        self.kill()
        self.start()

    @contextmanager
    def disk_full(self) -> Iterator[None]:
        """Within the block the disk is full: writes are refused, reads still work."""
        self.files.fault = lambda call, path: errno.ENOSPC if call == "write" else None
        try:
            yield
        finally:
            self.files.fault = None

    # -- contents

    def events(self, topic: str | None = None) -> list[Any]:
        """The stored events of one topic, or of all except internal topics, ordered by partition and offset."""
        return self.running.call(lambda server: stored_events(server.core, topic))

    def report(self) -> str:
        """All traffic and all stored events, as text for a failed test."""
        lines = [f"{len(self.transcript.lines)} requests:", *self.transcript.lines]
        if self.runner is not None:
            lines += ["", "stored:", *(f"  {event!r}" for event in self.events())]
        return "\n".join(lines)

    def stop(self) -> None:
        for topic in self.topics.values():
            topic.close()
        self.topics.clear()
        super().stop()

    def close(self) -> None:
        """Stops the broker, and releases the clock."""
        self.stop()
        unwatch_moves(self.clock, self.clock_moved)
