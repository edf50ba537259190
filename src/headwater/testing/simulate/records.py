"""Records as simulated clients write and read them: a label, and now and then padding that fills the log."""

from random import Random
from typing import NamedTuple

from headwater.protocol.messages.fetch import FetchResponse
from headwater.protocol.records import TRANSACTIONAL, Record, batches, build_batch, check_batch, records
from headwater.testing.simulate.history import Send

SEPARATOR = b"|"
PADDING_MAX = 200


class Identity(NamedTuple):
    """A producer's id and epoch."""

    producer_id: int = -1
    epoch: int = -1


def batch_of(send: Send, identity: Identity, sequence: int, random: Random) -> bytes:
    """The batch of a send; each attempt is the same, except for the padding."""
    padding = b"." * random.randrange(PADDING_MAX)
    content = [
        Record(send.keys[n] if send.keys else None, value + SEPARATOR + padding, (), send.timestamps[n])
        for n, value in enumerate(send.values)
    ]
    batch = build_batch(
        content,
        attributes=TRANSACTIONAL if send.transaction else 0,
        producer_id=identity.producer_id,
        producer_epoch=identity.epoch,
        base_sequence=sequence,
    )
    return bytes(batch)


def label_of(record: Record) -> bytes:
    return (record.value or b"").partition(SEPARATOR)[0]


def read_records(
    data: FetchResponse.PartitionData, position: int, *, is_committed: bool
) -> tuple[tuple[tuple[int, bytes], ...], int]:
    """The records that a consumer hands to its application, and its next position; aborted transactions end at their marker.

    Raises ProtocolError, as clients do, if a batch does not match its checksum.
    """
    waiting = sorted((a.first_offset, a.producer_id) for a in data.aborted_transactions or ())
    aborted: set[int] = set()
    found: list[tuple[int, bytes]] = []
    next_position = position
    for header, batch in batches(data.records or b""):
        check_batch(batch)
        while waiting and waiting[0][0] <= header.last_offset:
            aborted.add(waiting.pop(0)[1])
        if header.is_control:
            aborted.discard(header.producer_id)
        elif not (is_committed and header.is_transactional and header.producer_id in aborted):
            found += [(r.offset, label_of(r)) for r in records(header, batch) if r.offset >= position]
        next_position = max(next_position, header.next_offset)
    return tuple(found), next_position
