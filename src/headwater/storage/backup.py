"""A backup of a data directory, taken with or without a running broker: it only reads, and needs no help from the broker.

A backup shows one moment, the cut (`backup_cut.py`): of each log, everything that had been appended until then. That is
what a crash at this moment would have left, so a broker can start from it. It includes everything that was acknowledged
before the backup began. Nothing is copied at the moment of the cut itself: what lies below it no longer changes. It can
only be removed, or be replaced by a compaction. So the order is

    1. every log is copied as it is (`backup_logs.py`); what has grown meanwhile is copied again, until little is left
    2. the cut is made
    3. the rest of every log is copied, up to the cut. A compaction must have run before the cut: one that ran after it may
       have removed a record in favour of one beyond the cut. The same holds for a removal, because the coordinators'
       topics are shortened after their state was written again, possibly beyond the cut. If step 3 meets either of
       them, the round begins again. What was copied stays, so each round is shorter
    4. the metadata log is copied, to its end. It may be newer than the rest: a topic that was deleted after the cut has
       no files left, and the metadata must say so. It is never older than what it describes

The batches that step 1 finds in the segments may not be in the journal yet. So the cut is repeated until the journal has
them. If it never does, nothing is journaled there: either `durability=page-cache` is set, or the disk is full and the
broker syncs the logs instead. Then the segments themselves say where their logs end.

After a crash, some batches are only in the journal. They go into a journal of the backup. Otherwise that journal is empty,
because every log is whole up to its recovery point in the backup, which is the cut. The backup does not record a clean
stop: it has no `.kafka_cleanshutdown` and no broker epoch. So the restored broker begins a new leader epoch, from which
clients that have read beyond the cut notice that the log was reset.

Not copied: stray logs, directories of deleted topics, files that are not the broker's, and temporary files.
"""

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TypeAlias

from headwater.effects.clock import Clock
from headwater.effects.files import Files
from headwater.effects.work import Steps
from headwater.protocol.records import read_header
from headwater.storage.backup_cut import Cut, JournalCopy, Key, make_cut
from headwater.storage.backup_logs import LogCopy, LogReader, bases, trim
from headwater.storage.backup_repository import BackupError, Manifest, Repository, StoredFile
from headwater.storage.checkpoints import (
    CLEAN_OFFSETS,
    COPY_SUFFIX,
    LOG_STARTS,
    PARTITION_METADATA,
    RECOVERY_POINTS,
    offsets_content,
    read_meta,
    read_offsets,
    read_topic_id,
)
from headwater.storage.directories import LOG_DIRECTORY
from headwater.storage.journal import FILES_MAX
from headwater.storage.journal_entries import FILE_HEADER_BYTES, JournalDamage, entry_header, sync_mark
from headwater.storage.journal_file import JournalFile
from headwater.storage.recovery import OFFSET_MAX
from headwater.storage.rescued import RESCUED_FILE

METADATA_DIRECTORY = "__cluster_metadata-0"
METADATA_KEY = bytes(15) + b"\x01", 0
STATE_TOPICS = re.compile(r"__(transaction_state|consumer_offsets)-[0-9]+")  # copied first, because they are shortened
ROUNDS_MAX = 100
CATCH_UP_TRIES = 6
COPIES_MAX = 4  # of all logs, per round
LITTLE_BYTES = 32 << 20
GROUP_BYTES = 1 << 20
REMAINDER_GENERATION = 1 << 32 | 1

Topics: TypeAlias = dict[bytes, str]
FindTopics: TypeAlias = Callable[[Iterable[bytes]], Topics]
"""The topics that exist, by id, from the batches of the metadata log."""


@dataclass(slots=True)
class Copies:
    """The result of a round: the logs up to the cut, and the metadata log."""

    cut: Cut
    clean_offsets: dict[Key, int]
    rescued: list[StoredFile]
    logs: dict[Key, LogCopy]
    unknown: list[LogCopy]  # logs that do not say which topic they belong to
    remainder: StoredFile | None = None
    damages: list[str] = field(default_factory=list)


