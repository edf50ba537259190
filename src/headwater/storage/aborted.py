"""Finds the aborted transactions of a log again, if an index of them is missing or damaged.

The index can be rebuilt from the batches: a transaction begins with the producer's first batch after its last marker, and
ends with the next marker. If a segment is missing, its batches are gone too. But its index may still exist, and the
transactions in it may have begun in earlier segments.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from headwater.effects.files import Files, read_file
from headwater.protocol.errors import ProtocolError
from headwater.protocol.records import BatchHeader, check_batch, marker_of
from headwater.storage.index import TransactionIndex, load_file, possible_entries
from headwater.storage.producers import AbortedTransaction, ProducerStates
from headwater.storage.segment import Segment

ABORTED_FILE = re.compile(r"[0-9]{20}\.txnindex")
MARKER_BYTES_MAX = 128  # Kafka's markers have 78 bytes
Batch: TypeAlias = tuple[BatchHeader, Segment, int]
"""A batch's header, its segment, and its position there."""


def aborted_of_missing(files: Files, directory: str, names: list[str]) -> list[AbortedTransaction]:
    """The aborted transactions whose markers were in missing segments, according to the indexes that are left of them.

    Their records may be in earlier segments, and must stay aborted.
    """
    found: list[AbortedTransaction] = []
    for name in names:
        if ABORTED_FILE.fullmatch(name) and f"{name[:20]}.log" not in names:
            index = TransactionIndex()
            index.load(read_file(files, f"{directory}/{name}"))
            found += index.ending_from(0)
    return found


def read_marker_batch(segment: Segment, header: BatchHeader, position: int) -> bytes:
    """A batch that ends a transaction, or looks as if it might; b"" for any other. Raises ProtocolError if it is damaged.

    A single flipped bit turns a commit into an abort, or a marker into data. So every batch as small as a marker is checked.
    """
    if not header.is_control and header.size_bytes > MARKER_BYTES_MAX:
        return b""
    batch = segment.read_batch(header, position)
    check_batch(batch)
    return batch


def find_aborted(batches: Iterable[Batch]) -> dict[Segment, list[AbortedTransaction]]:
    """The aborted transactions that end in each segment, from all batches of a log."""
    states = ProducerStates()
    found: dict[Segment, list[AbortedTransaction]] = {}
    for header, segment, position in batches:
        try:
            batch = read_marker_batch(segment, header, position)
            if header.producer_id < 0:
                continue
            if not header.is_control:
                states.note(header, header.base_offset)
                continue
            if not header.records_count:
                continue
            is_commit, coordinator_epoch = marker_of(header, batch)
        except ProtocolError:
            segment.damaged_at(position)
            continue
        aborted = None if is_commit else states.aborts(header.producer_id, header.base_offset)
        if aborted is not None:
            found.setdefault(segment, []).append(aborted)
        states.note_marker(header, header.base_offset, coordinator_epoch)
    return found


def keep_ends_in_damage(
    segment: Segment, found: list[AbortedTransaction], batches_from: Callable[[int], Iterator[Batch]]
) -> None:
    """Keeps entries of the segment's old index whose markers cannot be read, if the log has such a transaction.

    Otherwise the records of that transaction would be shown as committed, since no readable marker says otherwise.
    """
    for entry in possible_entries(load_file(segment.files, segment.path + ".txnindex") or b""):
        if any(part.start_offset <= entry.last_offset < part.end_offset for part in segment.parts.found):
            for header, _, _ in batches_from(entry.first_offset):
                begins = header.is_transactional and header.base_offset == entry.first_offset
                if begins and header.producer_id == entry.producer_id:
                    found.append(entry)
                break
    found.sort(key=lambda entry: entry.last_offset)
