"""What every way of running a broker needs: an event loop and the core on a disk."""

import asyncio
import contextlib
import os
import resource
from collections.abc import Iterator

from headwater.broker.core import BrokerCore
from headwater.broker.settings import Settings
from headwater.effects.clock import SystemClock
from headwater.effects.entropy import SystemEntropy
from headwater.effects.files import DiskFiles

DESCRIPTORS_FOR_LOGS_MAX = 8192


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
