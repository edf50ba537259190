"""Whether a sync has failed, for the next start: then what the page cache shows may not be on disk, and never come there.

When a sync fails, Linux gives up what it could not write. It still shows it to readers, and it counts it as written: the next
sync succeeds, and does nothing (https://wiki.postgresql.org/wiki/Fsync_Errors). So a broker ends when a sync has failed;
but that alone is not enough, since the page cache outlives it. For example:

    1. a checkpoint's sync of a log fails with EIO: its pages are given up. The broker ends.
    2. a supervisor starts it again. It reads the log, out of the page cache: all is there, nothing is missing from it
       that the journal has
    3. the next checkpoint syncs the log, successfully, and the journal that covers it is free to be written over
    4. the power fails. The log is as it was before step 1, and acknowledged records are gone

So the broker notes a failure before it ends: one byte of `.failed-sync`, an open file with that byte, so that neither room
nor a descriptor is needed. It need not be synced: after a power cut there is no page cache to be wrong. A start that finds the
note writes what the logs have above their recovery points over itself, which makes it dirty again, and syncs it all before
anyone is served. The journal may be wrong in the same way, and is not needed after that.
"""

from headwater.effects.files import Files
from headwater.effects.logs import get_logger

logger = get_logger(__name__)

FILE_NAME = ".failed-sync"
NO, YES = b"0\n", b"1\n"


class FailedSyncs:
    """See the module's text. `happened`: in this life, or in one before it after which nothing was written again."""

    def __init__(self, files: Files, directory: str) -> None:
        self.path = f"{directory}/{FILE_NAME}"
        self.file = files.open(self.path, create=True, pinned=True)
        try:
            content = self.file.read(len(YES), 0)
            self.happened = content == YES
            if content not in (NO, YES):  # new, or a power cut has left it empty
                self.file.write([NO], 0)
        except BaseException:
            self.file.close()
            raise

    def note(self) -> None:
        """A sync has failed. Where even that cannot be noted, it is logged what has to be done."""
        self.happened = True
        try:
            self.file.write([YES], 0)
        except OSError as error:
            logger.critical(
                "%s cannot be written either: %s. Restart the machine before the broker is started again: the page cache "
                "may show what is not on disk",
                self.path,
                error,
            )

    def forget(self) -> None:
        """Everything that could be concerned was written again, and is on disk. Raises OSError."""
        self.file.write([NO], 0)
        self.happened = False

    def close(self) -> None:
        self.file.close()
