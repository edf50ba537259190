"""What can go wrong with what is stored."""


class StorageError(Exception):
    """The data directory, or a log in it, cannot be used; the message says which and what to do."""


class DirectoryInUseError(StorageError):
    """Another broker holds the data directory."""


class FormatError(StorageError):
    """The data directory is not a data directory, or was written by a newer version."""


class OffsetOutOfRangeError(Exception):
    """An offset below the log's start or above its end."""
