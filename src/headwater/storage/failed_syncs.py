"""Records a failed sync for the next start: the page cache may then show data that is not on disk, and never will be.

When a sync fails, Linux gives up what it could not write. But it still shows it to readers, and counts it as written: the
next sync succeeds without doing anything (https://wiki.postgresql.org/wiki/Fsync_Errors). So a broker ends when a sync has
failed. That alone is not enough, since the page cache outlives the broker. For example:
but that alone is not enough, since the page cache outlives it. For example:

        1. a checkpoint's sync of a log fails with EIO, and its pages are given up. The broker ends.
    2. a supervisor starts it again. It reads the log from the page cache, which shows everything: nothing that the journal
       has is missing from the log
    3. the next checkpoint syncs the log, successfully, and the journal file that covers it may be overwritten
    4. the power fails. The log is as it was before step 1, and acknowledged records are gone

So the broker records the failure before it ends: it writes one byte into `.failed-sync`, an open file that already has one
byte, so that neither space nor a descriptor is needed. The byte need not be synced: after a power cut there is no page
cache that could be wrong. A start that finds it overwrites what the logs have above their recovery points with the same
bytes, which makes the pages dirty again, and syncs everything before any client is served. The journal may be wrong in
the same way, and is not needed after that.
"""

from headwater.effects.files import Files
from headwater.effects.logs import get_logger

logger = get_logger(__name__)

FILE_NAME = ".failed-sync"
NO, YES = b"0\n", b"1\n"
WHAT_TO_DO = "Reboot the machine"  # a simulation does what the message says


class FailedSyncs:
    """See the module's docstring. `happened`: a sync failed in this process, or in an earlier one, and nothing was rewritten since."""

    def __init__(self, files: Files, directory: str) -> None:
        self.path = f"{directory}/{FILE_NAME}"
        self.file = files.open(self.path, create=True, pinned=True)
        try:
            content = self.file.read(len(YES), 0)
            self.happened = content == YES
            if content not in (NO, YES):  # a new file, or one that a power cut has emptied
                self.file.write([NO], 0)
        except BaseException:
            self.file.close()
            raise

    def note(self) -> None:
        """Records that a sync has failed. If that fails too, the log says what to do."""
        self.happened = True
        try:
            self.file.write([YES], 0)
        except OSError as error:
            logger.critical(
                "%s cannot be written either: %s. %s before you start the broker again: the page cache may show data that is "
                "not on disk",
                self.path,
                error,
                WHAT_TO_DO,
            )

    def forget(self) -> None:
        """Call this when everything that may be affected was rewritten, and is on disk. Raises OSError."""
        self.file.write([NO], 0)
        self.happened = False

    def close(self) -> None:
        self.file.close()
