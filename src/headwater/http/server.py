"""Serves an API on sockets, with a limit on everything that a client can hold: the shell around uvicorn's HTTP.

A connection is in one of three states, and each has a deadline (`limits.py`):

    reading    the head of a request is on its way            -> the connection is broken
    answering  the request has begun; the API limits its time -> the connection is broken
    idle       there is no request                            -> the connection is closed

The deadline of `answering` also covers a client that does not read, and one that keeps sending a body after it was refused.
uvicorn itself limits only `idle`. Its own server wakes ten times per second; this one sleeps while there is nothing to do.
"""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from typing import cast

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from headwater.effects.logs import get_logger
from headwater.http.api import Api
from headwater.http.endpoints import JSON
from headwater.http.errors import HttpError
from headwater.http.sockets import BACKLOG

logger = get_logger(f"{__name__}.uvicorn")
logger.setLevel("ERROR")  # one line per bad request would flood the log

TLS_SHUTDOWN_S = 5.0
READING, ANSWERING, IDLE = "reading", "answering", "idle"


class ApiServer:
    """Serves until `stop`. The server owns the sockets, and closes them."""

    def __init__(self, api: Api, sockets: Sequence[socket.socket], *, tls: ssl.SSLContext | None = None) -> None:
        self.api, self.sockets, self.tls = api, sockets, tls
        host, port = sockets[0].getsockname()[:2]
        self.address = str(host), int(port)  # of the first socket
        self.limits = api.limits
        self.state = ServerState()
        self.config = Config(
            api,
            http=ApiConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            h11_max_incomplete_event_size=self.limits.head_bytes_max,
        )
        self.config.load()
        self.listening: list[asyncio.Server] = []
        self.connections: dict[ApiConnection, None] = {}  # in the order in which they became idle
        self.is_stopping = False
        self.all_closed = asyncio.Event()

    async def start(self) -> None:
        """Starts to serve. Raises OSError."""
        loop = asyncio.get_running_loop()
        for listening in self.sockets:
            server = await loop.create_server(
                lambda: ApiConnection(self),
                sock=listening,
                ssl=self.tls,
                backlog=BACKLOG,
                ssl_handshake_timeout=None if self.tls is None else self.limits.head_s,
                ssl_shutdown_timeout=None if self.tls is None else TLS_SHUTDOWN_S,
            )
            self.listening.append(server)

    def admit(self, connection: "ApiConnection") -> bool:
        """Gives a new connection a place, that of an idle one if necessary."""
        if self.is_stopping:
            return False
        if len(self.connections) >= self.limits.connections_max:
            oldest = next((each for each in self.connections if each.stage != ANSWERING), None)
            if oldest is None:
                return False
            oldest.break_off()
        self.connections[connection] = None
        return True

    def became_idle(self, connection: "ApiConnection") -> None:
        if connection in self.connections:
            del self.connections[connection]
            self.connections[connection] = None

    def leave(self, connection: "ApiConnection") -> None:
        self.connections.pop(connection, None)
        if not self.connections:
            self.all_closed.set()

    async def stop(self) -> None:
        """Stops accepting, lets pending requests end within `limits.stop_s`, and breaks the rest."""
        self.is_stopping = True
        for server in self.listening:
            server.close()
        for listening in self.sockets:
            listening.close()
        for connection in list(self.connections):
            connection.end()
        try:
            async with asyncio.timeout(self.limits.stop_s):
                while self.connections:
                    self.all_closed.clear()
                    await self.all_closed.wait()
        except TimeoutError:
            tasks = set(self.state.tasks)
            for task in tasks:
                task.cancel()  # the API answers with 503
            await asyncio.gather(*tasks, return_exceptions=True)
            for connection in list(self.connections):
                connection.break_off()


class ApiConnection(H11Protocol):
    """One client's connection: uvicorn's, with deadlines, and with errors as JSON bodies."""

    def __init__(self, server: ApiServer) -> None:
        super().__init__(config=server.config, server_state=server.state, app_state={})
        self.api_server = server
        self.limits = server.limits
        self.logger = logger
        self.timeout_keep_alive = self.limits.idle_s  # type: ignore[assignment]  # it may be a fraction
        self.stage = READING
        self.timed_cycle: RequestResponseCycle | None = None  # the request whose deadline is running
        self.deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))  # uvloop's class is not derived from asyncio's
        if self.api_server.admit(self):
            self.enter(READING)
        else:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        if self.deadline is not None:
            self.deadline.cancel()
        self.api_server.leave(self)

    def data_received(self, data: bytes) -> None:
        if self.stage == IDLE:
            self.enter(READING)
        super().data_received(data)

    def handle_events(self) -> None:
        super().handle_events()
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is None:
            return
        if not cycle.response_complete and cycle is not self.timed_cycle:
            self.timed_cycle = cycle
            self.enter(ANSWERING)
        elif cycle.response_complete and self.stage == ANSWERING and self.conn.their_state is h11.IDLE:
            self.enter(IDLE)  # the rest of an unread body has arrived

    def on_response_complete(self) -> None:
        """A request whose body has not ended keeps its deadline, because its client keeps sending what nobody reads."""
        if self.conn.their_state is not h11.SEND_BODY:
            self.enter(IDLE)
        super().on_response_complete()
        if self.stage == IDLE and self.conn.trailing_data[0]:
            self.enter(READING)  # the head of the next request has begun

    def enter(self, stage: str) -> None:
        self.stage = stage
        if self.deadline is not None:
            self.deadline.cancel()
        limits = self.limits
        seconds = {
            READING: limits.head_s,
            ANSWERING: limits.body_s + limits.answer_s + limits.flush_s,
            IDLE: limits.idle_s + limits.flush_s,  # uvicorn closes after idle_s, when an answer may still be in flight
        }[stage]
        self.deadline = self.loop.call_later(seconds, self.break_off)
        if stage == IDLE:
            self.api_server.became_idle(self)

    def end(self) -> None:
        """The server stops: a pending request is answered first."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        else:
            self.cycle.keep_alive = False

    def break_off(self) -> None:
        """Ends the connection at once, discarding pending data."""
        self.api_server.leave(self)
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Bytes that are not HTTP have no path and no method, so they are answered here."""
        error = HttpError(400, "This is not an HTTP request.")
        body = error.body
        headers = [("content-type", JSON), ("content-length", str(len(body))), ("connection", "close")]
        try:
            parts = [
                self.conn.send(h11.Response(status_code=400, headers=headers, reason=b"Bad Request")),
                self.conn.send(h11.Data(data=body)),
                self.conn.send(h11.EndOfMessage()),
            ]
        except h11.LocalProtocolError:  # an answer has already begun
            self.break_off()
            return
        self.transport.write(b"".join(part for part in parts if part))
        self.transport.close()
