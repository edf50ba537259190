"""Acknowledged batches of a damaged log, saved from the journal before it is overwritten.

A log that cannot be opened at the start cannot receive its batches from the journal. They go into a file next to the
journal, and into the log at the first start that finds it sound again, for example after it was restored from a copy.

    journal/TOPICID-PARTITION.rescued    the batches, each with its offsets, one after the other
"""

import re

from headwater.effects.files import Files, read_file, replace_file
from headwater.effects.logs import get_logger
from headwater.protocol.errors import ProtocolError
from headwater.protocol.records import CorruptBatchError, check_batch, patch_base_offset
from headwater.storage.checkpoints import uuid_bytes, uuid_text
from headwater.storage.errors import DamagedLogError
from headwater.storage.journal_entries import JournalEntry

logger = get_logger(__name__)

RESCUED_FILE = re.compile(r"(?P<topic_id>.{22})-(?P<partition>[0-9]+)\.rescued")


def end_of(content: bytearray) -> int:
    """The offset at which the sound batches end; 0 if there are none."""
    position, end = 0, 0
    while position < len(content):
        try:
            header = check_batch(content, position)
        except ProtocolError:
            break
        position, end = position + header.size_bytes, header.next_offset
    return end


class RescuedBatches:
    """See the module's docstring. `directory` is the journal's."""

    def __init__(self, files: Files, directory: str) -> None:
        self.files = files
        self.directory = directory
        self.keys: set[tuple[bytes, int]] = set()
        for name in files.list_directory(directory):
            if match := RESCUED_FILE.fullmatch(name):
                try:
                    self.keys.add((uuid_bytes(match["topic_id"]), int(match["partition"])))
                except ValueError:
                    logger.warning("%s/%s is not a journal file: leaving it alone", directory, name)

    def path(self, key: tuple[bytes, int]) -> str:
        return f"{self.directory}/{uuid_text(key[0])}-{key[1]}.rescued"

    def keep(self, entries: list[JournalEntry]) -> None:
        """Writes them to disk, after those of earlier starts. A crash leaves the file as it was. Raises OSError."""
        of_log: dict[tuple[bytes, int], list[JournalEntry]] = {}
        for entry in entries:
            of_log.setdefault((entry.topic_id, entry.partition), []).append(entry)
        for key, found in of_log.items():
            content = bytearray(read_file(self.files, self.path(key))) if key in self.keys else bytearray()
            end = end_of(content)
            for entry in found:
                if entry.base_offset < end:  # an earlier start has kept it
                    continue
                batch = bytearray(entry.batch)
                patch_base_offset(batch, 0, entry.base_offset)
                content += batch
            replace_file(self.files, self.path(key), bytes(content))
            self.keys.add(key)

    def entries(self, key: tuple[bytes, int]) -> list[JournalEntry]:
        """The batches kept for a log, in order.

        Raises DamagedLogError if they are not what was kept: their offsets were acknowledged, and must not be used again.
        """
        if key not in self.keys:
            return []
        found: list[JournalEntry] = []
        content = memoryview(read_file(self.files, self.path(key)))
        position, next_offset = 0, -1
        try:
            while position < len(content):
                header = check_batch(content, position)
                if header.base_offset != next_offset >= 0:
                    raise CorruptBatchError(f"offset {next_offset} is followed by {header.base_offset}")
                found.append(JournalEntry(*key, header.base_offset, content[position : position + header.size_bytes]))
                position, next_offset = position + header.size_bytes, header.next_offset
        except ProtocolError as error:
            raise DamagedLogError(
                f"{self.path(key)} is damaged at byte {position} ({error}): it has acknowledged batches from offset "
                f"{found[0].base_offset if found else 'unknown'} on; restore it from a copy, or move it away to discard them"
            ) from error
        return found

    def discard(self, key: tuple[bytes, int]) -> None:
        """Removes the batches kept for a log. Raises OSError."""
        if key in self.keys:
            self.files.remove(self.path(key))
            self.keys.discard(key)
