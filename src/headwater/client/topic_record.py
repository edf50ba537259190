"""A record of a topic that is replayed."""

from typing import NamedTuple

NOWHERE = -1


class TopicRecord(NamedTuple):
    """A key and a value as they lie in the topic; a value of None removes what the key names.

    `offset` and `timestamp_ms` are the topic's: a record that is yet to be written has none.
    """

    key: bytes | None
    value: bytes | None
    offset: int = NOWHERE
    timestamp_ms: int = NOWHERE
