"""The one name for "any bytes": what is read from a socket or a file, and written to one, without being copied."""

from typing import TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview
