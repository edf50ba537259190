"""What every way of running a broker needs: an event loop, the core on a disk, a listener."""

import asyncio
import contextlib
import errno
import os
import resource
from collections.abc import Iterator

from headwater.broker.core import BrokerCore
from headwater.broker.server import Server
from headwater.broker.settings import Settings
from headwater.effects.clock import SystemClock
from headwater.effects.entropy import SystemEntropy
from headwater.effects.files import DiskFiles

DESCRIPTORS_FOR_LOGS_MAX = 8192


class ListenError(RuntimeError):
    """The address cannot be listened on; the message says why."""


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


def descriptors_for_logs(settings: Settings) -> int:
    """How many of the process's open files the logs may use: the rest is for connections."""
    if settings.headwater_open_files_max > 0:
        return settings.headwater_open_files_max
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(64, min(DESCRIPTORS_FOR_LOGS_MAX, soft // 2))


def open_core(settings: Settings, directory: str) -> BrokerCore:
    """The core on a directory of the disk. Raises StorageError and OSError."""
    files = DiskFiles(descriptors_for_logs(settings))
    return BrokerCore(settings, files, SystemClock(), SystemEntropy(), directory=os.path.abspath(directory))


class Listener:
    """Where clients connect, and what they are told to connect to."""

    def __init__(self, host: str, port: int, advertised: tuple[str, int] | None = None) -> None:
        self.host = host
        self.port = port
        self.advertised = advertised

    async def start(self, server: Server) -> int:
        """Returns the port. Raises ListenError."""
        try:
            port = await server.listen(self.host, self.port)
        except OSError as error:
            where = f"{self.host}:{self.port}"
            if error.errno == errno.EADDRINUSE:
                raise ListenError(
                    f"{where} is in use; stop what listens there or choose another with --listen"
                ) from error
            raise ListenError(f"cannot listen on {where}: {error.strerror or error}") from error
        server.core.host, server.core.port = self.advertised or (self.host, port)
        return port
