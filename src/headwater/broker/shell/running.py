"""What every way of running a broker needs: an event loop and the core on a disk."""

import asyncio
import contextlib
import os
from collections.abc import Iterator

from headwater.broker import descriptors
from headwater.broker.configs.settings import Settings
from headwater.broker.core import BrokerCore
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
