"""Acknowledged batches of a damaged log, saved from the journal before it is overwritten.

A log that cannot be opened at the start cannot get its batches from the journal. They go into a file next to the journal,
and into the log at the first start that finds it sound again, for example after it was restored from a copy.

    journal/TOPICID-PARTITION.rescued    the batches, each with its offsets, one after the other
"""

import re
from collections.abc import Iterator

from headwater.effects.files import Files, read_file
from headwater.effects.logs import get_logger
from headwater.protocol.errors import ProtocolError
from headwater.protocol.records import batches, check_batch, patch_base_offset
from headwater.storage.checkpoints import uuid_bytes, uuid_text
from headwater.storage.journal_entries import JournalEntry

logger = get_logger(__name__)

RESCUED_FILE = re.compile(r"(?P<topic_id>.{22})-(?P<partition>[0-9]+)\.rescued")


class RescuedBatches:
    """See the module's text. `directory` is the journal's."""

    def __init__(self, files: Files, directory: str) -> None:
        self.files = files
        self.directory = directory
        self.keys: set[tuple[bytes, int]] = set()
        for name in files.list_directory(directory):
            if match := RESCUED_FILE.fullmatch(name):
                self.keys.add((uuid_bytes(match["topic_id"]), int(match["partition"])))

    def path(self, key: tuple[bytes, int]) -> str:
        return f"{self.directory}/{uuid_text(key[0])}-{key[1]}.rescued"

    def keep(self, entries: list[JournalEntry]) -> None:
        """Puts them on disk. Raises OSError."""
        for entry in entries:
            key = entry.topic_id, entry.partition
            self.keys.add(key)
            batch = bytearray(entry.batch)
            patch_base_offset(batch, 0, entry.base_offset)
            file = self.files.open(self.path(key), create=True)
            try:
                file.write([batch], file.size())
            finally:
                file.close()
        for path in {self.path((entry.topic_id, entry.partition)) for entry in entries}:
            self.files.sync_path(path)
        if entries:
            self.files.sync_directory(self.directory)

    def entries(self, key: tuple[bytes, int]) -> Iterator[JournalEntry]:
        """What was kept of a log, in order, as far as it is sound. A damaged file is kept."""
        if key not in self.keys:
            return
        try:
            for header, batch in batches(read_file(self.files, self.path(key))):
                check_batch(batch)
                yield JournalEntry(*key, header.base_offset, batch)
        except ProtocolError as error:
            logger.error("%s is damaged, the rest of it is ignored: %s", self.path(key), error)
            self.keys.discard(key)

    def discard(self, key: tuple[bytes, int]) -> None:
        """Removes what was kept of a log. Raises OSError."""
        if key in self.keys:
            self.files.remove(self.path(key))
            self.keys.discard(key)
