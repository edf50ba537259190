"""The aborted transactions of a log, found again where an index of them is missing or damaged.

An index of aborted transactions can be built again from the batches: a transaction begins with the producer's first batch
after its last marker, and ends with the next marker. A segment that is missing has no batches, but it may have left its
index, whose transactions may have begun in the segments before it.
"""

import re
from collections.abc import Iterable

from headwater.effects.files import Files, read_file
from headwater.protocol.errors import ProtocolError
from headwater.protocol.records import BatchHeader, check_batch, marker_of
from headwater.storage.index import TransactionIndex
from headwater.storage.producers import AbortedTransaction, ProducerStates
from headwater.storage.segment import Segment

ABORTED_FILE = re.compile(r"[0-9]{20}\.txnindex")
MARKER_BYTES_MAX = 128  # Kafka's markers have 78


def aborted_of_missing(files: Files, directory: str, names: list[str]) -> list[AbortedTransaction]:
    """The aborted transactions whose markers were in segments that are missing, by the indexes that these have left.

    Their records may be in the segments before, and stay aborted.
    """
    found: list[AbortedTransaction] = []
    for name in names:
        if ABORTED_FILE.fullmatch(name) and f"{name[:20]}.log" not in names:
            index = TransactionIndex()
            index.load(read_file(files, f"{directory}/{name}"))
            found += index.ending_from(0)
    return found


def read_marker_batch(segment: Segment, header: BatchHeader, position: int) -> bytes:
    """A batch that ends a transaction, or looks as if it might; b"" for any other. Raises ProtocolError where it is damaged.

    One bit makes an abort of a commit, or data of a marker. So all that are as small as a marker are checked.
    """
    if not header.is_control and header.size_bytes > MARKER_BYTES_MAX:
        return b""
    batch = segment.read_batch(header, position)
    check_batch(batch)
    return batch


def find_aborted(batches: Iterable[tuple[BatchHeader, Segment, int]]) -> dict[Segment, list[AbortedTransaction]]:
    """Those that end in each segment, by a log's batches from its beginning on: header, segment and position of each."""
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
