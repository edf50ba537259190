"""Records in the topics in which coordinators keep their state."""

from typing import NamedTuple


class StateRecord(NamedTuple):
    """A key and a value as they lie in the log; a value of None removes what the key names."""

    key: bytes
    value: bytes | None


def versioned(number: int, data: bytes) -> bytes:
    return number.to_bytes(2, "big") + data
