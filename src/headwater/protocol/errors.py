"""What goes wrong below the level of an answer: bytes that are not a message."""


class ProtocolError(Exception):
    """Bytes that cannot be parsed, or a value that the version cannot carry. The connection they came from is closed."""


class UnsupportedVersionError(ProtocolError):
    """An API key or version that this broker does not serve."""
