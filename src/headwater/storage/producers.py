"""What a log knows about the idempotent and transactional producers that write to it (KIP-98, KIP-890).

For each producer id it has the epoch and the last five batches. That is enough to recognise a batch that a client with the
usual five requests in flight sends again, and to refuse a batch that leaves a gap. It also has the beginning of the
producer's open transaction. Everything at or after the first open transaction is not stable: readers of committed records do
not see it. A transaction that has ended still counts as open until its marker is durable. All of this follows from the
batches' headers and the markers. A snapshot in Kafka's format (ProducerStateManager.java) saves reading them all.
    .snapshot   version 1 (int16), CRC-32C of what follows (uint32), entries as in Kafka's ProducerSnapshot message

Kafka writes only the last batch of a producer. Here each of the kept batches is an entry, oldest first. Kafka's reader uses
the last of them, and our restart still recognises all five.
"""

import struct
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from crc32c import crc32c

from headwater.protocol.compiled import decode, encode
from headwater.protocol.errors import ProtocolError
from headwater.protocol.messages.producer_snapshot import ProducerSnapshot
from headwater.protocol.records import BatchHeader

BATCHES_KEPT = 5
SNAPSHOT_VERSION = 1
SNAPSHOT_ENTRIES_AT = 6
NO_EPOCH = -1
# The coordinator epoch of a marker that a start has written to end a transaction that has no coordinator: the producer is
# forgotten with it, at each later start too. Otherwise a batch that the client sends again would be mistaken for the aborted
# one, and would be acknowledged and lost.
FORGETTING_COORDINATOR_EPOCH = 2**31 - 1


class Verdict(Enum):
    """What to do with a producer's batch."""

    APPEND = "append"
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out of order"
    FENCED = "fenced"


class FencedMarkerError(Exception):
    """A marker has an old producer epoch, or comes from a coordinator that has been replaced."""

    def __init__(self, *, coordinator: bool) -> None:
        super().__init__("the coordinator epoch is old" if coordinator else "the producer epoch is old")
        self.coordinator = coordinator


