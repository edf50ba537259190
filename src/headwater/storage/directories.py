"""Which directories below the data directory are the broker's logs, and what happens to the others.

    TOPIC-PARTITION                 a log, of the topic whose id its `partition.metadata` names
    PARTITION.HEX-TOPIC-delete      a log of a deleted topic whose deletion is durable: removed now, or at the next start
    TOPIC-PARTITION.HEX-stray       a log that belongs to no existing topic: kept, for a person to inspect

A log is removed only if it is known to belong to a deleted topic: the metadata record the deletion, or the directory got
its name at the deletion. Any other log without a topic is a stray, and is moved aside: the metadata, or
`partition.metadata`, may be damaged instead of the log (Kafka does the same since 3.7, KAFKA-15489 and KIP-858). A directory
that does not look like a log is not the broker's, and is left alone. A topic that needs its name cannot use that partition
until it is moved away.
"""

import logging
import re
from collections.abc import Callable

from headwater.effects.clock import Clock
from headwater.effects.files import Files, file_size
from headwater.effects.logs import REBUILT, get_logger
from headwater.storage.checkpoints import PARTITION_METADATA, read_topic_id, uuid_text, write_topic_id
from headwater.storage.errors import DamagedLogError
from headwater.storage.swaps import CLEANING_DIRECTORY, remove_copies

logger = get_logger(__name__)

NAME_BYTES_MAX = 255
DELETED_TOPIC_MAX = 120  # bytes of its name
LOG_DIRECTORY = re.compile(r"(?P<topic>.+)-(?P<partition>0|[1-9][0-9]*)")
DELETED_SUFFIX, STRAY_SUFFIX = "-delete", "-stray"
DELETED_DIRECTORY = re.compile(r"[0-9]+\.[0-9a-f]+-.+-delete")
WIDE_RIGHTS = 0o027  # the group may read, as in PostgreSQL
SEGMENT_FILE = re.compile(r"[0-9]{20}\.log")
LOG_CONTENT = (  # compiled when the first name is compared
    r"[0-9]{20}\.(log|index|timeindex|txnindex|snapshot|sums)(\.swap|\.tmp|\.checkpoint\.tmp|\.deleted|\.aside[0-9]*)?"
    r"|leader-epoch-checkpoint(\.tmp|\.copy)?|partition\.metadata(\.tmp)?|\.cleaning"
)


