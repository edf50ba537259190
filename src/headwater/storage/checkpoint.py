"""A checkpoint makes the logs themselves durable, so that the part of the journal that covers them can be reused.

It runs in a thread of its own, while the owner's thread keeps appending, rolling and deleting. It opens files by path: a
file that is gone was removed by retention or with its topic, and needs no sync. What it writes are aids, which only save
work at the next start. So if one cannot be written, the broker continues. But an aid in the wrong place would be believed.
That happens when a new topic gets a deleted one's name, or when a compaction replaces the segment that the aid is about.
So a deletion and a compaction call `leave_out` before the name is free.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from headwater.effects.files import Files, replace_file
from headwater.effects.logs import get_logger
from headwater.storage.checkpoints import COPY_SUFFIX, RECOVERY_POINTS, remove_old_snapshots, write_offsets
from headwater.storage.epochs import EPOCHS_FILE
from headwater.storage.journal_file import JournalFile
from headwater.storage.log import Log
from headwater.storage.segment import Segment, base_offset_of, write_at
from headwater.storage.sums import SUMS_SUFFIX

logger = get_logger(__name__)

TEMPORARY_SUFFIX = ".checkpoint.tmp"  # a roll may write a snapshot with the same name meanwhile


@dataclass(slots=True)
class Checkpoint:
    """See the module's docstring. `run` may be called in another thread, and so may `leave_out` while it runs."""

    files: Files
    directory: str
    recovery_points: dict[tuple[bytes, int], int]
    writes: list[tuple[str, int, bytes]] = field(default_factory=list)  # index entries
    snapshots: list[tuple[str, bytes]] = field(default_factory=list)
    sums: list[tuple[str, bytes]] = field(default_factory=list)
    aids: list[str] = field(default_factory=list)  # complete indexes, to be synced once
    paths: list[str] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)
    advanced: list[tuple[Log, int, set[Segment]]] = field(default_factory=list)
    full_files: list[JournalFile] = field(default_factory=list)
    gone: set[str] = field(
        default_factory=set
    )  # directories of logs, and segments, that were removed or replaced meanwhile
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, log: Log) -> None:
        """Includes the present content of a log, which its owner may then treat as synced."""
        if log.segments:
            self.writes += log.segments[-1].index_writes()
        if log.names_unsynced:  # first: whatever has content on disk then says which topic it belongs to
            names = ("partition.metadata", EPOCHS_FILE, EPOCHS_FILE + COPY_SUFFIX)
            self.paths += [f"{log.directory}/{name}" for name in names]
            self.directories.append(log.directory)
        for segment in sorted(log.unsynced_segments, key=base_offset_of):
            self.paths.append(segment.path + ".log")
            if segment.aborted_changed:
                self.paths.append(segment.path + ".txnindex")
                segment.aborted_changed = False
            if segment is not log.segments[-1]:  # a sealed segment: nothing writes these files again
                self.aids += [segment.path + ".index", segment.path + ".timeindex"]
            if segment.sums is not None:
                self.sums.append((segment.path + SUMS_SUFFIX, segment.sums.content()))
        self.snapshots.append(log.snapshot_file())
        self.advanced.append((log, log.end_offset, log.unsynced_segments))
        log.unsynced_segments, log.names_unsynced = set(), False
        self.recovery_points[log.topic_id, log.partition] = log.end_offset

    def run(self) -> None:
        """Runs all steps. If it raises OSError, nothing may be treated as synced."""
        for _ in self.steps():
            pass

    def steps(self) -> Iterator[None]:
        """As `run`, one file at a time: the owner's thread may do anything in between."""
        yield from self.write_aids()
        for path in self.paths:
            with contextlib.suppress(FileNotFoundError):  # removed by retention or with its topic meanwhile
                self.files.sync_path(path)
            yield
        for directory in self.directories:
            with contextlib.suppress(FileNotFoundError):
                self.files.sync_directory(directory)
            yield
        if self.directories:
            self.files.sync_directory(self.directory)
            yield
        write_offsets(self.files, f"{self.directory}/{RECOVERY_POINTS}", self.recovery_points)
        yield
        for file in self.full_files:
            file.erase()
            yield
        for path, content in self.sums:  # sums say that what they describe was synced
            self.write_aid(path, partial(write_at, self.files, path, 0, content))
            yield

    def leave_out(self, path: str) -> None:
        """Stops writing aids for this directory or segment; one that is being written is finished first."""
        with self.lock:
            self.gone.add(path)

    def write_aids(self) -> Iterator[None]:
        """Writes index entries and producer snapshots. If one cannot be written, a warning is logged."""
        for path, position, data in self.writes:
            self.write_aid(path, partial(write_at, self.files, path, position, data))
            yield
        for path, content in self.snapshots:
            self.write_aid(path, partial(self.write_snapshot, path, content))
            yield
        for path in self.aids:
            try:
                self.files.sync_path(path)
            except FileNotFoundError:
                pass
            except OSError as error:  # if a part of it is lost, its segment's sums will not match
                logger.warning("%s could not be synced: %s", path, error.strerror)
            yield

    def write_aid(self, path: str, write: Callable[[], None]) -> None:
        with self.lock:
            if path.rpartition("/")[0] in self.gone or path.rpartition(".")[0] in self.gone:
                return
            try:
                write()
            except OSError as error:
                logger.warning("%s could not be written, so the next start has to rebuild it: %s", path, error.strerror)

    def write_snapshot(self, path: str, content: bytes) -> None:
        replace_file(self.files, path, content, sync=False, suffix=TEMPORARY_SUFFIX)
        remove_old_snapshots(self.files, path.rpartition("/")[0])
