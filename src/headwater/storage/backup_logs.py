"""Reads a log while a broker writes it: which of its files belong together, and where its sound part ends.

A segment grows at its end, and what is below the end never changes. But a roll begins a new segment, retention and deletion
remove some, and compaction replaces some by a copy. A copy of a whole log is coherent if every segment that was listed
before is still the same file after it was read, and none but the last is gone. Then no compaction or removal came in
between, because both change which file has a segment's name. A file is identified by its device and inode. The `.log` file
of a segment is the first to be removed and the last to be put in place. So if a segment's `.log` stayed, its other files
stayed too. The files of an unfinished swap (`swaps.py`) are copied as well: a start completes it.

Every batch is checked: its CRC, and that it follows the one before. Bytes that are not sound

    below the recovery point    are damage of the source. They are reported and copied as they are; the broker that starts
                                from the restored log reports them too
    above it                    end the log's copy. They are an append in progress, or a torn end after a crash; what was
                                acknowledged after them is in the journal
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from crc32c import crc32c

from headwater.effects.files import File, Files
from headwater.effects.work import Steps
from headwater.protocol.errors import ProtocolError
from headwater.protocol.records import HEADER_BYTES, BatchHeader, check_batch, read_header
from headwater.storage.backup_repository import (
    IN_MANIFEST_BYTES_MAX,
    PIECE_BYTES,
    BackupError,
    Piece,
    Repository,
    StoredFile,
)
from headwater.storage.checkpoints import PARTITION_METADATA, read_topic_id
from headwater.storage.index import ABORTED_ENTRY, OFFSET_ENTRY_BYTES, TIME_ENTRY, TransactionIndex, load_file
from headwater.storage.segment import SEGMENT_SUFFIXES, segment_name
from headwater.storage.soundness import can_be_batch
from headwater.storage.sums import SegmentSums, read_sums

READ_BYTES = 1 << 20
SMALL_PIECE_BYTES = (
    256 * 1024
)  # if the last piece of a file is at most this large, it is stored again together with what the file gains
TRIES_MAX = 10
LOG_FILE = re.compile(r"(?P<base>[0-9]{20})\.log")
SWAPPED_LOG = re.compile(r"[0-9]{20}\.log\.swap")
SNAPSHOT_FILE = re.compile(r"(?P<offset>[0-9]{20})\.snapshot")
KEPT_AS_IT_IS = re.compile(r"[0-9]{20}\.((log|index|timeindex|txnindex|sums)\.swap|log\.aside[0-9]*)")
OTHER_FILES = (PARTITION_METADATA, "leader-epoch-checkpoint")


class Identity(NamedTuple):
    """Identifies the file that has a certain name."""

    device: int
    inode: int


@dataclass(slots=True)
class SegmentCopy:
    """One segment: its files, the `.log` first. `is_short`: the source has more, which is not sound or was not asked for."""

    base_offset: int
    identity: Identity
    files: list[StoredFile]
    is_short: bool

    @property
    def log(self) -> StoredFile:
        return self.files[0]

    @property
    def end_offset(self) -> int:
        return self.files[0].end_offset


@dataclass(slots=True)
class LogCopy:
    """One log. `snapshots` has all that were seen, by offset; `floor` is where the log ends if it has no segments."""

    name: str
    topic_id: bytes | None
    segments: list[SegmentCopy] = field(default_factory=list)
    others: list[StoredFile] = field(default_factory=list)
    snapshots: dict[int, StoredFile] = field(default_factory=dict)
    floor: int = 0

    @property
    def end_offset(self) -> int:
        return self.segments[-1].end_offset if self.segments else self.floor


class Walk:
    """Checks a segment's bytes batch by batch, as they are read, up to where they are sound."""

    def __init__(self, path: str, position: int, expected: int, size: int, point: int, limit: int | None) -> None:
        self.path = path
        self.position = position  # up to here the bytes are sound
        self.expected = expected  # the offset of the next batch
        self.size = size
        self.point = point
        self.limit = limit
        self.is_over = False
        self.damages: list[str] = []

    def advance(self, buffer: bytearray, buffer_at: int) -> None:
        """Continues with the bytes in the buffer, which begins at `buffer_at` of the file."""
        while not self.is_over and self.position < self.size:
            if self.limit is not None and self.expected >= self.limit:
                break
            at = self.position - buffer_at
            if len(buffer) - at < HEADER_BYTES:
                if self.size - self.position >= HEADER_BYTES:
                    return  # more bytes are needed
                self.unsound(self.size - self.position)
                continue
            header = read_header(buffer, at)
            if not can_be_batch(header, self.size - self.position):
                self.unsound(self.size - self.position)
                continue
            if len(buffer) - at < header.size_bytes:
                return
            if not self.is_sound(header, buffer, at):
                self.unsound(header.size_bytes)
                continue
            if self.limit is not None and header.base_offset >= self.limit:
                break
            self.position += header.size_bytes
            self.expected = header.next_offset
        self.is_over = True

    def is_sound(self, header: BatchHeader, buffer: bytearray, at: int) -> bool:
        if header.base_offset < self.expected or header.last_offset_delta < 0:
            return False
        if self.limit is not None and header.base_offset < self.limit < header.next_offset:
            return False
        batch = memoryview(buffer)[at : at + header.size_bytes]
        try:
            check_batch(batch)
        except ProtocolError:
            return False
        finally:
            batch.release()
        return True

    def unsound(self, size: int) -> None:
        """Handles bytes that are not a sound batch."""
        if self.expected >= self.point:
            self.is_over = True
            return
        self.damages.append(
            f"{self.path} is damaged at byte {self.position}: the batch of offset {self.expected} is not sound"
        )
        self.position += size


