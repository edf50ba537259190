"""A small API for tests: subjects that are created and read, and handlers that go wrong."""

import asyncio
from typing import Any

import msgspec
from starlette.responses import PlainTextResponse

from headwater.http.api import Api
from headwater.http.endpoints import Call, Endpoint
from headwater.http.errors import HttpError

MEBIBYTE = 1 << 20


class Subject(msgspec.Struct):
    name: str
    version: int = 1


class Subjects:
    """`entered` is set when a request of `/wait` has begun; it is answered when `leave` is set."""

    def __init__(self) -> None:
        self.found: dict[str, Subject] = {}
        self.entered, self.leave = asyncio.Event(), asyncio.Event()

    def api(self, **options: Any) -> Api:
        endpoints = [
            Endpoint("POST", "/subjects", self.create, body=Subject, answer=Subject, status=201, summary="A new one"),
            Endpoint("GET", "/subjects/{name}", self.read, answer=Subject, summary="One"),
            Endpoint("DELETE", "/subjects/{name}", self.delete),
            Endpoint("GET", "/me", self.me, answer=dict[str, str | None]),
            Endpoint("GET", "/text", self.text, media_type="text/plain"),
            Endpoint("GET", "/fail", self.fail),
            Endpoint("GET", "/wait", self.wait, answer=str),
            Endpoint("GET", "/large", self.large, answer=str),
        ]
        return Api("Subjects", "1.0", endpoints, **options)

    async def create(self, call: Call[Subject]) -> Subject:
        self.found[call.body.name] = call.body
        return call.body

    async def read(self, call: Call[None]) -> Subject:
        name = call.path["name"]
        if name not in self.found:
            raise HttpError(404, f"Subject {name!r} not found.", code=40401)
        return self.found[name]

    async def delete(self, call: Call[None]) -> None:
        self.found.pop(call.path["name"], None)

    async def me(self, call: Call[None]) -> dict[str, str | None]:
        return {"user": call.user, "asked": call.query.get("asked"), "agent": call.headers.get("user-agent")}

    async def text(self, call: Call[None]) -> PlainTextResponse:
        return PlainTextResponse("text")

    async def fail(self, call: Call[None]) -> None:
        raise RuntimeError("the secret is 42")

    async def wait(self, call: Call[None]) -> str:
        self.entered.set()
        await self.leave.wait()
        return "waited"

    async def large(self, call: Call[None]) -> str:
        return "x" * (64 * MEBIBYTE)
