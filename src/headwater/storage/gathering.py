"""The segments whose last batches are in memory, to be written together (`tail_file.py`)."""

from headwater.effects.logs import get_logger
from headwater.storage.log import Log
from headwater.storage.tail_file import TailFile

logger = get_logger(__name__)


class Gathering:
    """See the module's docstring."""

    def __init__(self) -> None:
        self.files: dict[TailFile, str] = {}  # with the path of each log, in the order in which they began to gather

    def add(self, log: Log) -> None:
        """The log has gathered a batch."""
        self.files[log.segments[-1].file] = log.directory

    def discard(self, log: Log) -> None:
        """The log is closed: what it has gathered is not written."""
        if log.segments:
            self.files.pop(log.segments[-1].file, None)

    def write(self) -> OSError | None:
        """Writes everything; returns the error if some of it cannot be written.

        That stays in memory. It can still be read, and the next call tries again.
        """
        failure = None
        for file, directory in list(self.files.items()):
            was_overdue = file.is_overdue
            try:
                file.flush()
            except OSError as error:
                failure = error
                if not was_overdue:
                    logger.error("%s: what waits in memory cannot be written now: %s", directory, error)
            else:
                del self.files[file]
        return failure

    def require_written(self) -> None:
        """Writes everything. Raises OSError."""
        failure = self.write()
        if failure is not None:
            raise failure