class LogReader:
    """Copies logs of a data directory into a repository. `earlier` has the files of the previous backup, by path."""

    def __init__(self, source: Files, directory: str, repository: Repository, earlier: dict[str, StoredFile]) -> None:
        self.source = source
        self.directory = directory
        self.repository = repository
        self.earlier = earlier
        self.read_bytes = 0

    # -- whole logs

    def listing(self, name: str) -> dict[str, Identity]:
        """The `.log` files of a log, including swapped ones, and their identities. Raises FileNotFoundError."""
        found = {}
        for entry in self.source.list_directory(f"{self.directory}/{name}"):
            if LOG_FILE.fullmatch(entry) or SWAPPED_LOG.fullmatch(entry):
                device, inode, *_ = self.source.stamp(f"{self.directory}/{name}/{entry}")
                found[entry] = Identity(device, inode)
        return found

    def copy(self, name: str, point: int, held: LogCopy | None) -> Steps[LogCopy | None]:
        """A coherent copy of everything in a log; None if the log does not exist, or keeps changing.

        `held` is an earlier copy of this run.
        """
        for _ in range(TRIES_MAX):
            try:
                copy = yield from self.try_copy(name, point, held)
            except (FileNotFoundError, NotADirectoryError):
                yield
                if not self.source.exists(f"{self.directory}/{name}"):
                    return None
                continue
            if copy is not None:
                return copy
        return None

    def try_copy(self, name: str, point: int, held: LogCopy | None) -> Steps[LogCopy | None]:
        before = self.listing(name)
        copy = yield from self.other_files(name, held)
        if held is not None and held.topic_id != copy.topic_id:
            held = None
        held_segments = {segment.base_offset: segment for segment in held.segments} if held is not None else {}
        for base in bases(before):
            copy.segments.append((yield from self.segment(name, base, point, None, held_segments.get(base))))
        after = self.listing(name)
        for segment in copy.segments:
            if after.get(f"{segment_name(segment.base_offset)}.log") != segment.identity:
                return None
        last = max(bases(before), default=-1)
        stayed = all(after.get(entry) == identity for entry, identity in before.items())
        are_at_end = all(bases([entry]) > [last] for entry in after if entry not in before)
        return copy if stayed and are_at_end else None

    def other_files(self, name: str, held: LogCopy | None) -> Steps[LogCopy]:
        path = f"{self.directory}/{name}"
        copy = LogCopy(name, read_topic_id(self.source, path)[0])
        if held is not None and held.topic_id == copy.topic_id:
            copy.snapshots.update(held.snapshots)
        yield
        for entry in self.source.list_directory(path):
            snapshot = SNAPSHOT_FILE.fullmatch(entry)
            if entry not in OTHER_FILES and not KEPT_AS_IT_IS.fullmatch(entry) and snapshot is None:
                continue
            try:
                file = yield from self.file(f"{name}/{entry}")
            except FileNotFoundError:
                if snapshot is not None:  # only the newest one stays
                    continue
                raise
            if snapshot is not None:
                copy.snapshots[int(snapshot["offset"])] = file
            else:
                copy.others.append(file)
        return copy

    def rest(self, held: LogCopy | None, name: str, cut: int, point: int, start: int) -> Steps[LogCopy | None]:
        """A log up to `cut`: what was copied before the cut was made, and what was appended since.

        None if a removal or a compaction came in between: the cut must be made again. A log that was not copied before may
        have one segment, which begins at its start: then it cannot have been compacted, and nothing was removed.
        """
        if held is not None and (whole := trim(held, cut, point, start)).end_offset == cut:
            return whole
        try:
            before = self.listing(name)
            if held is not None and not held.segments and not before:
                return trim(held, cut, point, start)  # a power cut has emptied all segments
            if held is None or not held.segments:
                if len(before) != 1 or bases(before) > [start]:
                    return None
                copy = yield from self.other_files(name, None)
                first = bases(before)[0]
                kept: list[SegmentCopy] = []
            else:
                copy = LogCopy(name, held.topic_id, [], held.others, held.snapshots)
                kept, first = held.segments, held.segments[-1].base_offset
            held_segments = {segment.base_offset: segment for segment in kept}
            wanted = sorted({*held_segments, *(base for base in bases(before) if base >= first)})
            for base in (base for base in wanted if base <= cut):
                known = held_segments.get(base)
                if known is not None and base != first and known.end_offset <= cut and not known.is_short:
                    copy.segments.append(known)
                    continue
                segment = yield from self.segment(name, base, point, cut, known)
                if known is not None and segment.identity != known.identity:
                    return None
                copy.segments.append(segment)
            after = self.listing(name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if after.get(f"{segment_name(first)}.log") != before.get(f"{segment_name(first)}.log"):
            return None
        return None if held is None and len(after) != 1 else trim(copy, cut, point, start)

    # -- one segment

    def segment(
        self, name: str, base: int, point: int, limit: int | None, held: SegmentCopy | None
    ) -> Steps[SegmentCopy]:
        """A segment's files, up to the first batch at or after `limit`. Raises FileNotFoundError if it is gone."""
        relative = f"{name}/{segment_name(base)}"
        path = f"{self.directory}/{relative}"
        stamps = self.segment_stamps(path)
        identity = Identity(*stamps[0][:2])
        earlier = held.log if held is not None else self.earlier.get(relative + ".log")
        if earlier is not None and earlier.stamps and self.is_reusable(earlier, stamps[0], limit):
            log, is_short = earlier, False
            files = held.files if held is not None else self.earlier_files(relative)
            if earlier.stamps == stamps and all(self.repository.has_all(file) for file in files):
                return SegmentCopy(base, identity, files, is_short)
            damages = list(log.damages)
            log = StoredFile(log.path, log.size, log.pieces, log.content, stamps, log.end_offset, damages)
        else:
            resumed = held if held is not None and held.identity == identity else None
            log, is_short = yield from self.log_file(relative, base, point, limit, resumed)
            log.stamps = stamps if self.segment_stamps(path) == stamps and not is_short else []
        files = yield from self.aids(relative, log)
        return SegmentCopy(base, identity, files, is_short)

    def segment_stamps(self, path: str) -> list[list[int]]:
        """The state of a segment's files. Raises FileNotFoundError if it has no log."""
        stamps = [list(self.source.stamp(path + ".log"))]
        for suffix in SEGMENT_SUFFIXES[1:]:
            try:
                stamps.append(list(self.source.stamp(path + suffix)))
            except FileNotFoundError:
                stamps.append([])
        return stamps

    def is_reusable(self, earlier: StoredFile, stamp: list[int], limit: int | None) -> bool:
        is_same = earlier.stamps[0] == stamp and earlier.size == stamp[2]
        return is_same and (limit is None or earlier.end_offset <= limit) and self.repository.has_all(earlier)

    def earlier_files(self, relative: str) -> list[StoredFile]:
        found = (self.earlier.get(relative + suffix) for suffix in SEGMENT_SUFFIXES)
        return [file for file in found if file is not None]

    def log_file(
        self, relative: str, base: int, point: int, limit: int | None, held: SegmentCopy | None
    ) -> Steps[tuple[StoredFile, bool]]:
        """The `.log` file, and whether the source has more. Bytes of the same file that this run has already read are not
        read again."""
        path = f"{self.directory}/{relative}.log"
        pieces: list[Piece] = []
        earlier = held.log if held is not None else self.earlier.get(relative + ".log")
        file = self.source.open(path)
        try:
            size = file.size()
            walk = Walk(path, 0, base, size, point, limit)
            can_resume = held is not None and not held.log.damages and (limit is None or held.end_offset <= limit)
            if held is not None and can_resume and held.log.content is None and held.log.size <= size:
                pieces = list(held.log.pieces)
                if pieces and pieces[-1].size < SMALL_PIECE_BYTES:
                    pieces.pop()
                walk.position, walk.expected = held.log.size, held.end_offset
                sizes: list[int] = []
            else:
                sizes = piece_sizes(earlier.pieces if earlier is not None else ())
            stored = yield from self.store(file, walk, sizes, pieces, sum(piece.size for piece in pieces))
        finally:
            file.close()
        stored.path, stored.end_offset, stored.damages = f"{relative}.log", walk.expected, walk.damages
        return stored, walk.position < size

    def store(self, file: File, walk: Walk, sizes: list[int], pieces: list[Piece], start: int) -> Steps[StoredFile]:
        """Reads from `start` and stores pieces, up to where the walk ends."""
        buffer = bytearray()
        while not walk.is_over or start + len(buffer) < walk.position:
            read_at = start + len(buffer)
            data = self.read(file, min(READ_BYTES, walk.size - read_at), read_at, walk.path)
            if not data and read_at < walk.size:  # it was truncated meanwhile
                walk.size, walk.position = read_at, min(walk.position, read_at)
            buffer += data
            walk.advance(buffer, start)
            yield
            while True:
                size = sizes[0] if sizes else PIECE_BYTES
                if min(walk.position - start, len(buffer)) < size:
                    break
                pieces.append(self.repository.put(bytes(buffer[:size])))
                del buffer[:size]
                start += size
                del sizes[:1]
                yield
        rest = bytes(buffer[: walk.position - start])
        if not pieces and len(rest) <= IN_MANIFEST_BYTES_MAX:
            return StoredFile("", len(rest), content=rest)
        if rest:
            pieces.append(self.repository.put(rest))
        return StoredFile("", walk.position, pieces)

    def read(self, file: File, size: int, position: int, path: str) -> bytes:
        try:
            data = file.read(size, position)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise BackupError(f"{path} cannot be read at byte {position}: {error.strerror}") from error
        self.read_bytes += len(data)
        return data

    def aids(self, relative: str, log: StoredFile) -> Steps[list[StoredFile]]:
        """The `.log` file with its other files, as far as they describe the same bytes. A start builds the rest."""
        path, files = f"{self.directory}/{relative}", [log]
        sums = read_sums(self.source, path)
        yield
        aborted = load_file(self.source, path + ".txnindex")
        if (
            sums is not None
            and crc32c((aborted or b"")[: sums.aborted_entries * ABORTED_ENTRY.size]) != sums.aborted_crc
        ):
            note(
                log.damages, f"{path}.txnindex is damaged"
            )  # these sums let a start notice the damage, and rebuild the file
        elif aborted is not None:
            aborted = aborted_before(aborted, log.end_offset)
        if aborted:
            files.append(self.store_file(f"{relative}.txnindex", aborted))
        if sums is None:
            return files
        size_now = self.source.stamp(path + ".log")[2]
        if sums.size > size_now:
            note(log.damages, f"{path}.log has {size_now} bytes, but had {sums.size} at a checkpoint")
        elif sums.size > log.size:
            return files
        files.append(self.store_file(f"{relative}.sums", sums.content()))
        for suffix, content in (yield from self.indexes(path, sums)):
            files.append(self.store_file(f"{relative}{suffix}", content))
        return files

    def indexes(self, path: str, sums: SegmentSums) -> Steps[list[tuple[str, bytes]]]:
        """Both indexes, as far as the sums vouch for them; none if they do not vouch for one."""
        found = []
        for suffix, size, crc in (
            (".index", sums.index_entries * OFFSET_ENTRY_BYTES, sums.index_crc),
            (".timeindex", sums.time_entries * TIME_ENTRY.size, sums.time_crc),
        ):
            content = load_file(self.source, path + suffix)
            yield
            if content is None or crc32c(content[:size]) != crc:
                return []
            found.append((suffix, content[:size]))
        return found

    # -- other files

    def file(self, relative: str) -> Steps[StoredFile]:
        """Stores a file as it is. Raises FileNotFoundError and BackupError."""
        path = f"{self.directory}/{relative}"
        file = self.source.open(path)
        try:
            return (yield from self.stored_file(relative, file, file.size(), path))
        finally:
            file.close()

    def stored_file(self, relative: str, file: File, size: int, path: str) -> Steps[StoredFile]:
        """Stores the first bytes of an open file in the backup. Raises BackupError."""
        pieces: list[Piece] = []
        while True:
            at = sum(piece.size for piece in pieces)
            content = self.read(file, min(PIECE_BYTES, size - at), at, path)
            yield
            if not pieces and len(content) < PIECE_BYTES:
                return self.store_file(relative, content)
            if content:
                pieces.append(self.repository.put(content))
            if len(content) < PIECE_BYTES:
                return StoredFile(relative, at + len(content), pieces)

    def store_file(self, relative: str, content: bytes) -> StoredFile:
        """Stores content as a file of the backup."""
        if len(content) <= IN_MANIFEST_BYTES_MAX:
            return StoredFile(relative, len(content), content=content)
        parts = (content[at : at + PIECE_BYTES] for at in range(0, len(content), PIECE_BYTES))
        return StoredFile(relative, len(content), [self.repository.put(part) for part in parts])


def note(damages: list[str], text: str) -> None:
    if text not in damages:
        damages.append(text)


def bases(names: Iterable[str]) -> list[int]:
    """The base offsets of the segments among these names, in order."""
    return sorted(int(match["base"]) for match in map(LOG_FILE.fullmatch, names) if match is not None)


def piece_sizes(pieces: Iterable[Piece]) -> list[int]:
    """Where to cut a file into pieces: unchanged content is cut as in the previous backup."""
    sizes = [piece.size for piece in pieces]
    return sizes[:-1] if sizes and sizes[-1] < SMALL_PIECE_BYTES else sizes


def trim(copy: LogCopy, cut: int, point: int, start: int) -> LogCopy:
    """The copy, up to the first gap between its segments. What comes after the gap must come from the journal.

    Below the recovery point a gap was left by a compaction, or is damage, which the restored broker reports. Above it a
    power cut has lost segments, or their ends.
    """
    kept: list[SegmentCopy] = []
    expected, is_short = start, False
    for segment in copy.segments:
        if segment.base_offset > cut or is_short or (segment.base_offset > expected and segment.base_offset > point):
            break
        kept.append(segment)
        expected, is_short = segment.end_offset, segment.is_short
    return LogCopy(copy.name, copy.topic_id, kept, copy.others, copy.snapshots, max(start, point))


def aborted_before(content: bytes, end_offset: int) -> bytes:
    """The entries of a `.txnindex` whose markers lie below an offset; all of it if it cannot be read."""
    index = TransactionIndex()
    if not index.load(content):
        return content
    index.truncate(end_offset)
    return content[: len(index) * ABORTED_ENTRY.size]
