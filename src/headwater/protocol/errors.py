"""What goes wrong with a request: below the level of an answer, bytes that are no message; and what an answer says."""

from headwater.protocol.error_codes import ErrorCode


class ProtocolError(Exception):
    """Bytes that cannot be parsed, or a value that the version cannot carry. The connection they came from is closed."""


class UnsupportedVersionError(ProtocolError):
    """An API key or version that this broker does not serve."""


class ApiError(Exception):
    """The answer to a request, or to a part of one, that is refused.

    `message` may be None: some answers have no room for one. `details` is what the answer of one API says beyond that.
    """

    def __init__(self, code: ErrorCode, message: str | None = None, details: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
