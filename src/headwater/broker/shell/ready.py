"""What a ready broker tells the program that started it: one line of JSON, on a descriptor that the program chooses.

The line for people may change with any release, and has no place for a port of each listener. This one is for programs:

    {"listeners": [{"name": "PLAINTEXT", "host": "127.0.0.1", "port": 9092, "bound_host": "127.0.0.1", "bound_port": 9092}],
     "metrics": {"host": "127.0.0.1", "port": 9464}, "data_directory": "/var/lib/headwater", "process_id": 4711, "start_ms": 190}

`host` and `port` are where clients connect (`advertised.listeners`); `bound_host` and `bound_port` are where the broker
listens, for example the free port that was found for port 0. `metrics` is null without `--metrics`. `start_ms` counts from
the start of the process. Later releases may add keys, but never remove one.

The descriptor is closed after the line. A broker that cannot start says why on standard error, and ends without a line. So
a program reads one line: if there is none, the start has failed.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from headwater.broker.configs.settings import SettingsError

STANDARD_OUTPUT = 1
STANDARD = (0, STANDARD_OUTPUT, 2)  # not closed, because others write there too


class ReadyError(RuntimeError):
    """The program that started the broker does not read the ready message. The message names the descriptor."""


class ReadyListener(NamedTuple):
    """Where clients connect to a listener, and where it listens. If there are several nodes, those of the first."""

    name: str
    host: str
    port: int
    bound_host: str
    bound_port: int

    @property
    def address(self) -> str:
        return address_text(self.host, self.port)

    @property
    def bound_address(self) -> str:
        return address_text(self.bound_host, self.bound_port)


class Ready(NamedTuple):
    """A broker that serves clients. `start_ms`: how long its start took."""

    listeners: tuple[ReadyListener, ...]
    metrics: tuple[str, int] | None
    data_directory: str
    process_id: int
    start_ms: int

    @property
    def addresses(self) -> dict[str, str]:
        """Where clients connect, by the listener's name."""
        return {listener.name: listener.address for listener in self.listeners}

    def line(self) -> str:
        """The line for the program that waits."""
        metrics = None if self.metrics is None else {"host": self.metrics[0], "port": self.metrics[1]}
        listeners = [listener._asdict() for listener in self.listeners]
        return json.dumps({**self._asdict(), "listeners": listeners, "metrics": metrics}) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Self:
        """Reads a line. Raises ValueError if it is not such a line: the broker has not started."""
        try:
            found: Mapping[str, Any] = json.loads(line)
            listeners = tuple(
                ReadyListener(*(each[field] for field in ReadyListener._fields)) for each in found["listeners"]
            )
            metrics = found["metrics"]
            return cls(
                listeners,
                None if metrics is None else (metrics["host"], metrics["port"]),
                found["data_directory"],
                found["process_id"],
                found["start_ms"],
            )
        except (LookupError, TypeError) as error:
            raise ValueError(f"not the line of a broker that is ready: {line.strip()}") from error


def address_text(host: str, port: int) -> str:
    """`host:port`, in the form that clients accept."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_descriptor(number: int) -> None:
    """Raises SettingsError if a descriptor cannot be written to.

    Call this before the process opens anything: later the number may belong to one of its own files.
    """
    try:
        mode = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
    except (OSError, OverflowError, ValueError) as error:
        raise SettingsError(
            f"--ready-fd {number}: there is no such descriptor; the program that starts the broker must pass it on"
        ) from error
    if mode == os.O_RDONLY:
        raise SettingsError(f"--ready-fd {number}: the descriptor is read-only; pass the write end")
    if number not in STANDARD:
        os.set_inheritable(number, False)  # the broker's own children would keep it open


def write_line(number: int, line: str) -> None:
    """Writes the line and closes the descriptor, unless it is a standard one. Raises ReadyError."""
    try:
        left = line.encode()
        while left:
            left = left[os.write(number, left) :]
        if number not in STANDARD:
            os.close(number)
    except OSError as error:
        raise ReadyError(f"--ready-fd {number}: cannot write to it: {error.strerror}") from error
