"""The planes of `headwater up`: starts their process when the broker is ready, and hands it what the broker counts."""

import socket
from collections.abc import Sequence
from functools import partial

from headwater.broker.core import BrokerCore
from headwater.broker.shell.listeners import Listener
from headwater.broker.shell.server import Server
from headwater.observability.counters import Counters, snapshot
from headwater.planes.account import LISTENER
from headwater.planes.beside import PlanesBeside
from headwater.planes.table import PlacedPlane


class UpPlanes:
    """The chosen planes, beside a broker that is about to start with `listeners` and its own settings."""

    def __init__(self, placed: Sequence[PlacedPlane], listeners: Sequence[Listener], log_level: str) -> None:
        advertised = [listener.advertised[0] for listener in listeners if listener.advertised is not None]
        self.beside = PlanesBeside(placed, [socket.gethostname(), *advertised], log_level)
        self.listeners = [LISTENER] if self.beside.bound else []
        self.counters: Counters | None = None

    def count(self, core: BrokerCore) -> None:
        """Begins to count. A broker without planes counts nothing."""
        if self.beside.bound:
            self.counters = Counters(core.occurrences)

    def start(self, server: Server) -> None:
        """Call this in the broker's loop when the broker is ready."""
        if self.counters is not None:
            self.beside.start(server, partial(snapshot, server.core, self.counters))
