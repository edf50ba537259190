"""A record of a topic that is replayed."""

from typing import NamedTuple

NOWHERE = -1


class TopicRecord(NamedTuple):
    """A key and a value as they are in the topic. A value of None removes the key.

    `offset` and `timestamp_ms` are the topic's: a record that is yet to be written has none.
    """

    key: bytes | None
    value: bytes | None
    offset: int = NOWHERE
    timestamp_ms: int = NOWHERE
