"""The leader epochs of a log: which epoch the broker had when each offset was written (KIP-101, KIP-320).

    leader-epoch-checkpoint         version 0, number of lines, then "epoch start-offset" per line: Kafka's own format
    leader-epoch-checkpoint.copy    version 1, the same, with a CRC-32C at the end of each line

No CRC covers the epoch in a batch, so this file shows whether it is sound, and the copy shows whether the file is. If the
copy is whole, it counts. If not, the file counts, provided that it is whole, and the copy is rewritten. A directory of an
earlier version, or Kafka's, has no copy: nothing vouches for its epochs, and only batches from the next epoch on are
compared.
"""

from bisect import bisect_right
from operator import itemgetter

from headwater.effects.files import Files, write_file
from headwater.effects.logs import REBUILT, get_logger
from headwater.storage.checkpoints import COPY_SUFFIX, line_checksum, lines_content, read_lines

logger = get_logger(__name__)

EPOCHS_FILE = "leader-epoch-checkpoint"
OFFSET_MAX = (1 << 63) - 1
start_of = itemgetter(1)


class LeaderEpochs:
    """See the module's docstring. `entries` are (epoch, its first offset), in order."""

    def __init__(self, files: Files, directory: str) -> None:
        self.files = files
        self.directory = directory
        self.entries: list[tuple[int, int]] = []
        self.written: list[tuple[int, int]] = []  # the content of the file
        self.vouched_from = 0  # batches from this offset on can be compared with the epochs

    @property
    def path(self) -> str:
        return f"{self.directory}/{EPOCHS_FILE}"

    @property
    def last(self) -> int:
        """The last epoch; -1 if there is none."""
        return self.entries[-1][0] if self.entries else -1

    def at(self, offset: int) -> tuple[int, int]:
        """The epoch of an offset (-1 if nothing vouches for one), and the offset up to which it applies."""
        if offset < self.vouched_from:
            return -1, self.vouched_from
        at = bisect_right(self.entries, offset, key=start_of)
        epoch = self.entries[at - 1][0] if at else -1
        return epoch, self.entries[at][1] if at < len(self.entries) else OFFSET_MAX

    def begin(self, epoch: int, offset: int) -> None:
        """Adds an epoch. If it raises OSError, nothing has changed."""
        entries = [*self.entries, (epoch, offset)]
        vouched_from = min(self.vouched_from, offset)
        self.write(entries, vouched_from)
        self.entries, self.vouched_from = entries, vouched_from

    def note(self, epoch: int, offset: int) -> None:
        """Records the epoch of a batch that is on disk."""
        entries = self.entries
        while entries and entries[-1][1] >= offset and entries[-1][0] != epoch:
            entries.pop()
        if epoch >= 0 and (not entries or entries[-1][0] < epoch):
            entries.append((epoch, offset))

    def forget_before(self, offset: int) -> None:
        """Forgets the epochs that end at or before `offset`."""
        self.entries = [
            (epoch, max(start, offset))
            for i, (epoch, start) in enumerate(self.entries)
            if i == len(self.entries) - 1 or self.entries[i + 1][1] > offset
        ]

    def end_of(self, epoch: int, end_offset: int) -> tuple[int, int]:
        """The largest epoch at or below `epoch`, and where it ends. -1, -1 if `epoch` is none.

        `epoch` is not the current one. If it is older than every epoch that is known, its records were deleted, or it had none: it
        ends where the first known epoch begins, as on Kafka. If no epoch is known, it ends with the log.
        """
        if epoch < 0:
            return -1, -1
        for position in range(len(self.entries) - 1, -1, -1):
            found = self.entries[position][0]
            if found <= epoch:
                is_last = position == len(self.entries) - 1
                return found, end_offset if is_last else self.entries[position + 1][1]
        return epoch, self.entries[0][1] if self.entries else end_offset

    # -- on disk

    def write(self, entries: list[tuple[int, int]], vouched_from: int) -> None:
        lines = [f"{epoch} {start}" for epoch, start in entries]
        vouched = [f"{epoch} {start}" for epoch, start in entries if start >= vouched_from]
        summed = [f"{line} {line_checksum(line.split(' '))}" for line in vouched]
        write_file(self.files, self.path + COPY_SUFFIX, lines_content(summed, version=1))
        write_file(self.files, self.path, lines_content(lines))
        self.written = list(entries)

    def save(self) -> bool:
        """Writes what recovery has found, unless the files have it; returns whether they are new. Raises OSError.

        If they cannot be written, a copy that has less than the batches is removed.
        """
        if self.entries == self.written:
            return False
        try:
            self.write(self.entries, self.vouched_from)
        except OSError as error:
            logger.warning("%s cannot be written: %s", self.path, error)
            if self.files.exists(self.path + COPY_SUFFIX):
                self.files.remove(self.path + COPY_SUFFIX)
            return False
        return True

    def load(self) -> None:
        """Raises OSError."""
        copy, copy_is_whole, has_copy = self.read(COPY_SUFFIX)
        found, is_whole, has_file = self.read("")
        if copy_is_whole and copy:
            self.vouched_from = copy[0][1]
            self.entries = [entry for entry in found if entry < copy[0] and entry[1] < self.vouched_from] + copy
            if found != self.entries or not is_whole:
                logger.warning("%s is %s: rewriting it", self.path, "damaged" if has_file else "missing", extra=REBUILT)
        else:
            self.entries = found
            self.vouched_from = found[0][1] if has_copy and is_whole and found else OFFSET_MAX
            if has_copy and not copy_is_whole:
                logger.warning("%s%s is damaged: rewriting it", self.path, COPY_SUFFIX, extra=REBUILT)
            if has_file and not is_whole:
                logger.warning(
                    "%s is damaged: clients cannot learn the leader epochs that are lost", self.path, extra=REBUILT
                )
        is_saved = copy_is_whole and is_whole and found == self.entries
        self.written = list(self.entries) if is_saved or not has_copy else []

    def read(self, suffix: str) -> tuple[list[tuple[int, int]], bool, bool]:
        """The sound entries of one of the files, whether they are all, and whether the file exists."""
        try:
            version, lines, is_whole = read_lines(self.files, self.path + suffix)
        except FileNotFoundError:
            return [], False, False
        is_whole = is_whole and version == ("1" if suffix else "0")
        entries: list[tuple[int, int]] = []
        for words in lines:
            content = words[:-1] if suffix else words
            if suffix and words[-1] != line_checksum(content):
                is_whole = False
            elif len(content) == 2 and all(word.isdecimal() and word.isascii() for word in content):
                epoch = int(content[0]), int(content[1])
                if not entries or (entries[-1][0] < epoch[0] and entries[-1][1] <= epoch[1]):
                    entries.append(epoch)
                else:
                    is_whole = False
            else:
                is_whole = False
        return entries, is_whole, True
