"""What the broker's process hands over to that of its planes: one line of JSON through a pipe.

A command line and an environment can be read by others on the machine; a pipe cannot. Its end is also the sign to stop:
it comes however the broker ends, killed or not. Listening sockets go along as open descriptors.
"""

import json
from typing import Any, NamedTuple, Self


class HandedPlane(NamedTuple):
    """One plane: its application as `module:function`, its sockets' descriptors, and the names that it answers to."""

    name: str
    application: str
    descriptors: list[int]
    names: list[str]
    is_open: bool  # it listens beyond the loopback: any name is right


class Handover(NamedTuple):
    """The planes to serve, and how to log in at the broker: at an address on the loopback, with a secret of this start."""

    planes: list[HandedPlane]
    host: str
    port: int
    user: str
    secret: str
    log_level: str

    def line(self) -> bytes:
        return json.dumps([[list(plane) for plane in self.planes], *self[1:]]).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Raises ValueError for what is not such a line."""
        try:
            planes, *others = json.loads(line)
            found: list[Any] = [[HandedPlane(*plane) for plane in planes], *others]
            return cls(*found)
        except TypeError as error:
            raise ValueError(f"not a handover of planes: {error}") from error
