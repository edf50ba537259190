"""Compaction keeps the newest record of each key, and removes the older ones (KIP-58, KIP-534; Cleaner.java).

A job makes two passes over the sealed segments of one log. The first reads what was appended since the last job, and records
the newest offset of every key, in bounded memory: if that is full, the job ends at that offset and the next job starts
there. The second copies all segments up to there into a folder beside them, without the records that newer ones have
replaced. Nothing in the log changes until the owner puts the copies in place (`compaction.py`). Records keep their offsets
and their bytes: a batch that stays whole is copied as it is; of another, the records that stay are cut out and joined.

Other things are removed too: records of aborted transactions; records without a key; and tombstones (null values) and
transactions' markers, but these only `delete.retention.ms` after a compaction first kept them, so that consumers still
see them. The batch itself records that moment: attribute bit 6 says that its base timestamp is the time from which its
tombstones may be removed, and the records' timestamps are relative to that. The last batch of a producer stays, empty if
need be, because it holds the producer's sequence.

A job runs in a process of its own (`python -m headwater.storage.cleaner`, job and result as JSON), or step by step in the
owner's thread. It only reads the log's files, and writes to the folder.
"""

import json
import os
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from headwater.effects.buffers import Buffer
from headwater.effects.files import DiskFiles, Files
from headwater.protocol.compression import DECOMPRESSED_BYTES_MAX, compress, decompress
from headwater.protocol.record_keys import consecutive_keys, split_record
from headwater.protocol.records import (
    HEADER,
    HEADER_BYTES,
    LOG_APPEND_TIME,
    LOG_OVERHEAD,
    BatchHeader,
    check_batch,
    write_crc,
)
from headwater.protocol.varint import read_varint, varint
from headwater.storage.producers import AbortedTransaction
from headwater.storage.segment import SEGMENT_SUFFIXES, Segment
from headwater.storage.soundness import RELATIVE_OFFSET_MAX
from headwater.storage.swaps import CLEANING_DIRECTORY, remove_copies

DELETE_HORIZON = 0x40
ENTRY_BYTES = 160  # memory that a key and its offset need in a dictionary
STEP_BYTES = 256 * 1024
DENSE_BYTES_MAX = 64 << 20  # of a copy that has one index entry per batch
OPEN_FILES = 16
NICENESS = 10
COMMAND_MODULE = "headwater.storage.cleaner"


@dataclass(slots=True)
class CleanJob:
    """What to clean. Everything below `first_dirty` was cleaned before. Ends are exclusive.

    `bases` are the base offsets of the segments, `end` is where the last of them ends. `aborted` has the aborted
    transactions of the whole log, and `last_offsets` the offset of each producer's last batch.
    """

    directory: str
    bases: list[int]
    end: int
    first_dirty: int
    now_ms: int
    delete_retention_ms: int
    segment_bytes: int
    index_interval_bytes: int
    entries_max: int
    aborted: list[AbortedTransaction] = field(default_factory=list)
    last_offsets: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class CleanedGroup:
    """Segments, by base offset, that one copy replaces. The copy has the first one's name."""

    bases: list[int]
    size_bytes: int


@dataclass(slots=True)
class Cleaned:
    """The result of a job: copies in the folder, and the offset up to which the log is clean with them."""

    groups: list[CleanedGroup]
    end: int
    records_read: int = 0
    records_kept: int = 0


Place: TypeAlias = tuple[int, int, int]
"""Where a record begins and ends in its batch's body, and where the length of its value is."""


class Transactions:
    """Which transaction a batch belongs to, while a log is read from its beginning."""

    def __init__(self, aborted: list[AbortedTransaction]) -> None:
        self.waiting = sorted(aborted, key=lambda entry: entry.first_offset, reverse=True)
        self.open_aborted: dict[int, AbortedTransaction] = {}
        self.with_data: set[int] = set()  # producers whose open transaction still has records

    def is_aborted(self, header: BatchHeader) -> bool:
        """Whether a batch of records belongs to a transaction that was aborted."""
        while self.waiting and self.waiting[-1].first_offset <= header.last_offset:
            entry = self.waiting.pop()
            self.open_aborted[entry.producer_id] = entry
        found = self.open_aborted.get(header.producer_id)
        return header.is_transactional and found is not None and header.base_offset < found.last_offset

    def end(self, header: BatchHeader) -> bool:
        """Processes a marker; returns whether nothing is left of its transaction."""
        had_data = header.producer_id in self.with_data
        self.with_data.discard(header.producer_id)
        return not had_data


