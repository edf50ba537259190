"""Accepts connections. Each gets its place within the limits before any work is done for it, including TLS.

When the process cannot open more files, a spare descriptor is used to accept the connection and close it: so the client
learns at once, and the loop does not spin on a socket that stays readable.
"""

import asyncio
import contextlib
import errno
import os
import socket
from functools import partial
from typing import Protocol

from headwater.broker.cluster import Endpoint
from headwater.broker.configs.settings import Settings
from headwater.broker.connection_limits import RefusedError
from headwater.broker.shell.client_protocol import ClientProtocol
from headwater.broker.shell.listeners import Listener
from headwater.broker.turns import SLICE_MS, Turns
from headwater.effects.logs import get_logger
from headwater.security.addresses import normalized

logger = get_logger(__name__)

TLS_SHUTDOWN_S = 5.0
# A client that has disappeared without closing is detected after four minutes.
KEEPALIVE = (("TCP_KEEPIDLE", 120), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 4))
NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
RETRY_S = 0.2
PENALIZED_MAX = 32  # connections kept only to be closed, which use the reserve of descriptors


async def bound_sockets(host: str, port: int, settings: Settings) -> list[socket.socket]:
    """Listening sockets on every address of a host. With port 0 all use the first one's port. Raises OSError.

    What a client does not read fills the send buffer, which no budget counts. So the system must not enlarge it.
    """
    send_bytes, receive_bytes = settings.socket_send_buffer_bytes, settings.socket_receive_buffer_bytes
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listening = socket.socket(family, kind, protocol)
            sockets.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            wanted = port or (sockets[0].getsockname()[1] if len(sockets) > 1 else 0)
            listening.bind((address[0], wanted, *address[2:]))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in KEEPALIVE:
                if hasattr(socket, name):
                    listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            for option, size in ((socket.SO_SNDBUF, send_bytes), (socket.SO_RCVBUF, receive_bytes)):
                if size >= 0:  # accepted sockets inherit it from the listening one
                    listening.setsockopt(socket.SOL_SOCKET, option, size)
            listening.listen(settings.socket_listen_backlog_size)
            listening.setblocking(False)
    except BaseException:
        for listening in sockets:
            listening.close()
        raise
    return sockets


class AcceptingServer(Protocol):
    """The server, as an acceptor sees it: it makes, admits and counts connections."""

    loop: asyncio.AbstractEventLoop
    turns: Turns[ClientProtocol]

    @property
    def settings(self) -> Settings: ...

    def new_client(self, listener: Listener, endpoint: Endpoint, address: str) -> ClientProtocol: ...

    def wait_ms(self, endpoint: Endpoint, address: str) -> float: ...

    def penalty_ms(self, endpoint: Endpoint, address: str) -> float: ...

    def admit(self, client: ClientProtocol) -> None: ...

    def refused(self, address: str, reason: str) -> None: ...

    def handshake_failed(self, client: ClientProtocol, error: Exception) -> None: ...

    def disconnected(self, client: ClientProtocol) -> None: ...


