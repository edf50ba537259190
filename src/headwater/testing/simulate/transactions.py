"""How each transaction ended, according to its producer or to the final reads.

COMMITTED   a commit was confirmed
ABORTED     an abort was confirmed; or no commit was ever requested; or each commit was refused
OPEN        a commit was requested and not answered: either outcome is right, but it must be whole
"""

from collections import defaultdict
from enum import Enum

from headwater.testing.simulate.history import NEVER, CommitOffset, EndTransaction, History, Outcome, Send


class Fate(Enum):
    """See the module's docstring."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    OPEN = "open"


class Transactions:
    """The transactions of a history, with the operations of each."""

    def __init__(self, history: History) -> None:
        self.ends: dict[str, list[EndTransaction]] = defaultdict(list)
        self.sends: dict[str, list[Send]] = defaultdict(list)
        self.offsets: dict[str, list[CommitOffset]] = defaultdict(list)
        for operation in history.operations:
            if isinstance(operation, EndTransaction):
                self.ends[operation.transaction].append(operation)
            elif isinstance(operation, Send) and operation.transaction:
                self.sends[operation.transaction].append(operation)
            elif isinstance(operation, CommitOffset) and operation.transaction:
                self.offsets[operation.transaction].append(operation)
        self.names = [*dict.fromkeys((*self.sends, *self.offsets, *self.ends))]
        self.fates = {name: self.find_fate(name) for name in self.names}
        self.seen: dict[str, bool] = {}  # for open transactions: whether the final reads show them
        self.seen_at: dict[str, int] = {}  # when these reads had ended

    def find_fate(self, name: str) -> Fate:
        ends = self.ends.get(name, [])
        commits = {end.outcome for end in ends if end.commit}
        if Outcome.OK in commits:
            return Fate.COMMITTED
        if Outcome.UNKNOWN in commits:
            return Fate.OPEN
        return Fate.ABORTED

    def has_two_ends(self, name: str) -> bool:
        """Whether both a commit and an abort were confirmed."""
        return len({end.commit for end in self.ends.get(name, ()) if end.outcome is Outcome.OK}) > 1

    def is_aborted(self, name: str) -> bool:
        return self.fates[name] is Fate.ABORTED

    def is_committed(self, send: Send) -> bool | None:
        """Whether the record is committed; None if either is right."""
        if not send.transaction:
            return True
        return self.is_name_committed(send.transaction)

    def is_name_committed(self, name: str) -> bool | None:
        fate = self.fates[name]
        return self.seen.get(name) if fate is Fate.OPEN else fate is Fate.COMMITTED

    def commit_began(self, name: str) -> int:
        """When the commit was first requested."""
        return min((end.began for end in self.ends.get(name, ()) if end.commit), default=NEVER)

    def commit_ended(self, name: str) -> int:
        """When a commit was first confirmed, or shown by the final reads."""
        ended = (end.ended for end in self.ends.get(name, ()) if end.commit and end.outcome is Outcome.OK)
        return min(ended, default=self.seen_at.get(name, NEVER))

    def show(self, name: str, at: int) -> None:
        """Records that the final reads show a transaction whose outcome was unknown."""
        self.seen[name], self.seen_at[name] = True, at
