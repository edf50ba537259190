"""Asks an API without a port: an ASGI call by hand."""

import asyncio
from typing import Any, NamedTuple

import msgspec

from headwater.http.api import Api


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


async def ask(
    api: Api,
    method: str,
    path: str,
    body: bytes | list[bytes] = b"",
    *,
    headers: dict[str, str] | None = None,
    scheme: str = "http",
    ends: bool = True,
) -> Answer:
    """`body` may come in several parts; one that does not end is followed by silence."""
    given = {"host": "127.0.0.1:8081", **(headers or {})}
    scope = {
        "type": "http",
        "method": method,
        "path": path.partition("?")[0],
        "raw_path": path.encode(),
        "query_string": path.partition("?")[2].encode(),
        "scheme": scheme,
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in given.items()],
    }
    parts = body if isinstance(body, list) else [body]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not parts:
            await asyncio.Event().wait()
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts) or not ends}

    async def send(message: Any) -> None:
        sent.append(message)

    await api(scope, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:]))