class Cleaning:
    """One job. `steps` runs it, a bounded piece at a time; then `result` is set."""

    def __init__(self, files: Files, job: CleanJob) -> None:
        self.files = files
        self.job = job
        self.newest: dict[bytes, int] = {}
        self.survivors = array("q")  # the offsets of the newest records
        self.end = job.end
        self.result = Cleaned([], job.end)
        self.folder = f"{job.directory}/{CLEANING_DIRECTORY}"
        self.segments = [Segment(files, job.directory, base) for base in job.bases]
        self.ends = [*job.bases[1:], job.end]

    def steps(self) -> Iterator[None]:
        """Runs the job. If it raises OSError or ProtocolError, the log is unchanged."""
        remove_copies(self.files, self.folder)
        self.files.make_directory(self.folder)
        yield from self.note_keys()
        self.survivors = array("q", sorted(self.newest.values()))
        yield from self.copy()
        self.files.sync_directory(self.folder)
        self.result.end = self.end
        for segment in self.segments:
            segment.file.close()

    # -- the first pass

    def note_keys(self) -> Iterator[None]:
        transactions = Transactions(self.job.aborted)
        read = 0
        for number, segment in enumerate(self.segments):
            if self.ends[number] <= self.job.first_dirty:
                continue
            segment.load_indexes()  # they show whether the offsets are right
            for header, _, batch in segment.checked_scan(0, segment.size):
                if header.is_control or header.base_offset < self.job.first_dirty:
                    continue
                if transactions.is_aborted(header):
                    continue
                if len(self.newest) + header.records_count > self.job.entries_max and number > 0 and self.newest:
                    # The keys recorded so far are enough for the segments before this one.
                    self.end = segment.base_offset
                    return
                note_newest(self.newest, body_of(header, batch), header)
                read += header.size_bytes
                if read >= STEP_BYTES:
                    read = 0
                    yield

    # -- the second pass

    def copy(self) -> Iterator[None]:
        transactions = Transactions(self.job.aborted)
        group: list[Segment] = []
        for segment, end in zip(self.segments, self.ends, strict=True):
            if segment.base_offset >= self.end:
                break
            size = sum(member.size for member in group) + segment.size
            if group and (size > self.job.segment_bytes or end - group[0].base_offset > RELATIVE_OFFSET_MAX):
                yield from self.copy_group(group, transactions)
                group = []
            group.append(segment)
        yield from self.copy_group(group, transactions)

    def copy_group(self, group: list[Segment], transactions: Transactions) -> Iterator[None]:
        target = Segment(self.files, self.folder, group[0].base_offset, create=True)
        pending: list[Buffer] = []
        pending_bytes = read = 0
        # No CRC covers the base offsets. With gaps between them, only the index shows whether they are right.
        is_small = sum(source.size for source in group) <= DENSE_BYTES_MAX
        interval = -1 if is_small else self.job.index_interval_bytes

        def flush() -> None:
            nonlocal pending_bytes
            if pending:
                target.file.write(pending, target.size - pending_bytes)
                pending.clear()
                pending_bytes = 0

        for source in group:
            source.load_indexes()
            is_checked = self.ends[self.segments.index(source)] > self.job.first_dirty  # in the first pass
            scan = source.scan(0, source.size)
            checked = ((header, at) for header, at, _ in source.checked_scan(0, source.size))
            for header, position in scan if is_checked else checked:
                kept = self.cleaned_batch(header, source, position, transactions)
                if kept is not None:
                    after = BatchHeader._make(HEADER.unpack_from(kept))
                    target.note(after.base_offset, after.last_offset, after.max_timestamp, len(kept), interval)
                    pending.append(kept)
                    pending_bytes += len(kept)
                read += header.size_bytes
                if pending_bytes >= STEP_BYTES or read >= STEP_BYTES:
                    read = 0
                    flush()
                    yield
        flush()
        self.finish(target, group)

    def finish(self, target: Segment, group: list[Segment]) -> None:
        target.end_offset = self.ends[self.segments.index(group[-1])]  # whatever stays of it
        target.may_have_gaps = True
        for source in group:
            index = source.aborted_transactions()
            for entry in index.ending_from(0) if index is not None else ():
                target.note_aborted(entry)
        target.write_indexes()
        target.write_sums()
        target.file.sync()
        for suffix in SEGMENT_SUFFIXES[1:]:
            if self.files.exists(target.path + suffix):
                self.files.sync_path(target.path + suffix)
        self.result.groups.append(CleanedGroup([segment.base_offset for segment in group], target.size))
        target.file.close()

    def cleaned_batch(
        self, header: BatchHeader, source: Segment, position: int, transactions: Transactions
    ) -> Buffer | None:
        """What stays of a batch: its bytes, new bytes, or None."""
        is_last = header.producer_id >= 0 and self.job.last_offsets.get(header.producer_id) == header.last_offset
        horizon_ms = header.base_timestamp if header.attributes & DELETE_HORIZON else None
        has_passed = horizon_ms is not None and horizon_ms <= self.job.now_ms
        if header.is_control:
            batch = source.read_batch(header, position)
            is_spent = transactions.end(header)
            if header.records_count == 0:
                return batch if is_last else None
            if is_spent and has_passed:
                return empty_batch(header) if is_last else None
            return batch if horizon_ms is not None else self.with_horizon(header, body_of(header, batch), None)
        self.result.records_read += header.records_count
        gone = empty_batch(header) if is_last else None
        if transactions.is_aborted(header):
            return gone
        is_dirty = header.base_offset >= self.job.first_dirty
        if is_dirty and not self.survivors_of(header):
            return gone  # it need not be read
        batch = source.read_batch(header, position)
        body = body_of(header, batch)
        places = self.newest_places(header, body) if is_dirty else self.clean_places(header, body)
        tombstones = [place for place in places if body[place[2]] == 1]  # a value's length of -1
        if tombstones and has_passed:
            places = [place for place in places if body[place[2]] != 1]
            tombstones = []
        self.result.records_kept += len(places)
        if not places:
            return gone
        if header.is_transactional:
            transactions.with_data.add(header.producer_id)
        if tombstones and horizon_ms is None:
            return self.with_horizon(header, body, [(start, end) for start, end, _ in places])
        if len(places) == header.records_count:
            return batch
        return rebuilt(
            header, b"".join([body[start:end] for start, end, _ in places]), len(places), header.base_timestamp
        )

    def survivors_of(self, header: BatchHeader) -> "array[int]":
        """The offsets of a batch's records that are the newest of their keys."""
        first = bisect_left(self.survivors, header.base_offset)
        return self.survivors[first : bisect_left(self.survivors, header.next_offset, first)]

    def newest_places(self, header: BatchHeader, data: bytes) -> list[Place]:
        """The places of the records that stay, in a batch whose keys were recorded: their offsets are enough."""
        if header.records_count != header.last_offset_delta + 1:
            return self.clean_places(header, data)
        places = []
        position = number = 0
        for offset in self.survivors_of(header):
            for _ in range(offset - header.base_offset - number):
                first = data[position]
                if first < 0x80:
                    position += 1 + (first >> 1)
                elif data[position + 1] < 0x80:
                    position += 2 + ((first & 0x7F | data[position + 1] << 7) >> 1)
                else:
                    length, body_at = read_varint(data, position)
                    position = body_at + length
            _, _, value_at, end = split_record(data, position)
            places.append((position, end, value_at))
            position, number = end, offset - header.base_offset + 1
        return places

    def clean_places(self, header: BatchHeader, data: bytes) -> list[Place]:
        """The places of the records that no newer one replaces, in a batch that was compacted before."""
        newest, base_offset = self.newest, header.base_offset
        places = []
        position = 0
        for _ in range(header.records_count):
            start = position
            offset_delta, key, value_at, position = split_record(data, position)
            if key is not None and newest.get(key, -1) <= base_offset + offset_delta:
                places.append((start, position, value_at))
        return places

    def with_horizon(self, header: BatchHeader, data: bytes, runs: list[tuple[int, int]] | None) -> Buffer:
        """The batch, with the time from which its tombstones, or its marker, may be removed."""
        horizon_ms = self.job.now_ms + self.job.delete_retention_ms
        shift = header.base_timestamp - horizon_ms
        records = []
        for start, end in runs or [(0, len(data))]:
            position = start
            while position < end:
                length, body_at = read_varint(data, position)
                position = body_at + length
                delta, rest_at = read_varint(data, body_at + 1)
                content = data[body_at : body_at + 1] + varint(delta + shift) + data[rest_at:position]
                records.append(varint(len(content)) + content)
        marked = header._replace(attributes=header.attributes | DELETE_HORIZON)
        return rebuilt(marked, b"".join(records), len(records), horizon_ms)