class Acceptor:
    """Accepts connections to the sockets of one listener's node."""

    def __init__(
        self, server: AcceptingServer, listener: Listener, endpoint: Endpoint, sockets: list[socket.socket]
    ) -> None:
        self.server = server
        self.loop = server.loop
        self.listener, self.endpoint = listener, endpoint
        self.sockets = sockets
        self.spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self.opening: set[asyncio.Task[None]] = set()
        self.waiting: tuple[asyncio.TimerHandle, socket.socket] | None = None  # until then nothing is accepted
        self.penalized: dict[socket.socket, asyncio.TimerHandle] = {}
        for listening in sockets:
            self.loop.add_reader(listening.fileno(), self.accept_ready, listening)

    @property
    def port(self) -> int:
        return int(self.sockets[0].getsockname()[1])

    def accept_ready(self, listening: socket.socket) -> None:
        """Accepts connections for a slice of time. The loop calls again while there are more."""
        steady_ms = self.server.turns.steady_ms
        ends_ms = steady_ms() + SLICE_MS
        while steady_ms() < ends_ms:
            try:
                accepted, peer = listening.accept()
            except OSError as error:
                if error.errno in NO_DESCRIPTORS:
                    self.accept_none(listening, error)
                return  # there is none, or it is gone
            wait_ms = self.server.wait_ms(self.endpoint, str(peer[0]))
            if wait_ms:
                self.wait(wait_ms, accepted, str(peer[0]))
                return
            self.accepted(accepted, str(peer[0]))

    def wait(self, wait_ms: float, connection: socket.socket, host: str) -> None:
        """Connections are opened too fast: this one is served later, and no other is accepted before."""
        for listening in self.sockets:
            self.loop.remove_reader(listening.fileno())
        self.waiting = self.loop.call_later(wait_ms / 1000, self.waited, connection, host), connection

    def waited(self, connection: socket.socket, host: str) -> None:
        self.waiting = None
        self.accepted(connection, host)
        for listening in self.sockets:
            self.loop.add_reader(listening.fileno(), self.accept_ready, listening)

    def penalize(self, penalty_ms: float, connection: socket.socket, host: str) -> None:
        """Too many connections come from an address: this one is closed after a while, so that the client does not try at once."""
        if len(self.penalized) < PENALIZED_MAX:
            self.penalized[connection] = self.loop.call_later(penalty_ms / 1000, self.end_penalty, connection)
        else:
            connection.close()
        self.server.refused(host, "connections are opened faster than its quota allows (connection_creation_rate)")

    def end_penalty(self, connection: socket.socket) -> None:
        self.penalized.pop(connection).cancel()
        connection.close()

    def accepted(self, connection: socket.socket, host: str) -> None:
        try:
            connection.setblocking(False)
            address = normalized(host)
            penalty_ms = self.server.penalty_ms(self.endpoint, address)
            if penalty_ms:
                self.penalize(penalty_ms, connection, host)
                return
            client = self.server.new_client(self.listener, self.endpoint, address)
            self.server.admit(client)
        except RefusedError as error:
            connection.close()
            self.server.refused(host, str(error))
        except OSError:  # the client is already gone
            connection.close()
        else:
            task = self.loop.create_task(self.open(client, connection))
            client.opening = task
            self.opening.add(task)
            task.add_done_callback(partial(self.opened, client, connection))

    async def open(self, client: ClientProtocol, connection: socket.socket) -> None:
        context = self.listener.tls.context if self.listener.tls is not None else None
        timeout_s = self.server.settings.headwater_authentication_timeout_ms / 1000
        limits = {"ssl_handshake_timeout": timeout_s, "ssl_shutdown_timeout": TLS_SHUTDOWN_S}
        try:
            await self.loop.connect_accepted_socket(
                lambda: client, connection, ssl=context, **(limits if context is not None else {})
            )
        except asyncio.CancelledError:  # closed before it was open
            self.failed(client, connection)
        except Exception as error:  # noqa: BLE001 - whatever it is, the place is free again
            self.failed(client, connection)
            if context is not None:
                self.server.handshake_failed(client, error)

    def opened(self, client: ClientProtocol, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self.opening.discard(task)
        if task.cancelled():  # before its first step
            self.failed(client, connection)

    def failed(self, client: ClientProtocol, connection: socket.socket) -> None:
        connection.close()
        client.closing = True
        self.server.disconnected(client)

    def accept_none(self, listening: socket.socket, error: OSError) -> None:
        """Accepts the next connection with the spare descriptor, only to close it."""
        if self.spare >= 0:
            os.close(self.spare)
            self.spare = -1
        with contextlib.suppress(OSError):
            listening.accept()[0].close()
        try:
            self.spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            # Something else used up the descriptor: connections wait in the system's queue for a moment.
            self.loop.remove_reader(listening.fileno())
            self.loop.call_later(RETRY_S, self.accept_again, listening)
        self.server.refused("the network", f"{error.strerror} (ulimit -n)")

    def accept_again(self, listening: socket.socket) -> None:
        if listening.fileno() < 0:
            return
        if self.spare < 0:
            with contextlib.suppress(OSError):
                self.spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        if self.waiting is None:  # otherwise `waited` adds the reader
            self.loop.add_reader(listening.fileno(), self.accept_ready, listening)

    def close(self) -> None:
        for listening in self.sockets:
            self.loop.remove_reader(listening.fileno())
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)  # a forked process may have inherited it
            listening.close()
        if self.spare >= 0:
            os.close(self.spare)
            self.spare = -1
        if self.waiting is not None:
            timer, connection = self.waiting
            timer.cancel()
            connection.close()
        for connection in list(self.penalized):
            self.end_penalty(connection)
        for task in list(self.opening):
            task.cancel()