class AbortedTransaction(NamedTuple):
    """One entry of a `.txnindex`: what readers of committed records leave out, from the first to the marker's offset."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


class KeptBatch(NamedTuple):
    """A batch that may be sent again."""

    first_sequence: int
    last_sequence: int
    last_offset: int
    offset_delta: int
    timestamp: int


@dataclass(slots=True)
class ProducerEntry:
    """One producer id."""

    epoch: int
    coordinator_epoch: int = -1
    last_timestamp: int = -1
    transaction_start: int = -1
    batches: deque[KeptBatch] = field(default_factory=lambda: deque(maxlen=BATCHES_KEPT))


class ProducerStates:
    """All producers of one log."""

    __slots__ = ("ended", "entries", "ongoing")

    def __init__(self) -> None:
        self.entries: dict[int, ProducerEntry] = {}
        self.ongoing: dict[int, int] = {}  # producer id to the first offset of its open transaction, oldest first
        self.ended: deque[tuple[int, int]] = (
            deque()
        )  # (first offset, marker's offset) of ended transactions that are not durable yet

    def check(self, header: BatchHeader, *, bumps: bool = False) -> tuple[Verdict, KeptBatch | None]:
        """Whether a batch with a producer id may be appended. For a duplicate, also the batch as it was first appended.

        `bumps`: the producer changes its epoch with each transaction (KIP-890), so an unknown one begins with sequence 0.
        """
        entry = self.entries.get(header.producer_id)
        if entry is None:
            return (Verdict.OUT_OF_ORDER if bumps and header.base_sequence else Verdict.APPEND), None
        if header.producer_epoch < entry.epoch:
            return Verdict.FENCED, None
        if header.producer_epoch > entry.epoch:
            return (Verdict.APPEND if header.base_sequence == 0 else Verdict.OUT_OF_ORDER), None
        last_sequence = header.last_sequence
        for batch in reversed(entry.batches):
            if batch.first_sequence == header.base_sequence and batch.last_sequence == last_sequence:
                return Verdict.DUPLICATE, batch
        expected = (entry.batches[-1].last_sequence + 1) & 0x7FFFFFFF if entry.batches else 0
        return (Verdict.APPEND if header.base_sequence == expected else Verdict.OUT_OF_ORDER), None

    def expect_first(self, header: BatchHeader) -> None:
        """A batch could not be written. If it was a producer's first, no other batch of that producer is accepted as its first."""
        if header.base_sequence == 0 and header.producer_id >= 0 and header.producer_id not in self.entries:
            self.entries[header.producer_id] = ProducerEntry(header.producer_epoch, last_timestamp=header.max_timestamp)

    def note(self, header: BatchHeader, base_offset: int) -> None:
        """Applies an appended batch of records to the state."""
        producer_id = header.producer_id
        entry = self.entries.get(producer_id)
        if entry is None or entry.epoch != header.producer_epoch:
            entry = self.renew(producer_id, header.producer_epoch)
        entry.last_timestamp = header.max_timestamp
        if header.is_transactional and producer_id not in self.ongoing:
            self.ongoing[producer_id] = entry.transaction_start = base_offset
        if header.base_sequence < 0:
            return
        delta = header.last_offset_delta
        entry.batches.append(
            KeptBatch(header.base_sequence, header.last_sequence, base_offset + delta, delta, header.max_timestamp)
        )

    def renew(self, producer_id: int, epoch: int) -> ProducerEntry:
        """Begins a new epoch of a producer, without batches. Its open transaction, if there is one, stays open."""
        old = self.entries.get(producer_id)
        entry = ProducerEntry(epoch) if old is None else ProducerEntry(epoch, old.coordinator_epoch)
        if old is not None:
            entry.transaction_start = old.transaction_start
        self.entries[producer_id] = entry
        return entry

    # -- transactions

    def is_in_transaction(self, producer_id: int, epoch: int) -> bool:
        return producer_id in self.ongoing and self.entries[producer_id].epoch == epoch

    def check_marker(self, producer_id: int, epoch: int, coordinator_epoch: int) -> None:
        """Raises FencedMarkerError if a marker comes too late."""
        entry = self.entries.get(producer_id)
        if entry is None:
            return
        if epoch < entry.epoch:
            raise FencedMarkerError(coordinator=False)
        if coordinator_epoch < entry.coordinator_epoch:
            raise FencedMarkerError(coordinator=True)

    def aborts(self, producer_id: int, offset: int) -> AbortedTransaction | None:
        """The transaction that an abort marker at `offset` would end; None if none is open."""
        first = self.ongoing.get(producer_id)
        if first is None:
            return None
        others = (start for other, start in self.ongoing.items() if other != producer_id)
        return AbortedTransaction(producer_id, first, offset, next(others, offset + 1))

    def note_marker(self, header: BatchHeader, offset: int, coordinator_epoch: int) -> None:
        """Applies an appended marker to the state: the producer's transaction is over."""
        entry = self.entries.get(header.producer_id)
        if entry is None or entry.epoch != header.producer_epoch:
            entry = self.renew(header.producer_id, header.producer_epoch)
        entry.coordinator_epoch = coordinator_epoch
        entry.last_timestamp = header.max_timestamp
        entry.transaction_start = -1
        first = self.ongoing.pop(header.producer_id, None)
        if first is not None:
            self.ended.append((first, offset))
        if coordinator_epoch == FORGETTING_COORDINATOR_EPOCH:
            del self.entries[header.producer_id]

    def first_unstable(self, high_watermark: int) -> int | None:
        """The first offset of a transaction that is open, or whose end is not durable yet."""
        ended = self.ended
        while ended and ended[0][1] < high_watermark:
            ended.popleft()
        first = next(iter(self.ongoing.values()), None)
        if not ended:
            return first
        least = min(start for start, _ in ended)
        return least if first is None else min(least, first)

    def expire(self, before_ms: int) -> None:
        """Forgets producers that have not written since then (producer.id.expiration.ms) and have no open transaction."""
        old = [i for i, e in self.entries.items() if e.last_timestamp < before_ms and i not in self.ongoing]
        for producer_id in old:
            del self.entries[producer_id]

    def snapshot(self) -> bytes:
        """The content of a `.snapshot` file."""
        message = ProducerSnapshot()
        for producer_id, entry in self.entries.items():
            for batch in entry.batches or (KeptBatch(-1, -1, -1, 0, -1),):
                message.producer_entries.append(
                    ProducerSnapshot.ProducerEntry(
                        producer_id=producer_id,
                        epoch=entry.epoch,
                        last_sequence=batch.last_sequence,
                        last_offset=batch.last_offset,
                        offset_delta=batch.offset_delta,
                        timestamp=batch.timestamp if entry.batches else entry.last_timestamp,
                        coordinator_epoch=entry.coordinator_epoch,
                        current_txn_first_offset=entry.transaction_start,
                    )
                )
        entries = encode(message, SNAPSHOT_VERSION)[4:]
        return struct.pack(">hI", SNAPSHOT_VERSION, crc32c(entries)) + entries

    @classmethod
    def from_snapshot(cls, content: bytes) -> "ProducerStates":
        """Raises ProtocolError for a damaged snapshot."""
        if len(content) < SNAPSHOT_ENTRIES_AT:
            raise ProtocolError("a producer snapshot is too short")
        version, crc = struct.unpack_from(">hI", content)
        if version != SNAPSHOT_VERSION or crc32c(content[SNAPSHOT_ENTRIES_AT:]) != crc:
            raise ProtocolError("a producer snapshot has a wrong version or CRC")
        message, _ = decode(ProducerSnapshot, version, content, 2)
        states = cls()
        for e in message.producer_entries:
            entry = states.entries.setdefault(e.producer_id, ProducerEntry(e.epoch, e.coordinator_epoch))
            entry.last_timestamp, entry.transaction_start = e.timestamp, e.current_txn_first_offset
            if e.last_sequence >= 0:
                first = (e.last_sequence - e.offset_delta) & 0x7FFFFFFF
                entry.batches.append(KeptBatch(first, e.last_sequence, e.last_offset, e.offset_delta, e.timestamp))
        opened = [(e.transaction_start, i) for i, e in states.entries.items() if e.transaction_start >= 0]
        states.ongoing = {producer_id: start for start, producer_id in sorted(opened)}
        return states
