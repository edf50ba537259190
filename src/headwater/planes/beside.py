"""The planes, as the broker's process sees them: chosen, bound, started after the ready line, stopped with the broker.

bind      sockets for each plane; an address that cannot be had is a warning, and that plane is not served
ready     the account of the planes is opened, the counters are written, the process is started
stopping  the process is asked to end, while the broker answers what is under way
stopped   the process is gone
"""

import socket
from collections.abc import Callable, Mapping, Sequence

from headwater.broker.shell.listeners import is_loopback
from headwater.broker.shell.server import Server
from headwater.effects.logs import get_logger
from headwater.http.sockets import listening_sockets
from headwater.planes.account import open_account, user_claim
from headwater.planes.counters_writer import CountersWriter
from headwater.planes.handover import HandedPlane, Handover
from headwater.planes.supervisor import Supervisor
from headwater.planes.table import PlacedPlane

logger = get_logger(__name__)


class PlanesBeside:
    """Planes beside one broker. `names` are host names of this machine that clients may use."""

    def __init__(self, planes: Sequence[PlacedPlane], names: Sequence[str], log_level: str) -> None:
        self.names, self.log_level = list(names), log_level
        self.bound: dict[str, tuple[PlacedPlane, list[socket.socket]]] = {}
        self.supervisor: Supervisor | None = None
        for placed in planes:
            try:
                self.bound[placed.plane.name] = placed, listening_sockets(placed.host, placed.port)
            except OSError as error:
                logger.warning(
                    "%s is not served: cannot listen on %s:%d: %s; choose another address with %s",
                    placed.plane.name,
                    placed.host,
                    placed.port,
                    error.strerror or error,
                    placed.plane.option,
                )

    def address(self, name: str) -> tuple[str, int] | None:
        """Where a plane listens; None if it does not."""
        if name not in self.bound:
            return None
        placed, sockets = self.bound[name]
        return placed.host, int(sockets[0].getsockname()[1])

    def start(self, server: Server, read_counters: Callable[[], Mapping[str, float]]) -> None:
        """Call this in the broker's loop when the broker is ready."""
        if not self.bound:
            return
        account = open_account(server.core)
        CountersWriter(server.core, read_counters).start()
        server.after_event()
        descriptors = [each.fileno() for _, sockets in self.bound.values() for each in sockets]
        handover = Handover(self.handed_planes(), *account, self.log_level, user_claim(server.core))
        self.supervisor = Supervisor(handover.line, descriptors)
        self.supervisor.start()

    def handed_planes(self) -> list[HandedPlane]:
        return [
            HandedPlane(
                name,
                placed.plane.application,
                [each.fileno() for each in sockets],
                [*self.names, placed.host],
                not is_loopback(placed.host),
            )
            for name, (placed, sockets) in self.bound.items()
        ]

    def stop(self) -> None:
        """Call this when the broker begins to stop."""
        self.close()
        if self.supervisor is not None:
            self.supervisor.stop()

    async def stopped(self) -> None:
        """Await this when the broker has stopped, or could not start."""
        if self.supervisor is not None:
            await self.supervisor.ended()

    def close(self) -> None:
        """Closes the sockets. The process has its own copies."""
        for _, sockets in self.bound.values():
            for each in sockets:
                each.close()
