"""An API as a table: method, path, handler, and the types of the bodies that it reads and returns.

The types do three jobs: a body is decoded and checked before the handler runs (msgspec), its answer is encoded, and
`openapi.json` describes both. A handler is an async function that gets a Call. It returns a value of the answer's type, or
None for 204, or its own Response (a page, a stream). It raises HttpError for everything else.

    Endpoint("GET", "/subjects/{subject}", read_subject, answer=Subject, summary="One subject")
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from headwater.http.errors import HttpError
from headwater.http.limits import Limits

JSON = "application/json"
Body = TypeVar("Body")


@dataclass(frozen=True, slots=True)
class Call(Generic[Body]):
    """One request. `path` has the parameters in the path; `user` is None without authentication."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    user: str | None
    body: Body


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One entry of an API's table. `body` and `answer` are types; None means that there is no body."""

    method: str
    path: str
    handle: Callable[[Call[Any]], Awaitable[object]]
    body: Any = None
    answer: Any = None
    status: int = 200
    summary: str = ""
    media_type: str = JSON


async def respond(endpoint: Endpoint, request: Request, limits: Limits) -> Response:
    """Calls an endpoint's handler, and returns the answer. Raises HttpError."""
    body = None
    if endpoint.body is not None:
        body = decode(await read_body(request, limits), endpoint.body)
    user: str | None = request.scope.get("user")
    call = Call(request.path_params, request.query_params, request.headers, user, body)
    try:
        async with asyncio.timeout(limits.answer_s) as timeout:
            answer = await endpoint.handle(call)
    except TimeoutError as error:
        if not timeout.expired():  # the handler raised its own TimeoutError
            raise
        raise HttpError(504, f"There was no answer within {limits.answer_s:g} s.") from error
    if isinstance(answer, Response):
        return answer
    if answer is None:
        return Response(status_code=204)
    return Response(msgspec.json.encode(answer), endpoint.status, media_type=endpoint.media_type)


async def read_body(request: Request, limits: Limits) -> bytes:
    """A request's whole body. Raises HttpError with 413 for a body that is too large, and 408 for one that does not end in time."""
    too_large = HttpError(413, f"The body is larger than {limits.body_bytes_max} bytes.")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limits.body_bytes_max:
        raise too_large
    parts, size = [], 0
    try:
        async with asyncio.timeout(limits.body_s):
            async for part in request.stream():
                size += len(part)
                if size > limits.body_bytes_max:
                    raise too_large
                parts.append(part)
    except TimeoutError as error:
        raise HttpError(408, f"The body did not end within {limits.body_s:g} s.") from error
    except ClientDisconnect as error:
        raise HttpError(400, "The body is incomplete.") from error
    return b"".join(parts)


def decode(body: bytes, kind: Any) -> object:
    """Decodes a body. Raises HttpError with 400 if it is not JSON, and 422 if the JSON is not of the type."""
    try:
        value: object = msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise HttpError(422, f"The body does not have the expected form: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(400, f"The body is not JSON: {error}") from error
    return value
