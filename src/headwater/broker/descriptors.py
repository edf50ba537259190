"""The limit of the process's open files, and how logs, connections and everything else share it.

The limit is that of the process (`RLIMIT_NOFILE`). `headwater up` raises its soft limit to the hard one; a broker embedded
in another process does not change it. The logs use up to half of the files, and close the least recently used ones.
Connections use the rest, except for a reserve: the journal, a checkpoint's files, the children's pipes, and the planes'
sockets.
"""

import contextlib
import os
import resource

from headwater.broker.configs.settings import Settings

FOR_LOGS_MAX = 8192
FOR_LOGS_MIN = 64
RESERVE = 96
FOR_CONNECTIONS_MIN = 16
# Some systems have a hard limit of a billion. Some programs would allocate tables of that size.
LIMIT_MAX = 1 << 20


def limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return LIMIT_MAX if soft == resource.RLIM_INFINITY else min(soft, LIMIT_MAX)


def raise_limit() -> None:
    """Raises the soft limit to the hard one, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = LIMIT_MAX if hard == resource.RLIM_INFINITY else min(hard, LIMIT_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # refused: the limits follow from what is allowed
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def for_logs(settings: Settings) -> int:
    """How many files the logs may use."""
    if settings.headwater_open_files_max > 0:
        return settings.headwater_open_files_max
    return max(FOR_LOGS_MIN, min(FOR_LOGS_MAX, (limit() - RESERVE) // 2))


def for_connections(settings: Settings, *, has_logs: bool) -> int:
    """How many connections are possible besides the files open now, the logs' share and the reserve."""
    logs = for_logs(settings) if has_logs else 0
    return max(FOR_CONNECTIONS_MIN, limit() - open_now() - logs - RESERVE)


def open_now() -> int:
    for directory in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return len(os.listdir(directory))
    return RESERVE
