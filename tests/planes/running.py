"""A broker in memory, in a thread, with the listener of the planes and their account open."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import TypeVar

from headwater.broker.configs.settings import Settings
from headwater.broker.core import BrokerCore
from headwater.broker.shell.listeners import read_listeners
from headwater.broker.shell.ready import Ready
from headwater.broker.shell.run import Stop, run_broker
from headwater.broker.shell.server import Server
from headwater.effects.clock import SystemClock
from headwater.effects.entropy import SystemEntropy
from headwater.effects.memory_files import MemoryFiles
from headwater.observability.counters import Counters
from headwater.planes.account import LISTENER, Account, open_account, user_claim
from headwater.planes.handover import Handover

Result = TypeVar("Result")
WAIT_S = 20
DEFAULTS = {"listeners": "PLAINTEXT://127.0.0.1:0", "offsets.topic.num.partitions": "1"}


class RunningBroker:
    """`account` is that of the planes, `port` that of the first listener."""

    def __init__(self, server: Server, port: int, account: Account) -> None:
        self.server, self.port, self.account = server, port, account

    @property
    def handover(self) -> Handover:
        """For planes of this broker."""
        return Handover([], *self.account, "warning", self.call(user_claim))

    def call(self, function: Callable[[BrokerCore], Result]) -> Result:
        """Runs a function in the broker's thread."""
        done: Future[Result] = Future()

        def run() -> None:
            done.set_result(function(self.server.core))
            self.server.after_event()

        self.server.loop.call_soon_threadsafe(run)
        return done.result(WAIT_S)


@contextlib.contextmanager
def running_broker(pairs: Mapping[str, str]) -> Iterator[RunningBroker]:
    settings = Settings.from_pairs({**DEFAULTS, **pairs})
    stop, started = Stop(), Future[RunningBroker]()

    def make_server(core: BrokerCore) -> Server:
        Counters(core.occurrences)
        return Server(core, inline=True)

    def on_ready(server: Server, ready: Ready) -> None:
        started.set_result(RunningBroker(server, ready.listeners[0].port, open_account(server.core)))

    def run() -> None:
        try:
            run_broker(
                lambda: BrokerCore(settings, MemoryFiles(1 << 28), SystemClock(), SystemEntropy(), directory="data"),
                make_server,
                [*read_listeners(settings), LISTENER],
                stop=stop,
                on_ready=on_ready,
            )
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
            raise

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield started.result(WAIT_S)
    finally:
        stop.ask()
        thread.join(WAIT_S)
        assert not thread.is_alive()
