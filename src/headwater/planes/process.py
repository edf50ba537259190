"""The process of the planes: reads a handover, serves the applications on inherited sockets, and ends with the broker.

If an application cannot be created, for example because an extra is not installed, the others are still served, and one line
says why. The process ends when its standard input does. Signals that stop a service go to the broker, which ends this
process.
"""

import asyncio
import importlib
import logging
import os
import socket
import sys
from collections.abc import Callable

from headwater.effects.logs import get_logger
from headwater.http.api import Api
from headwater.http.origins import Origins
from headwater.http.server import ApiServer
from headwater.planes.broker_access import BrokerAccess
from headwater.planes.handover import HandedPlane, Handover

logger = get_logger(__name__)

STANDARD_INPUT, STANDARD_OUTPUT = 0, 1
HANDOVER_BYTES_MAX = 1 << 20
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def read_handover(descriptor: int) -> Handover:
    """Reads the first line. Raises ValueError if there is none."""
    line = bytearray()
    while not line.endswith(b"\n"):
        part = os.read(descriptor, 1 << 16)
        if not part or len(line) > HANDOVER_BYTES_MAX:
            raise ValueError("this process must be started by `headwater up`, which passes it what to serve")
        line += part
    return Handover.from_line(bytes(line))


def load(application: str) -> Callable[[BrokerAccess], Api]:
    """The function that `module:function` names. Raises what importing it raises."""
    module, _, name = application.partition(":")
    found: Callable[[BrokerAccess], Api] = getattr(importlib.import_module(module), name)
    return found


async def start_plane(plane: HandedPlane, access: BrokerAccess) -> ApiServer:
    """Starts a plane. Raises whatever its application raises.

    The server closes its sockets when it stops, so the port is free for a broker that is started at once.
    """
    api = load(plane.application)(access)
    server = ApiServer(api, [socket.socket(fileno=each) for each in plane.descriptors])
    await server.start()
    return server


async def serve(handover: Handover, until: int, ready: int) -> bool:
    """Serves until the descriptor `until` ends. Writes a line to `ready` when it serves. False if there is nothing to serve."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(until, ended.set)
    accesses, servers = [], []
    try:
        for plane in handover.planes:
            access = BrokerAccess(handover, Origins(tuple(plane.names), is_open=plane.is_open))
            accesses.append(access)
            try:
                servers.append(await start_plane(plane, access))
            except Exception as error:
                logger.warning("plane %s is not served: %s", plane.name, error, exc_info=error)
        if not servers:
            return False
        os.write(ready, b"ready\n")
        await ended.wait()
        return True
    finally:
        asyncio.get_running_loop().remove_reader(until)
        await asyncio.gather(*(server.stop() for server in servers))
        for access in accesses:
            access.close()


def new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # Windows
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def main() -> int:
    """Runs the process; returns its exit status."""
    try:
        handover = read_handover(STANDARD_INPUT)
    except ValueError as error:
        print(f"headwater planes: {error}", file=sys.stderr)
        return 2
    logging.basicConfig(level=handover.log_level.upper(), format=LOG_FORMAT, stream=sys.stderr)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return 0 if runner.run(serve(handover, STANDARD_INPUT, STANDARD_OUTPUT)) else 1


if __name__ == "__main__":
    sys.exit(main())
