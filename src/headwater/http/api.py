"""The application that serves a table of endpoints: an ASGI callable, so it can be tested without a port.

A request passes these checks in order: its Host and its Origin; a browser's question whether a page may send it (CORS); the
user; the table; the body; the handler. Each may end it with an HttpError. Every answer, including errors, has headers that
tell a browser not to run, frame, sniff or store it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from email.utils import formatdate

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headwater.effects.clock import Clock, SystemClock
from headwater.effects.logs import get_logger
from headwater.http import openapi
from headwater.http.authentication import Authentication
from headwater.http.endpoints import JSON, Call, Endpoint, respond
from headwater.http.errors import HttpError
from headwater.http.limits import Limits
from headwater.http.origins import Origins

logger = get_logger(__name__)

NOTHING_LOADED = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
PREFLIGHT_S = 600
OPENAPI_PATH = "/openapi.json"


class Api:
    """An API. Without `authentication` every request is anonymous; without `origins.allowed` there is no CORS.

    `public_paths` need no user. `content_security_policy` applies to all answers; a console's pages need more than the
    default.
    """

    def __init__(
        self,
        title: str,
        version: str,
        endpoints: Sequence[Endpoint],
        *,
        authentication: Authentication | None = None,
        public_paths: Sequence[str] = (),
        origins: Origins | None = None,
        limits: Limits | None = None,
        content_security_policy: str = NOTHING_LOADED,
        clock: Clock | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.authentication, self.public_paths = authentication, frozenset(public_paths)
        self.origins = origins or Origins()
        self.content_security_policy = content_security_policy
        self.clock = clock or SystemClock()
        self.methods = ", ".join(sorted({endpoint.method for endpoint in endpoints} | {"OPTIONS"}))
        description = openapi.document(title, version, endpoints, authentication)

        async def describe(call: Call[None]) -> object:
            return description

        own = Endpoint("GET", OPENAPI_PATH, describe, answer=dict[str, object], summary="This description")
        by_path: dict[str, dict[str, Endpoint]] = {}
        for endpoint in (*endpoints, own):
            by_path.setdefault(endpoint.path, {})[endpoint.method] = endpoint
        routes = [self.route(path, by_method) for path, by_method in by_path.items()]
        self.router: ASGIApp = Router(routes, redirect_slashes=False)

    def route(self, path: str, by_method: Mapping[str, Endpoint]) -> Route:
        async def answer(request: Request) -> Response:
            method = "GET" if request.method == "HEAD" and "HEAD" not in by_method else request.method
            return await respond(by_method[method], request, self.limits)

        return Route(path, answer, methods=list(by_method))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request. Only `http` is supported: there is no lifespan and no WebSocket."""
        if scope["type"] != "http":
            raise ValueError(f"an API serves http, not {scope['type']}")
        answering = Answering(self, scope, send)
        try:
            await self.serve(scope, receive, answering.send)
        except (Exception, asyncio.CancelledError) as error:  # only the server cancels requests, when it stops
            if answering.has_begun:
                raise  # too late for an answer: the server breaks the connection
            await error_response(scope, error)(scope, receive, answering.send)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        self.origins.check_host(host)
        self.origins.check_origin(origin, scope["scheme"], host)
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await self.preflight()(scope, receive, send)
            return
        if self.authentication is not None and scope["path"] not in self.public_paths:
            scope["user"] = await self.authentication.authenticate(headers.get("authorization"))
        scope["app"] = self  # so that Starlette raises its 404 and 405 instead of writing them
        await self.router(scope, receive, send)

    def preflight(self) -> Response:
        """What a page of an allowed origin may send. A browser treats missing headers as a refusal, so other origins get none."""
        headers = {
            "Access-Control-Allow-Methods": self.methods,
            "Access-Control-Allow-Headers": "authorization, content-type",
            "Access-Control-Max-Age": str(PREFLIGHT_S),
        }
        return Response(status_code=204, headers=headers)


class Answering:
    """Adds the headers that all answers have."""

    def __init__(self, api: Api, scope: Scope, send: Send) -> None:
        self.api, self.scope, self.send_on = api, scope, send
        self.has_begun = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            self.complete(MutableHeaders(scope=message))
        await self.send_on(message)

    def complete(self, headers: MutableHeaders) -> None:
        api, asked = self.api, Headers(scope=self.scope)
        headers["Date"] = formatdate(api.clock.wall_ms() / 1000, usegmt=True)
        headers.setdefault("Content-Security-Policy", api.content_security_policy)
        headers.setdefault("Cache-Control", "no-store")
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        if api.origins.allowed:
            headers.add_vary_header("Origin")
            origin = asked.get("origin")
            if origin is not None and api.origins.needs_cors(origin, self.scope["scheme"], asked.get("host", "")):
                headers["Access-Control-Allow-Origin"] = origin


def error_response(scope: Scope, error: BaseException) -> Response:
    """The answer to a request that failed. Details that only the server's owner may know go to the log."""
    if isinstance(error, HTTPException):  # of Starlette's routes
        error = from_starlette(scope, error)
    if isinstance(error, asyncio.CancelledError):
        error = HttpError(503, "The server is stopping.", headers={"Connection": "close"})
    if not isinstance(error, HttpError):
        logger.exception("%s %s failed", scope["method"], scope["path"], exc_info=error)
        error = HttpError(500, "The server failed; see its log.")
    return Response(error.body, error.status, error.headers, media_type=JSON)


def from_starlette(scope: Scope, error: HTTPException) -> HttpError:
    known = {
        404: f"There is nothing at {scope['path']}; {OPENAPI_PATH} lists the paths.",
        405: f"{scope['method']} is not supported at {scope['path']}.",
    }
    return HttpError(error.status_code, known.get(error.status_code, error.detail), headers=error.headers)
