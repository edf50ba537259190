"""What the broker's process passes to the planes' process: one line of JSON through a pipe.

Others on the machine can read a command line and an environment, but not a pipe. The end of the pipe is also the signal to
stop: it comes however the broker ends, even if it is killed. Listening sockets are passed as open descriptors.
"""

import json
from typing import Any, NamedTuple, Self


class HandedPlane(NamedTuple):
    """One plane: its application as `module:function`, its sockets' descriptors, and the names that it answers to."""

    name: str
    application: str
    descriptors: list[int]
    names: list[str]
    is_open: bool  # it listens beyond the loopback, so any name is accepted


class Handover(NamedTuple):
    """The planes to serve, and how to log in to the broker: an address on the loopback, and a secret that is new at each start."""

    planes: list[HandedPlane]
    host: str
    port: int
    user: str
    secret: str
    log_level: str
    user_claim: str = ""  # the claim that names a token's user; empty: the broker takes no tokens

    def line(self) -> bytes:
        return json.dumps([[list(plane) for plane in self.planes], *self[1:]]).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Reads a line. Raises ValueError if it is not a handover."""
        try:
            planes, *others = json.loads(line)
            found: list[Any] = [[HandedPlane(*plane) for plane in planes], *others]
            return cls(*found)
        except TypeError as error:
            raise ValueError(f"not a handover of planes: {error}") from error
