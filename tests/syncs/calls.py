"""What a process asked of the kernel, as far as the rules look at it.

A call has a start and an end. Both are line numbers of a trace, so that all calls of all processes are in one order: what
ended before something else began has happened before it. A call that failed does not count, except for a receive or a send.
"""

from dataclasses import dataclass
from enum import Enum, auto


class Kind(Enum):
    CREATE = auto()  # an open that makes the file if it is missing
    WRITE = auto()
    TRUNCATE = auto()  # to `position` bytes
    SYNC = auto()  # of a file or a directory
    RENAME = auto()
    REMOVE = auto()  # a file or a directory
    MAKE_DIRECTORY = auto()
    RECEIVE = auto()  # from a client
    SEND = auto()


@dataclass(frozen=True, slots=True)
class Call:
    """One call. `path` and `target` are absolute; `connection` tells clients apart."""

    kind: Kind
    start: int
    end: int
    thread: int = 0
    path: str = ""
    target: str = ""
    position: int = 0
    data: bytes = b""
    connection: int = 0
