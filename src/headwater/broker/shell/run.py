"""What every way of running a broker needs: an event loop and the core on a disk."""

import asyncio
import contextlib
import errno
import os
from collections.abc import Iterator

from headwater.broker import descriptors
from headwater.broker.configs.settings import Settings
from headwater.broker.core import BrokerCore
from headwater.broker.shell.listeners import Listener, ListenError
from headwater.broker.shell.server import Server
from headwater.effects.clock import SystemClock
from headwater.effects.entropy import SystemEntropy
from headwater.effects.files import DiskFiles


@contextlib.contextmanager
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A new loop for this thread: uvloop's where there is one."""
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
    """The core on a directory of the disk. Raises StorageError and OSError."""
    files = DiskFiles(descriptors.for_logs(settings))
    return BrokerCore(settings, files, SystemClock(), SystemEntropy(), directory=os.path.abspath(directory))


async def start_listeners(server: Server, listeners: list[Listener]) -> dict[str, tuple[str, int]]:
    """Listens on all of them, for every node; returns the address of the first node of each. Raises ListenError."""
    bound: dict[str, tuple[str, int]] = {}
    for listener in listeners:
        for position, node_id in enumerate(server.core.cluster.node_ids):
            wanted = listener.port + position if listener.port else 0
            port = await start_listener(server, listener, node_id, wanted)
            host, told = listener.host, port
            if listener.advertised is not None:
                host, told = listener.advertised[0], listener.advertised[1] + position
            server.core.cluster.advertise(listener.name, node_id, host, told)
            bound.setdefault(listener.name, (listener.host, port))
    return bound


async def start_listener(server: Server, listener: Listener, node_id: int, port: int) -> int:
    where = f"{listener.host}:{port}"
    try:
        return await server.listen(listener, listener.endpoint(node_id), port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ListenError(f"{where} is in use; stop what listens there or choose another with --listen") from error
        raise ListenError(f"cannot listen on {where}: {error.strerror or error}") from error