class LogDirectories:
    """See the module's docstring. Holds the names of the logs on disk, as (topic, partition)."""

    def __init__(self, files: Files, directory: str, clock: Clock) -> None:
        self.files = files
        self.directory = directory
        self.clock = clock
        self.names: set[tuple[str, int]] = set()
        self.deleted: list[str] = []
        self.deleted_ids: set[bytes] = set()  # topics whose deletion is recorded
        self.foreign: set[tuple[str, int]] = set()
        self.undeleted: set[tuple[str, int]] = set()  # logs of deleted topics that could not be moved aside
        self.has_unsynced_moves = False
        for name in files.list_directory(directory):
            if DELETED_DIRECTORY.fullmatch(name):
                self.deleted.append(name)
            elif match := LOG_DIRECTORY.fullmatch(name):
                self.names.add((match["topic"], int(match["partition"])))

    def keep_others_out(self, *, is_new: bool) -> None:
        """Keeps records and password hashes from other users of the machine.

        What the broker creates is readable by its own user only. If the directory existed and was empty, its rights are
        changed, as in PostgreSQL. If it was not empty, it may have other uses too, and only the broker's own entries are
        closed.
        """
        files, directory = self.files, self.directory
        rights = files.rights_of_others(directory)
        if not rights & WIDE_RIGHTS:
            return
        try:
            if is_new:
                files.restrict(directory)
                return
            for path in [f"{directory}/journal", *self.paths()]:
                if files.rights_of_others(path):
                    files.restrict(path)
        except PermissionError as error:
            logger.warning("other users of this machine may be able to read the data: %s", error)
            return
        logger.warning(
            "%s is open to other users of this machine (mode %03o), but its logs and its journal are not; chmod 700 closes "
            "the rest",
            directory,
            0o700 | rights,
        )

    def __contains__(self, key: tuple[str, int]) -> bool:
        return key in self.names

    def path(self, topic: str, partition: int) -> str:
        return f"{self.directory}/{topic}-{partition}"

    def paths(self) -> list[str]:
        """The directories that are the broker's logs, by their name and content."""
        return [path for path in (self.path(*key) for key in sorted(self.names)) if not self.is_foreign(path)]

    def content(self, path: str) -> list[str] | None:
        """The names in a directory; None if the path does not exist, or is not a directory."""
        try:
            return self.files.list_directory(path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def looks_like_log(self, path: str) -> bool:
        return any(name == PARTITION_METADATA or SEGMENT_FILE.fullmatch(name) for name in self.content(path) or ())

    def is_foreign(self, path: str) -> bool:
        """Whether the broker cannot have made it: it has content, but no log."""
        content = self.content(path)
        return content is None or (
            not self.looks_like_log(path) and any(not re.fullmatch(LOG_CONTENT, name) for name in content)
        )

    def has_logs(self, *, besides: str = "") -> bool:
        """Whether anything here looks like a log of a topic other than `besides`."""
        return any(self.looks_like_log(self.path(*key)) for key in self.names if key[0] != besides)

    # -- at the start

    def sort(self, is_known: Callable[[str, int], bool], deleted_ids: set[bytes], ids: set[bytes]) -> None:
        """Removes the remains of deleted topics, and moves strays aside. `ids` are those of the existing topics."""
        self.deleted_ids = deleted_ids
        for name in self.deleted:
            try:
                self.remove_deleted(f"{self.directory}/{name}", ids)
            except OSError as error:
                logger.error("%s/%s cannot be removed; the next start tries again: %s", self.directory, name, error)
        for topic, partition in sorted(key for key in self.names if not is_known(*key)):
            try:
                self.sort_unknown(topic, partition)
            except OSError as error:
                logger.error("%s belongs to no topic: %s", self.path(topic, partition), error)
                self.leave(topic, partition)

    def sort_unknown(self, topic: str, partition: int) -> None:
        path = self.path(topic, partition)
        if self.is_foreign(path):
            self.leave(topic, partition)
        elif not self.content(path):
            self.names.discard((topic, partition))
        elif read_topic_id(self.files, path)[0] in self.deleted_ids:
            logger.info("removing %s: its topic was deleted", path)
            self.remove(topic, partition)
        elif self.is_hollow(path):
            logger.info("removing %s: it belongs to no topic, and all files in it are empty", path)
            self.remove(topic, partition)
        else:
            self.set_aside(topic, partition, "it belongs to no topic in the metadata")

    def is_hollow(self, path: str) -> bool:
        """Whether a log consists of empty files only.

        A power cut leaves such a log of a topic that was created and deleted since the last checkpoint: its deletion is
        recorded, but nothing says that the directory belonged to it. Raises OSError.
        """
        names = self.content(path) or []
        return all(re.fullmatch(LOG_CONTENT, name) and name != CLEANING_DIRECTORY for name in names) and not any(
            file_size(self.files, f"{path}/{name}") for name in names
        )

    def remove_deleted(self, path: str, ids: set[bytes]) -> None:
        names = self.content(path)
        if names is None:
            return
        if any(not re.fullmatch(LOG_CONTENT, name) for name in names):
            logger.warning("%s has files that do not belong to a log: leaving it as it is", path)
        elif read_topic_id(self.files, path)[0] in ids:
            logger.warning("%s belongs to an existing topic: leaving it as it is", path)
        else:
            self.remove_content(path)

    # one log's directory

    def claim(self, topic: str, topic_id: bytes, partition: int, recovery_point: int) -> bool:
        """Whether the directory of this name exists and belongs to this topic. Another topic's directory is moved aside.

        With a recovery point above 0, a checkpoint has synced this very directory. So if a file without a checksum has
        another id, the file is damaged. Raises DamagedLogError if something has the name that is not a log of the broker,
        and OSError.
        """
        key, path = (topic, partition), self.path(topic, partition)
        if key in self.foreign:
            raise DamagedLogError(f"{path} is not a log of this broker; move it away to use the partition")
        if key not in self.names:
            return False
        if self.is_foreign(path):
            self.leave(topic, partition)
            return self.claim(topic, topic_id, partition, recovery_point)
        found, is_summed = read_topic_id(self.files, path)
        if found == topic_id:
            return True
        if found is None or (recovery_point > 0 and not is_summed):
            level = logging.WARNING if recovery_point > 0 else logging.INFO  # a power cut may have left it empty
            logger.log(level, "%s/%s is damaged: rewriting it", path, PARTITION_METADATA, extra=REBUILT)
            write_topic_id(self.files, path, topic_id)
            return True
        if found in self.deleted_ids:
            logger.info("removing %s: it belongs to a deleted topic of the same name", path)
            self.remove(topic, partition)
        else:
            self.set_aside(topic, partition, f"it belongs to another topic, with the id {uuid_text(found)}")
        self.sync_moves()
        return False

    def free(self, topic: str) -> None:
        """Frees a name for a new topic: no directory of a deleted topic can return under it. Raises OSError.

        Without the sync a power cut may undo a rename, and may empty the `partition.metadata` that says which topic the
        directory belonged to. The next start would then treat it as the new topic's.
        """
        for key in [key for key in self.undeleted if key[0] == topic]:
            self.remove(*key)
        self.sync_moves()

    def sync_moves(self) -> None:
        if self.has_unsynced_moves:
            self.files.sync_directory(self.directory)
            self.has_unsynced_moves = False

    def leave(self, topic: str, partition: int) -> None:
        """Records that the directory of this name is not the broker's: it is left alone."""
        self.names.discard((topic, partition))
        self.foreign.add((topic, partition))

    def add(self, topic: str, partition: int) -> None:
        """Records that a log has made its directory."""
        self.names.add((topic, partition))

    def set_aside(self, topic: str, partition: int, reason: str) -> None:
        """Moves a log's directory aside, and keeps it. Raises OSError."""
        path = self.path(topic, partition)
        moved = self.move(topic, partition, self.stray_name)
        logger.warning(
            "%s is a stray log: %s. It is kept as %s; inspect it, and remove it if you do not need it",
            path,
            reason,
            moved,
        )

    def remove(self, topic: str, partition: int) -> None:
        """Moves a deleted topic's directory aside, so that a new topic can have its name, and removes it.

        Raises OSError if it cannot be moved; then `free` tries again. If it cannot be removed after that, the next start
        removes it.
        """
        key = (topic, partition)
        if key not in self.names:
            return
        if self.is_foreign(self.path(topic, partition)):
            self.leave(topic, partition)
            return
        self.undeleted.add(key)
        # From here on a compaction that is still running has nowhere to write.
        moved = self.move(topic, partition, self.deleted_name)
        if not moved:
            return
        try:
            self.remove_content(moved)
        except OSError as error:
            logger.error("%s cannot be removed; the next start tries again: %s", moved, error)

    @staticmethod
    def stray_name(topic: str, partition: int, stamp: int) -> str:
        tail = f".{stamp:x}{STRAY_SUFFIX}"
        return f"{topic}-{partition}"[: NAME_BYTES_MAX - len(tail)] + tail

    @staticmethod
    def deleted_name(topic: str, partition: int, stamp: int) -> str:
        return f"{partition}.{stamp:x}-{topic[:DELETED_TOPIC_MAX]}{DELETED_SUFFIX}"

    def move(self, topic: str, partition: int, new_name: Callable[[str, int, int], str]) -> str:
        """Renames a directory; returns its new path, or "" if there was none. Raises OSError."""
        path, moved, stamp = self.path(topic, partition), "", self.clock.wall_ms()
        if self.files.exists(path):
            while not moved or self.files.exists(moved):
                moved = f"{self.directory}/{new_name(topic, partition, stamp)}"
                stamp += 1
            self.files.rename(path, moved)
            self.has_unsynced_moves = True
        self.names.discard((topic, partition))
        self.undeleted.discard((topic, partition))
        return moved

    def remove_content(self, path: str) -> None:
        """Removes a log's files, and its directory if nothing else is in it. Raises OSError."""
        names = self.files.list_directory(path)
        if CLEANING_DIRECTORY in names:
            remove_copies(self.files, f"{path}/{CLEANING_DIRECTORY}")
            names = self.files.list_directory(path)
        others = [name for name in names if name == CLEANING_DIRECTORY or not re.fullmatch(LOG_CONTENT, name)]
        for name in names:
            if name not in others:
                self.files.remove(f"{path}/{name}")
        if others:
            logger.warning(
                "%s is kept, because it has files that do not belong to a log: %s", path, ", ".join(others[:3])
            )
        else:
            self.files.remove(path)
