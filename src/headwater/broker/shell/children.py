"""Processes that work for the broker, and end with it.

A signal to the whole process group, or to all processes of a service, is meant for the broker. For an orderly stop the
broker needs its children, so a child ignores such signals: they are blocked from its first instruction on.
"""

import signal
import subprocess
from collections.abc import Sequence
from typing import Any

BLOCKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def start_child(command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Starts a process that ends only by itself or by SIGKILL. `options` are those of Popen. Raises OSError."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    try:
        return subprocess.Popen(command, **options)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
