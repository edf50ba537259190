"""A record of a compacted topic that keeps the state of a replayed machine."""

from typing import NamedTuple

NO_PRODUCER = -1


class StateRecord(NamedTuple):
    """A key and a value as they are in the log; a value of None removes what the key names.

    A record of a transaction has the id and epoch of its producer. It takes effect when the transaction is committed.
    """

    key: bytes
    value: bytes | None
    producer_id: int = NO_PRODUCER
    producer_epoch: int = NO_PRODUCER