def body_of(header: BatchHeader, batch: bytes) -> bytes:
    """A batch's records, decompressed. Raises ProtocolError for a damaged batch, since a copy of it would get a correct checksum."""
    check_batch(batch)
    body = memoryview(batch)[HEADER_BYTES : header.size_bytes]
    return bytes(decompress(header.compression, body, DECOMPRESSED_BYTES_MAX))


def note_newest(newest: dict[bytes, int], data: bytes, header: BatchHeader) -> None:
    """Records the offset of each key in a batch."""
    if header.records_count == header.last_offset_delta + 1:  # as it was produced
        keys = consecutive_keys(data, header.records_count)
        newest.update(zip(keys, range(header.base_offset, header.next_offset), strict=True))  # type: ignore[arg-type]
        newest.pop(None, None)  # type: ignore[call-overload]
        return
    base_offset, position = header.base_offset, 0
    for _ in range(header.records_count):
        offset_delta, key, _, position = split_record(data, position)
        if key is not None:
            newest[key] = base_offset + offset_delta


def rebuilt(header: BatchHeader, records: bytes, count: int, base_timestamp: int) -> bytearray:
    """A batch that has some of its records, at their offsets."""
    body = compress(header.compression, records) if records else b""
    batch = bytearray(HEADER_BYTES) + body
    max_timestamp = header.max_timestamp
    if records and not header.attributes & LOG_APPEND_TIME:
        max_timestamp = base_timestamp + max(timestamp_deltas(records))
    changed = header._replace(
        length=len(batch) - LOG_OVERHEAD,
        base_timestamp=base_timestamp,
        max_timestamp=max_timestamp,
        records_count=count,
    )
    HEADER.pack_into(batch, 0, *changed)
    write_crc(batch)
    return batch