class Backup:
    """See the module's docstring. `steps` makes a backup. While `wants_pause` is set, the caller pauses before the next step."""

    def __init__(
        self, source: Files, directory: str, repository: Repository, clock: Clock, find_topics: FindTopics
    ) -> None:
        self.source = source
        self.directory = directory
        self.repository = repository
        self.clock = clock
        self.find_topics = find_topics
        self.wants_pause = False
        self.rounds = 0
        newest = repository.newest()
        earlier = {file.path: file for file in newest.files} if newest is not None else {}
        self.reader = LogReader(source, directory, repository, earlier)
        self.journal = JournalCopy(source, directory, repository.files, f"{repository.path}/scratch")
        self.held: dict[str, LogCopy] = {}

    def steps(self) -> Steps[Manifest]:
        """Makes the backup. If it raises BackupError, FormatError or OSError, no backup was made."""
        started_ms, started = self.clock.wall_ms(), self.clock.steady_ms()
        meta = read_meta(self.source, self.directory)
        if meta is None:
            raise BackupError(f"{self.directory} is not a data directory: it has no meta.properties")
        manifest = Manifest(self.new_id(started_ms), started_ms, self.directory, meta["cluster.id"])
        for _ in range(ROUNDS_MAX):
            self.rounds += 1
            copies = yield from self.round()
            if copies is not None:
                break
            self.wants_pause = True
            yield
        else:
            raise BackupError(
                f"{self.directory}: compaction and deletion change the logs faster than they can be copied; gave up after "
                f"{ROUNDS_MAX} rounds. Try again when the broker has less to do"
            )
        yield from self.fill(manifest, copies)
        manifest.new_bytes = sum(piece.size for piece in manifest.pieces & self.repository.new)
        manifest.duration_ms = int(self.clock.steady_ms() - started)
        self.repository.commit(manifest)
        return manifest

    def new_id(self, now_ms: int) -> str:
        """An id that sorts after all existing ones, even if the clock was set back."""
        name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_ms / 1000))
        newest = max(self.repository.backup_ids(), default="")
        return name if name > newest else f"{newest}-1"

    # -- a round

    def round(self) -> Steps[Copies | None]:
        """None if the cut has to be made again."""
        clean_offsets = read_offsets(self.source, f"{self.directory}/{CLEAN_OFFSETS}").offsets
        rescued = yield from self.rescued_files()
        for _ in range(COPIES_MAX):
            read_bytes = self.reader.read_bytes
            yield from self.copy_logs()
            if self.reader.read_bytes - read_bytes < LITTLE_BYTES:
                break
        cut = yield from self.cut()
        if cut is None:
            return None
        copies = Copies(cut, clean_offsets, rescued, {}, [], damages=list(cut.damages))
        if not (yield from self.copy_rest(copies)):
            return None
        metadata = yield from self.copy_metadata(cut)
        if metadata is None:
            return None
        copies.logs[METADATA_KEY] = metadata
        return copies

    def key(self, copy: LogCopy) -> Key:
        if copy.name == METADATA_DIRECTORY:
            return METADATA_KEY
        return copy.topic_id or b"", int(copy.name.rpartition("-")[2])

    def log_names(self) -> list[str]:
        """The directories of all logs except the metadata log; those of the coordinators come first."""
        names = [name for name in self.source.list_directory(self.directory) if LOG_DIRECTORY.fullmatch(name)]
        return sorted((n for n in names if n != METADATA_DIRECTORY), key=lambda n: (not STATE_TOPICS.fullmatch(n), n))

    def names_in(self, name: str) -> list[str]:
        try:
            return self.source.list_directory(f"{self.directory}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            return []

    def rescued_files(self) -> Steps[list[StoredFile]]:
        found = []
        for name in self.names_in("journal"):
            if RESCUED_FILE.fullmatch(name):
                try:
                    found.append((yield from self.reader.file(f"journal/{name}")))
                except FileNotFoundError:  # its batches are in the log by now
                    continue
        return found

    def copy_logs(self) -> Steps[None]:
        """Step 1. Logs that change too often are left to the next round."""
        points = read_offsets(self.source, f"{self.directory}/{RECOVERY_POINTS}").offsets
        held = {}
        for name in self.log_names():
            content = self.names_in(name)
            if PARTITION_METADATA not in content and not bases(content):
                continue
            topic_id, _ = read_topic_id(self.source, f"{self.directory}/{name}")
            yield
            point = points.get((topic_id or b"", int(name.rpartition("-")[2])), 0)
            copy = yield from self.reader.copy(name, point, self.held.get(name))
            if copy is not None:
                held[name] = copy
        self.held = held

    def cut(self) -> Steps[Cut | None]:
        """Step 2, with the ends that the segments had before."""
        ends = {self.key(copy): copy.end_offset for copy in self.held.values() if copy.topic_id is not None}
        for tries_left in reversed(range(CATCH_UP_TRIES)):
            cut = yield from make_cut(self.source, self.directory, self.journal)
            if cut is None:
                return None
            ahead = {key: end for key, end in ends.items() if end > cut.ends.get(key, 0)}
            if not ahead or not tries_left:
                cut.ends.update(ahead)
                return cut
            self.wants_pause = True
            yield
        return None

    def copy_rest(self, copies: Copies) -> Steps[bool]:
        """Step 3. False if the cut has to be made again."""
        cut = copies.cut
        for name in self.log_names():
            topic_id, _ = read_topic_id(self.source, f"{self.directory}/{name}")
            yield
            held = self.held.get(name)
            if held is not None and held.topic_id is None and topic_id is None:
                copies.unknown.append(held)
                continue
            if held is not None and held.topic_id != topic_id:
                held = None
            key = topic_id or b"", int(name.rpartition("-")[2])
            if not cut.ends.get(key):
                continue  # none of it had been acknowledged
            copy = yield from self.reader.rest(
                held, name, cut.ends[key], cut.points.get(key, 0), cut.starts.get(key, 0)
            )
            if copy is not None:
                copies.logs[key] = copy
            elif read_topic_id(self.source, f"{self.directory}/{name}")[0] == topic_id:
                return False
        return True

    def copy_metadata(self, cut: Cut) -> Steps[LogCopy | None]:
        """Step 4. If the log is shortened meanwhile, it is copied again."""
        for _ in range(ROUNDS_MAX):
            start = self.metadata_start()
            point = read_offsets(self.source, f"{self.directory}/{RECOVERY_POINTS}").offsets.get(METADATA_KEY, 0)
            yield
            copy = yield from self.reader.copy(METADATA_DIRECTORY, point, None)
            if copy is None and not self.source.exists(f"{self.directory}/{METADATA_DIRECTORY}"):
                if point or METADATA_KEY not in cut.ends:
                    raise BackupError(
                        f"{self.directory}/{METADATA_DIRECTORY} is missing: a broker cannot start without it"
                    )
                copy = LogCopy(METADATA_DIRECTORY, METADATA_KEY[0])  # after a power cut: the journal has all of it
            is_whole = copy is not None and bool(copy.segments) and copy.segments[0].base_offset <= start
            if copy is not None and (is_whole or self.metadata_start() == start):
                cut.starts[METADATA_KEY] = start
                return trim(copy, OFFSET_MAX, point, start)
        return None

    def metadata_start(self) -> int:
        return read_offsets(self.source, f"{self.directory}/{LOG_STARTS}").offsets.get(METADATA_KEY, 0)

    # the manifest

    def fill(self, manifest: Manifest, copies: Copies) -> Steps[None]:
        """Puts the files of a round into the manifest."""
        topics = self.topics(copies)
        self.assign_unknown(copies, topics)
        points = yield from self.recovery_points(copies, topics)
        manifest.files.append((yield from self.reader.file("meta.properties")))
        starts = {key: min(copies.cut.starts.get(key, 0), point) for key, point in points.items()}
        clean = {key: min(offset, points[key]) for key, offset in copies.clean_offsets.items() if key in points}
        for name, offsets in ((RECOVERY_POINTS, points), (LOG_STARTS, starts), (CLEAN_OFFSETS, clean)):
            for path in (name, name + COPY_SUFFIX):
                manifest.files.append(self.reader.store_file(path, offsets_content(offsets)))
        remainder = copies.remainder or StoredFile("journal/0.journal", 0, content=b"")
        empty = [StoredFile(f"journal/{number}.journal", 0, content=b"") for number in range(1, FILES_MAX)]
        manifest.files += [remainder, *empty, *copies.rescued]
        for key, copy in copies.logs.items():
            manifest.files += files_of(copy, starts[key], points[key])
        for file in manifest.files:
            copies.damages += file.damages
        manifest.damages = copies.damages

    def assign_unknown(self, copies: Copies, topics: Topics) -> None:
        """Assigns logs that do not say which topic they belong to by their names, as a start does.

        If no checkpoint has covered a log, a power cut may have emptied the file that says it. Otherwise that file is
        damaged.
        """
        cut, ids = copies.cut, {name: topic_id for topic_id, name in topics.items()}
        for copy in copies.unknown:
            topic, _, number = copy.name.rpartition("-")
            key = ids.get(topic, b""), int(number)
            point = cut.points.get(key, 0)
            if key in cut.ends and key not in copies.logs:
                copies.logs[key] = trim(copy, OFFSET_MAX, point, cut.starts.get(key, 0))
            if point or key not in copies.logs:
                kept = "" if key in copies.logs else ", and no topic has its name, so it is not copied"
                copies.damages.append(f"{self.directory}/{copy.name}/{PARTITION_METADATA} is damaged or missing{kept}")

    def recovery_points(self, copies: Copies, topics: Topics) -> Steps[dict[Key, int]]:
        """Up to where every log is whole in the backup. Batches that only the journal has become the remainder.

        If a log has no files, only what a checkpoint has synced is missing: the journal has what came after.
        """
        cut, names = copies.cut, {key: copy.name for key, copy in copies.logs.items()}
        ends = {key: copy.end_offset for key, copy in copies.logs.items()}
        for key in cut.ends.keys() - ends.keys():
            if key[0] not in topics:
                continue  # its topic was deleted
            names[key] = f"{topics[key[0]]}-{key[1]}"
            start, point = cut.starts.get(key, 0), cut.points.get(key, 0)
            ends[key] = max(start, point)
            if point > start:
                path = f"{self.directory}/{names[key]}"
                copies.damages.append(f"{path} is missing; it held offsets {start} to {point - 1}")
        points = {key: max(end, cut.ends.get(key, 0)) for key, end in ends.items()}
        short = {key: end for key, end in ends.items() if end < points[key]}
        reached = (yield from self.write_remainder(copies, short)) if short else {}
        for key, end in short.items():
            if reached[key] >= points[key]:
                points[key] = end
            else:
                text = (
                    f"{self.directory}/{names[key]} ends at offset {reached[key]}, but should reach {points[key] - 1}"
                )
                copies.damages.append(text)
        return points

    def write_remainder(self, copies: Copies, ends: dict[Key, int]) -> Steps[dict[Key, int]]:
        """Puts the batches after these ends into the backup's journal; returns the offset up to which it has them."""
        path = f"{self.repository.path}/scratch/remainder"
        target = self.repository.files.open(path, create=True)
        target.truncate(0)
        target.close()
        file = JournalFile(self.repository.files, path, fill_step_bytes=FILE_HEADER_BYTES)
        file.start(REMAINDER_GENERATION)
        reached, buffers, number = dict(ends), [b""], 0
        for item in self.journal.items():
            if isinstance(item, JournalDamage) or item.base_offset != reached.get((item.topic_id, item.partition)):
                continue
            reached[item.topic_id, item.partition] = item.base_offset + read_header(item.batch).last_offset_delta + 1
            head = entry_header(REMAINDER_GENERATION, item.partition, item.topic_id, item.base_offset, item.batch)
            buffers += [head, bytes(item.batch)]
            if sum(map(len, buffers)) >= GROUP_BYTES:
                number += 1
                write_group(file, number, buffers)
                buffers.clear()
                yield
        if buffers:
            write_group(file, number + 1, buffers)
        copies.remainder = yield from self.reader.stored_file("journal/0.journal", file.file, file.position, path)
        file.file.close()
        return reached

    def topics(self, copies: Copies) -> Topics:
        """The topics that exist, according to the metadata log in the backup and the metadata batches in its journal."""
        metadata = copies.logs[METADATA_KEY]
        batches = [self.repository.read(segment.log) for segment in metadata.segments]
        at = metadata.end_offset
        for item in self.journal.items():
            if not isinstance(item, JournalDamage) and (item.topic_id, item.partition, item.base_offset) == (
                *METADATA_KEY,
                at,
            ):
                batches.append(bytes(item.batch))
                at += read_header(item.batch).last_offset_delta + 1
        return self.find_topics(batches)


def write_group(file: JournalFile, number: int, buffers: list[bytes]) -> None:
    content = b"".join(buffers)
    mark = sync_mark(REMAINDER_GENERATION, number, len(content))
    file.file.write([mark, content], file.position)
    file.position += len(mark) + len(content)


def files_of(copy: LogCopy, start: int, point: int) -> list[StoredFile]:
    """A log's files, without segments below its start, and with the newest usable snapshot of its producers."""
    segments = [
        segment
        for segment, following in zip_longest(copy.segments, copy.segments[1:])
        if following is None or following.base_offset > start
    ]
    first = segments[0].base_offset if segments else point
    snapshots = [offset for offset in copy.snapshots if first <= offset <= point]
    newest = [copy.snapshots[max(snapshots)]] if snapshots else []
    return [*copy.others, *newest, *(file for segment in segments for file in segment.files)]
