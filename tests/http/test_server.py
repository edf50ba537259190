"""An API over sockets: limits on what a client can hold, TLS, and an end that waits for answers but not for clients."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from headwater.http.limits import Limits
from headwater.http.server import ApiServer
from headwater.http.sockets import listening_sockets
from headwater.security.tls import TlsFiles
from tests.certificates import make_certificate

from .subjects import MEBIBYTE, Subjects

HEAD = b"GET /me HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
WAIT = b"GET /wait HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
TIMEOUT_S = 20

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def serving(
    subjects: Subjects | None = None, *, tls: ssl.SSLContext | None = None, **limits: Any
) -> AsyncIterator[ApiServer]:
    api = (subjects or Subjects()).api(limits=Limits(**limits))
    server = ApiServer(api, listening_sockets("127.0.0.1", 0), tls=tls)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def connect(server: ApiServer, **options: Any) -> Streams:
    return await asyncio.open_connection(*server.address, **options)


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, Any]:
    """The status and the JSON of one answer."""
    async with asyncio.timeout(TIMEOUT_S):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = int(head.split("content-length: ")[1].split("\r\n")[0])
        return int(head.split(" ")[1]), msgspec.json.decode(await reader.readexactly(size))


async def is_closed(reader: asyncio.StreamReader) -> bool:
    """Waits for the end of what the server sends."""
    async with asyncio.timeout(TIMEOUT_S):
        try:
            return await reader.read(1) == b""
        except ConnectionError:
            return True


async def close(*connections: Streams) -> None:
    for _, writer in connections:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_one_connection_asks_again_and_again() -> None:
    async with serving() as server:
        reader, writer = await connect(server)
        for _ in range(3):
            writer.write(HEAD)
            assert (await read_answer(reader))[0] == 200
        writer.write(HEAD * 3)  # before the first is answered
        for _ in range(3):
            assert (await read_answer(reader))[0] == 200
        await close((reader, writer))


async def test_a_body_that_is_too_large_is_answered_while_it_is_being_sent() -> None:
    async with serving(body_bytes_max=1000) as server:
        reader, writer = await connect(server)
        body = b"x" * (2 * MEBIBYTE)
        writer.write(b"POST /subjects HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert await read_answer(reader) == (
            413,
            {"error_code": 413, "message": "The body is larger than 1000 bytes."},
        )
        writer.write(HEAD)  # the rest was read and thrown away
        assert (await read_answer(reader))[0] == 200
        await close((reader, writer))


async def test_a_chunked_body_is_counted_too() -> None:
    async with serving(body_bytes_max=1000) as server:
        reader, writer = await connect(server)
        chunk = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
        writer.write(b"POST /subjects HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
        assert (await read_answer(reader))[0] == 413
        await close((reader, writer))


async def test_a_body_that_continues_after_the_answer_ends_with_the_connection() -> None:
    async with serving(body_bytes_max=10, body_s=0.1, answer_s=0.1, flush_s=0.1) as server:
        reader, writer = await connect(server)
        writer.write(b"POST /subjects HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n")
        assert (await read_answer(reader))[0] == 413
        assert await is_closed(reader)
        await close((reader, writer))


async def test_a_head_that_is_too_large_is_an_error() -> None:
    async with serving(head_bytes_max=1000) as server:
        reader, writer = await connect(server)
        writer.write(b"GET /me HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 2000)
        assert await read_answer(reader) == (400, {"error_code": 400, "message": "This is not an HTTP request."})
        assert await is_closed(reader)
        await close((reader, writer))


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x00\x00\r\n\r\n", b"GET /me\r\n\r\n", b"GET /me HTTP/1.1\r\n\r\n"])
async def test_what_is_not_http_is_an_error_as_a_body(sent: bytes) -> None:
    async with serving() as server:
        reader, writer = await connect(server)
        writer.write(sent)
        assert (await read_answer(reader))[0] == 400
        assert await is_closed(reader)
        await close((reader, writer))


async def test_a_wrong_host_is_refused() -> None:
    async with serving() as server:
        reader, writer = await connect(server)
        writer.write(HEAD.replace(b"127.0.0.1", b"evil.example"))
        assert (await read_answer(reader))[0] == 421
        await close((reader, writer))


@pytest.mark.parametrize("sent", [b"", b"GET /me HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "])
async def test_a_head_that_does_not_end_ends_the_connection(sent: bytes) -> None:
    async with serving(head_s=0.1) as server:
        reader, writer = await connect(server)
        writer.write(sent)
        assert await is_closed(reader)
        await close((reader, writer))


async def test_a_second_head_that_does_not_end_ends_the_connection() -> None:
    async with serving(head_s=0.1) as server:
        reader, writer = await connect(server)
        writer.write(HEAD + b"GET /me")
        assert (await read_answer(reader))[0] == 200
        assert await is_closed(reader)
        await close((reader, writer))


async def test_an_idle_connection_is_closed() -> None:
    async with serving(idle_s=0.1) as server:
        reader, writer = await connect(server)
        writer.write(HEAD)
        assert (await read_answer(reader))[0] == 200
        assert await is_closed(reader)
        await close((reader, writer))


async def test_a_client_that_does_not_read_is_not_waited_for() -> None:
    async with serving(idle_s=0.1, flush_s=0.1) as server:
        with socket.create_connection(server.address) as client:
            client.setblocking(False)
            client.send(HEAD.replace(b"/me", b"/large"))
            async with asyncio.timeout(TIMEOUT_S):
                while not server.connections:
                    await asyncio.sleep(0)
                server.all_closed.clear()
                await server.all_closed.wait()


async def test_connections_that_send_nothing_keep_nobody_out() -> None:
    async with serving(connections_max=4) as server:
        idle = [await connect(server) for _ in range(12)]
        reader, writer = await connect(server)
        writer.write(HEAD)
        assert (await read_answer(reader))[0] == 200
        assert await is_closed(idle[0][0])
        assert len(server.connections) <= 4
        await close(*idle, (reader, writer))


async def test_where_every_connection_has_a_request_the_newest_is_closed() -> None:
    subjects = Subjects()
    async with serving(subjects, connections_max=1) as server:
        reader, writer = await connect(server)
        writer.write(WAIT)
        await asyncio.wait_for(subjects.entered.wait(), TIMEOUT_S)
        late = await connect(server)
        assert await is_closed(late[0])
        subjects.leave.set()
        assert await read_answer(reader) == (200, "waited")
        await close((reader, writer), late)


async def test_a_request_under_way_is_answered_before_the_end() -> None:
    subjects = Subjects()
    async with serving(subjects) as server:
        reader, writer = await connect(server)
        idle = await connect(server)
        writer.write(WAIT)
        await asyncio.wait_for(subjects.entered.wait(), TIMEOUT_S)
        stopping = asyncio.create_task(server.stop())
        assert await is_closed(idle[0])
        assert not stopping.done()
        with pytest.raises(ConnectionRefusedError):
            await connect(server)
        subjects.leave.set()
        assert await read_answer(reader) == (200, "waited")
        assert await is_closed(reader)
        await asyncio.wait_for(stopping, TIMEOUT_S)
        await close((reader, writer), idle)


async def test_the_end_does_not_wait_for_long() -> None:
    subjects = Subjects()
    async with serving(subjects, stop_s=0.1) as server:
        reader, writer = await connect(server)
        writer.write(WAIT)
        await asyncio.wait_for(subjects.entered.wait(), TIMEOUT_S)
        await asyncio.wait_for(server.stop(), TIMEOUT_S)
        assert await read_answer(reader) == (503, {"error_code": 503, "message": "The server is stopping."})
        assert await is_closed(reader)
        assert server.connections == {}
        assert not server.state.tasks
        await close((reader, writer))


async def test_tls(tmp_path: Path) -> None:
    pem = make_certificate(tmp_path, "server")
    context = ssl.create_default_context(cafile=pem.with_suffix(".crt"))
    async with serving(tls=TlsFiles(str(pem)).context, head_s=0.5) as server:
        reader, writer = await connect(server, ssl=context, server_hostname="localhost")
        writer.write(HEAD)
        assert (await read_answer(reader))[0] == 200
        plain = await connect(server)  # a handshake that does not come has a deadline, too
        assert await is_closed(plain[0])
        await close((reader, writer), plain)


@pytest.mark.parametrize(
    "test",
    [
        test_one_connection_asks_again_and_again,
        test_a_body_that_is_too_large_is_answered_while_it_is_being_sent,
        test_a_head_that_is_too_large_is_an_error,
        test_a_second_head_that_does_not_end_ends_the_connection,
        test_an_idle_connection_is_closed,
        test_a_client_that_does_not_read_is_not_waited_for,
        test_connections_that_send_nothing_keep_nobody_out,
        test_a_request_under_way_is_answered_before_the_end,
        test_the_end_does_not_wait_for_long,
    ],
)
def test_uvloop_does_the_same(test: Callable[[], Coroutine[None, None, None]]) -> None:
    """The planes run on it; pytest does not."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test())


def test_tls_on_uvloop(tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test_tls(tmp_path))


def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_open() -> None:
    (first,) = listening_sockets("127.0.0.1", 0)
    with first, pytest.raises(OSError, match="in use"):
        listening_sockets("127.0.0.1", first.getsockname()[1])


def test_every_address_of_a_host_has_the_same_port() -> None:
    sockets = listening_sockets("localhost", 0)
    assert len({each.getsockname()[1] for each in sockets}) == 1
    for each in sockets:
        each.close()
