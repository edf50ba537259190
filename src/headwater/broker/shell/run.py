"""Runs a broker, from its configuration to an orderly end. `headwater up`, `hw.Broker` and the test broker all do it here.

        open       the core is opened: its directory is locked, and its content recovered
    listen     on every listener; clients are accepted from here on
    ready      the caller learns the addresses
    run        until `Stop` says so, or the disk has failed
    stop       pending requests are answered, everything is synced and closed, even if one of the steps above failed

Each step either succeeds or raises an error that names what is wrong: StorageError for the data, ListenError for an address,
OSError for the disk. All of it happens in the caller's thread, in a loop of its own.
"""

import asyncio
import contextlib
import errno
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial

from headwater.broker import descriptors
from headwater.broker.configs.settings import Settings
from headwater.broker.core import BrokerCore
from headwater.broker.shell.listeners import Listener, ListenError
from headwater.broker.shell.ready import Ready, ReadyListener
from headwater.broker.shell.server import Server
from headwater.effects.clock import SystemClock
from headwater.effects.entropy import SystemEntropy
from headwater.effects.files import DiskFiles


class Stop:
    """Stops a broker: by a call of `ask`, by a signal, or when a descriptor reaches its end.

    `ask` may be called from any thread and at any time. If it is called before the start, nothing is started.
    """

    def __init__(self, *, signals: Sequence[signal.Signals] = (), descriptor: int | None = None) -> None:
        self.signals, self.descriptor = signals, descriptor
        self.lock = threading.Lock()
        self.is_asked = False
        self.wake: Callable[[], object] | None = None  # while the broker's loop runs

    def ask(self) -> None:
        with self.lock:
            self.is_asked = True
            if self.wake is not None:
                self.wake()

    @contextlib.contextmanager
    def watched(self) -> Iterator[asyncio.Event]:
        """An event of the running loop, which is set when the broker should stop."""
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        for number in self.signals:
            loop.add_signal_handler(number, stopping.set)
        if self.descriptor is not None:
            loop.add_reader(self.descriptor, self.read, self.descriptor, stopping)
        with self.lock:
            self.wake = partial(loop.call_soon_threadsafe, stopping.set)
            if self.is_asked:
                stopping.set()
        try:
            yield stopping
        finally:
            with self.lock:
                self.wake = None

    def read(self, descriptor: int, stopping: asyncio.Event) -> None:
        if not os.read(descriptor, 4096):
            asyncio.get_running_loop().remove_reader(descriptor)
            stopping.set()


def run_broker(
    open_core: Callable[[], BrokerCore],
    make_server: Callable[[BrokerCore], Server],
    listeners: Sequence[Listener],
    *,
    stop: Stop,
    on_ready: Callable[[Server, Ready], None],
    on_stopping: Callable[[], None] | None = None,
    on_stopped: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Runs a broker until it is stopped. Raises StorageError, ListenError and OSError.

    `on_ready`, `on_stopping` and `on_stopped` are called in the loop.
    """
    steady_ms = SystemClock().steady_ms
    begun_ms = steady_ms()

    async def serve() -> None:
        with stop.watched() as stopping:
            if stopping.is_set():
                return
            server = make_server(open_core())
            async with served(server, listeners, on_stopping, on_stopped) as ready_listeners:
                directory, took_ms = server.core.store.directory, round(steady_ms() - begun_ms)
                on_ready(server, Ready(ready_listeners, None, directory, os.getpid(), took_ms))
                await server.run_until(stopping)

    with event_loop() as loop:
        loop.run_until_complete(serve())


@contextlib.asynccontextmanager
async def served(
    server: Server,
    listeners: Sequence[Listener],
    on_stopping: Callable[[], None] | None,
    on_stopped: Callable[[], Awaitable[None]] | None,
) -> AsyncIterator[tuple[ReadyListener, ...]]:
    """Listens within the block, and stops the server after it. Yields the addresses of the listeners."""
    try:
        yield await start_listeners(server, listeners)
    finally:
        try:
            if on_stopping is not None:
                on_stopping()
            await server.stop()
        finally:
            if on_stopped is not None:
                await on_stopped()


@contextlib.contextmanager
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A new loop for this thread: uvloop's if it is installed."""
    loop: asyncio.AbstractEventLoop
    try:
        import uvloop
    except ImportError:  # Windows
        loop = asyncio.new_event_loop()
    else:
        loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield loop
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def open_core(settings: Settings, directory: str) -> BrokerCore:
    """The core on a directory on disk. Raises StorageError and OSError."""
    files = DiskFiles(descriptors.for_logs(settings))
    return BrokerCore(settings, files, SystemClock(), SystemEntropy(), directory=os.path.abspath(directory))


async def start_listeners(server: Server, listeners: Sequence[Listener]) -> tuple[ReadyListener, ...]:
    """Listens on all of them, for every node. Returns the first node's addresses, for clients. Raises ListenError."""
    found = []
    for listener in listeners:
        for position, node_id in enumerate(server.core.cluster.node_ids):
            wanted = listener.port + position if listener.port else 0
            port = await start_listener(server, listener, node_id, wanted)
            host, told = listener.host, port
            if listener.advertised is not None:
                host, told = listener.advertised[0], listener.advertised[1] + position
            server.core.cluster.advertise(listener.name, node_id, host, told)
            if position == 0 and not listener.endpoint(node_id).is_private:
                found.append(ReadyListener(listener.name, host, told, listener.host, port))
    return tuple(found)


async def start_listener(server: Server, listener: Listener, node_id: int, port: int) -> int:
    where = f"{listener.host}:{port}"
    try:
        return await server.listen(listener, listener.endpoint(node_id), port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ListenError(
                f"{where} is in use; stop the program that listens there, or choose another address with --listen"
            ) from error
        raise ListenError(f"cannot listen on {where}: {error.strerror or error}") from error
