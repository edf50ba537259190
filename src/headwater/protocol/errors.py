"""Errors of requests: bytes that are not a message, for which the connection is closed; and errors that an answer reports."""

from headwater.protocol.error_codes import ErrorCode


class ProtocolError(Exception):
    """Bytes cannot be parsed, or a version cannot represent a value. The connection that sent the bytes is closed."""


class UnsupportedVersionError(ProtocolError):
    """This broker does not serve the API key or version."""


class ApiError(Exception):
    """The answer to a request, or to a part of one, that is refused.

    `message` may be None: some answers have no room for one. `details` is additional data for the answer of one API.
    """

    def __init__(self, code: ErrorCode, message: str | None = None, details: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
