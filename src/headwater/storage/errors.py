"""Errors of stored data."""

import errno


class StorageError(Exception):
    """The data directory, or a log in it, cannot be used. The message says which one, and what to do."""


class DirectoryInUseError(StorageError):
    """Another broker holds the data directory."""


class FormatError(StorageError):
    """The data directory is not a data directory, or was written by a newer version."""


class DamagedLogError(StorageError, OSError):
    """Bytes of a log are not what was written, or are missing. The message names the file or the offsets.

    It is an OSError, like the error of a failing disk (EIO): if one log cannot be read or written, requests for its
    partition get KAFKA_STORAGE_ERROR, and everything else is served. The records from `start_offset` up to but not including
    `end_offset` are lost, if that is known; otherwise both are -1.
    """

    def __init__(self, message: str, *, start_offset: int = -1, end_offset: int = -1) -> None:
        super().__init__(message)
        self.errno = errno.EIO
        self.start_offset = start_offset
        self.end_offset = end_offset


class OffsetOutOfRangeError(Exception):
    """An offset below the log's start or above its end."""
