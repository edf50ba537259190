"""The one name for 'any bytes': what may come from a socket or a file and go to one without being copied."""

from typing import TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview
