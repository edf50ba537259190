"""The process of the planes: what it serves, what it does without, and what it closes. In this process, on free ports."""

import asyncio
import logging
import os
import socket

import pytest

from headwater.http.api import Api
from headwater.http.endpoints import Call, Endpoint
from headwater.http.sockets import listening_sockets
from headwater.planes.broker_access import BrokerAccess
from headwater.planes.handover import HandedPlane, Handover
from headwater.planes.process import serve

WAIT_S = 20


def greeting(access: BrokerAccess) -> Api:
    async def greet(call: Call[None]) -> str:
        return "hello"

    return Api("Greeting", "1", [Endpoint("GET", "/", greet, answer=str)], origins=access.origins)


def broken(access: BrokerAccess) -> Api:
    raise ImportError("an extra is missing")


class Running:
    """`serve` in a task; `stop` ends its input."""

    def __init__(self, *functions: str) -> None:
        self.bound = [listening_sockets("127.0.0.1", 0)[0] for _ in functions]
        self.ports = [each.getsockname()[1] for each in self.bound]
        planes = [
            HandedPlane(name, f"{__name__}:{name}", [each.detach()], [], is_open=False)
            for name, each in zip(functions, self.bound, strict=True)
        ]
        handover = Handover(planes, "127.0.0.1", 1, "headwater", "secret", "warning")
        self.input, self.to_input = os.pipe()
        self.from_output, self.output = os.pipe()
        self.task = asyncio.create_task(serve(handover, self.input, self.output))

    async def ready(self) -> bytes:
        return await asyncio.wait_for(asyncio.to_thread(os.read, self.from_output, 100), WAIT_S)

    async def stop(self) -> bool:
        os.close(self.to_input)
        result = await asyncio.wait_for(self.task, WAIT_S)
        for each in (self.input, self.output, self.from_output):
            os.close(each)
        return result


async def get(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), WAIT_S)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_it_says_when_it_serves_and_frees_its_port_when_its_input_ends() -> None:
    running = Running("greeting")
    assert await running.ready() == b"ready\n"
    assert (await get(running.ports[0])).endswith(b'"hello"')
    assert await running.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", running.ports[0]), WAIT_S)


async def test_an_application_that_cannot_be_made_costs_itself_alone(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        running = Running("broken", "greeting")
        assert await running.ready() == b"ready\n"
    assert "plane broken is not served: an extra is missing" in caplog.text
    assert (await get(running.ports[1])).endswith(b'"hello"')
    assert await running.stop()
    socket.socket(fileno=socket.create_server(("127.0.0.1", running.ports[1])).detach()).close()


async def test_with_nothing_to_serve_it_ends() -> None:
    running = Running("broken", "missing")
    assert not await asyncio.wait_for(running.task, WAIT_S)
    assert not await running.stop()
