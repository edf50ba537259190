"""What a log knows of the idempotent producers that write to it (KIP-98).

Of each producer id the epoch and the last five batches: enough to recognise a batch that is sent again by a client
with the usual five requests in flight, and to refuse one that leaves a gap. The state follows from the batches'
headers; a snapshot in Kafka's format (ProducerStateManager.java) beside the segments saves reading them all.

    .snapshot   version 1 (int16), CRC-32C of what follows (uint32), entries as in Kafka's ProducerSnapshot message

Kafka writes the last batch of a producer. Here each kept batch is an entry, oldest first: Kafka's reader takes the last
of them, and a restart does not forget which batches may be sent again.
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


class Verdict(Enum):
    """What is to happen with a producer's batch."""

    APPEND = "append"
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out of order"
    FENCED = "fenced"


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

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries: dict[int, ProducerEntry] = {}

    def check(self, header: BatchHeader) -> tuple[Verdict, KeptBatch | None]:
        """Whether a batch with a producer id may be appended; for a duplicate, the batch as it was first appended."""
        entry = self.entries.get(header.producer_id)
        if entry is None:
            return Verdict.APPEND, None
        if header.producer_epoch < entry.epoch:
            return Verdict.FENCED, None
        if header.producer_epoch > entry.epoch:
            return (Verdict.APPEND if header.base_sequence == 0 else Verdict.OUT_OF_ORDER), None
        last_sequence = header.last_sequence
        for batch in entry.batches:
            if batch.first_sequence == header.base_sequence and batch.last_sequence == last_sequence:
                return Verdict.DUPLICATE, batch
        if not entry.batches:
            return Verdict.APPEND, None
        expected = (entry.batches[-1].last_sequence + 1) & 0x7FFFFFFF
        return (Verdict.APPEND if header.base_sequence == expected else Verdict.OUT_OF_ORDER), None

    def note(self, header: BatchHeader, base_offset: int) -> None:
        """Takes an appended batch into the state."""
        entry = self.entries.get(header.producer_id)
        if entry is None or entry.epoch != header.producer_epoch:
            entry = self.entries[header.producer_id] = ProducerEntry(header.producer_epoch)
        entry.last_timestamp = header.max_timestamp
        if header.is_control or header.base_sequence < 0:
            return
        delta = header.last_offset_delta
        entry.batches.append(
            KeptBatch(header.base_sequence, header.last_sequence, base_offset + delta, delta, header.max_timestamp)
        )

    def expire(self, before_ms: int) -> None:
        """Forgets producers that have not written since then (producer.id.expiration.ms)."""
        for producer_id in [i for i, e in self.entries.items() if e.last_timestamp < before_ms]:
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
        return states
