"""Errors as bodies: every answer that is not a success is JSON with a code and a message.

    {"error_code": 40401, "message": "Subject 'orders' not found."}

A handler raises HttpError. The layers below raise the same error for an unknown path, a wrong method or a body that is too
large, so a client can handle all of them in one way. The code is the status unless an API has more specific codes.
"""

from collections.abc import Mapping

import msgspec


class ErrorBody(msgspec.Struct):
    """The body of every answer that is an error."""

    error_code: int
    message: str


class HttpError(Exception):
    """An answer with that status. The message says what to do; it is for the client, so it holds no secret."""

    def __init__(
        self, status: int, message: str, *, code: int | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.code = status if code is None else code
        self.headers = dict(headers or {})

    @property
    def body(self) -> bytes:
        return msgspec.json.encode(ErrorBody(self.code, self.message))