def timestamp_deltas(records: bytes) -> Iterator[int]:
    position = 0
    while position < len(records):
        length, body_at = read_varint(records, position)
        yield read_varint(records, body_at + 1)[0]
        position = body_at + length


def empty_batch(header: BatchHeader) -> bytearray:
    """A batch without records: it keeps its offsets and its producer's sequence."""
    return rebuilt(header._replace(attributes=header.attributes & ~0x07), b"", 0, header.base_timestamp)


def job_text(job: CleanJob) -> str:
    return json.dumps(asdict(job))


def read_job(text: str) -> CleanJob:
    values: dict[str, Any] = json.loads(text)
    values["aborted"] = [AbortedTransaction(*entry) for entry in values["aborted"]]
    values["last_offsets"] = {int(key): offset for key, offset in values["last_offsets"].items()}
    return CleanJob(**values)


def read_result(text: str) -> Cleaned:
    values: dict[str, Any] = json.loads(text)
    values["groups"] = [CleanedGroup(**group) for group in values["groups"]]
    return Cleaned(**values)


def main() -> None:
    """The process: a job on standard input, its result on standard output, exit status 1 if it fails.

    The argument is the id of the process that it works for. When that process is gone, the job ends after its current step.
    """
    owner = int(sys.argv[1])
    os.nice(NICENESS)  # producers and consumers come first
    cleaning = Cleaning(DiskFiles(OPEN_FILES), read_job(sys.stdin.read()))
    for _ in cleaning.steps():
        if os.getppid() != owner:
            sys.exit("the broker is gone")
    print(json.dumps(asdict(cleaning.result)))


if __name__ == "__main__":
    main()
