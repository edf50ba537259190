"""The moment that a backup shows: one offset per log, read from the journal of a running broker.

All appends of a broker have one order, which the journal records. A cut is a prefix of that order: it has the records of
each log up to an offset, and nothing that was appended to any log later. So it never has half of a transaction, or a
committed offset beyond the end of the log that it is about. A crash leaves such a prefix too.

    Recovery points and journal belong to one moment if no checkpoint wrote or retired anything while they were read: the
    file of the recovery points is the same before and after, and so are the headers of both journal files. If not, they
    are read again, at once.

    The cut of a log is the greater of its recovery point and the end of its last entry in the journal. Each of the two
    is a prefix of the order of appends, so the later one is. If a log has no entries, everything that was appended to
    it lies below its recovery point: an entry leaves the journal only after a checkpoint that covers it.

The journal is copied from its end to its beginning, while the broker keeps writing at its end. So whatever the copy has,
it also has everything that was written before, and it ends as a crash would leave it. An unsound place that comes before
sound entries counts as damage only if a second copy has it too.

The log start offsets are read in the same moment, before the journal. A start moves past records in the coordinators'
topics only when newer ones have replaced them, and by then those are in the journal or below the recovery points.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from headwater.effects.files import Files, read_file
from headwater.effects.work import Steps
from headwater.protocol.records import read_header
from headwater.storage.checkpoints import LOG_STARTS, RECOVERY_POINTS, read_offsets, uuid_text
from headwater.storage.journal import FILES_MAX
from headwater.storage.journal_entries import JournalDamage, JournalEntry
from headwater.storage.journal_file import FILE_HEADER, JournalFile, items_of

Key: TypeAlias = tuple[bytes, int]
COPY_BYTES = 1 << 20
TRIES_MAX = 50


@dataclass(slots=True)
class Cut:
    """See the module's docstring. `ends` has only logs that are not empty; `damages` are sentences about the journal."""

    ends: dict[Key, int]
    points: dict[Key, int]
    starts: dict[Key, int]
    points_are_known: bool
    damages: list[str] = field(default_factory=list)


class JournalCopy:
    """The journal of `source`, copied into the directory `scratch` of other files."""

    def __init__(self, source: Files, directory: str, target: Files, scratch: str) -> None:
        self.source = source
        self.directory = directory
        self.target = target
        self.scratch = scratch

    def heads(self) -> list[bytes]:
        """The headers of all files; empty for a file that is missing or not in use."""
        found = []
        for number in range(FILES_MAX):
            try:
                file = self.source.open(f"{self.directory}/journal/{number}.journal")
            except FileNotFoundError:
                found.append(b"")
                continue
            head = file.read(FILE_HEADER.size, 0)
            file.close()
            found.append(head if any(head) else b"")
        return found

    def copy(self, heads: list[bytes]) -> Steps[None]:
        """Copies the files that are in use, backwards."""
        for number, head in enumerate(heads):
            target = self.target.open(f"{self.scratch}/{number}.journal", create=True, pinned=True)
            try:
                target.truncate(0)
                if not head:
                    continue
                file = self.source.open(f"{self.directory}/journal/{number}.journal")
                size = file.size()
                for position in reversed(range(0, size, COPY_BYTES)):
                    target.write([file.read(min(COPY_BYTES, size - position), position)], position)
                    yield
                file.close()
            finally:
                target.close()

    def items(self) -> Iterator[JournalEntry | JournalDamage]:
        """The entries of the copy, oldest first, and the damage between them."""
        files = [JournalFile(self.target, f"{self.scratch}/{number}.journal") for number in range(FILES_MAX)]
        try:
            yield from items_of(files)
        finally:
            for file in files:
                file.file.close()


def checkpoint_bytes(source: Files, directory: str) -> bytes:
    try:
        return read_file(source, f"{directory}/{RECOVERY_POINTS}")
    except FileNotFoundError:
        return b""


def make_cut(source: Files, directory: str, journal: JournalCopy) -> Steps[Cut | None]:
    """The cut at this moment; None if checkpoints kept interfering."""
    seen: set[str] = set()
    for _ in range(TRIES_MAX):
        before, heads = checkpoint_bytes(source, directory), journal.heads()
        points, points_are_known = read_offsets(source, f"{directory}/{RECOVERY_POINTS}")
        starts = read_offsets(source, f"{directory}/{LOG_STARTS}").offsets
        yield
        try:
            yield from journal.copy(heads)
        except FileNotFoundError:
            continue
        if journal.heads() != heads or checkpoint_bytes(source, directory) != before:
            continue
        cut = Cut(dict(points), points, starts, points_are_known)
        damages = {}
        for item in journal.items():
            if isinstance(item, JournalDamage):
                damages[f"{item.path}:{item.position}"] = damage_text(item, directory)
                continue
            key = item.topic_id, item.partition
            end = item.base_offset + read_header(item.batch).last_offset_delta + 1
            cut.ends[key] = max(end, cut.ends.get(key, 0))
        if damages and not seen.issuperset(damages):
            seen.update(damages)
            continue
        cut.damages += damages.values()
        return cut
    return None


def damage_text(damage: JournalDamage, directory: str) -> str:
    path = f"{directory}/journal/{damage.path.rpartition('/')[2]}"
    text = f"{path} is damaged at position {damage.position} ({damage.size_bytes} bytes)"
    if damage.topic_id is None:
        return text
    return (
        f"{text}: it held offset {damage.base_offset} of partition {damage.partition} of {uuid_text(damage.topic_id)}"
    )
