"""Committed offsets: each group's progress in a partition is a register, and must behave like one.

A fetch must return the value of a commit that had begun before the fetch ended. The value must not be outdated: if commit B
began after commit A had ended, and B ended before the fetch began, then the fetch must not return A's value. A commit in a
transaction happens when the transaction ends, or never.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from headwater.testing.simulate.anomalies import Anomaly, AnomalyKind, Rules
from headwater.testing.simulate.history import NEVER, NO_OFFSET, CommitOffset, FetchOffset, Outcome, Poll
from headwater.testing.simulate.partition_check import PartitionHistory
from headwater.testing.simulate.transactions import Transactions


class Write(NamedTuple):
    """A commit that took effect, or may have: it happened once, between `began` and `ended`."""

    offset: int
    began: int
    ended: int
    is_certain: bool


@dataclass(slots=True, eq=False)
class GroupHistory:
    """All operations on one group's offset in one partition."""

    group: str
    partition: PartitionHistory
    commits: list[CommitOffset] = field(default_factory=list)
    fetches: list[FetchOffset] = field(default_factory=list)


class GroupCheck:
    """Finds the anomalies of one group's offset."""

    def __init__(self, history: GroupHistory, transactions: Transactions, rules: Rules) -> None:
        self.history = history
        self.transactions = transactions
        self.is_exclusive = history.group in rules.exclusive_groups
        self.is_damaged = (history.partition.topic, history.partition.partition) in rules.damaged
        self.where = f"group {history.group}, {history.partition.topic}-{history.partition.partition}"
        self.found: list[Anomaly] = []
        self.writes = [write for commit in history.commits if (write := self.write_of(commit)) is not None]

    def report(self, kind: AnomalyKind, text: str) -> None:
        self.found.append(Anomaly(kind, self.where, text))

    def write_of(self, commit: CommitOffset) -> Write | None:
        """The effect of a commit; None if it certainly did not happen."""
        if commit.outcome is Outcome.FAILED:
            return None
        name = commit.transaction
        if not name:
            return Write(commit.offset, commit.began, commit.ended, commit.outcome is Outcome.OK)
        is_committed = self.transactions.is_name_committed(name)
        if is_committed is False:
            return None
        began, ended = self.transactions.commit_began(name), self.transactions.commit_ended(name)
        return Write(commit.offset, began, ended, is_committed is True and commit.outcome is Outcome.OK)

    def run(self) -> list[Anomaly]:
        if self.history.partition.is_topic_deleted:
            return []  # the group's offsets are deleted with the topic
        self.index()
        for fetch in self.history.fetches:
            if fetch.outcome is Outcome.OK:
                self.check_fetch(fetch)
        if self.is_exclusive:
            self.check_exclusive()
        self.check_end()
        return self.found

    def index(self) -> None:
        """Finds, for each moment, the latest start of the certain writes that had ended by then."""
        certain = sorted(
            (write.ended, write.began) for write in self.writes if write.is_certain and write.ended < NEVER
        )
        self.ended_at = [ended for ended, _ in certain]
        self.latest_began: list[int] = []
        latest = -1
        for _, began in certain:
            latest = max(latest, began)
            self.latest_began.append(latest)
        self.writes_of: dict[int, list[Write]] = defaultdict(list)
        for write in self.writes:
            self.writes_of[write.offset].append(write)

    def check_fetch(self, fetch: FetchOffset) -> None:
        before = bisect_left(self.ended_at, fetch.began)
        replaced_until = self.latest_began[before - 1] if before else -1
        text = f"{fetch.process} fetched {fetch.offset}"
        if fetch.offset == NO_OFFSET:
            if before and fetch.is_stable:
                self.report(AnomalyKind.LOST_OFFSET, f"{text}, but some were committed before")
            return
        candidates = [write for write in self.writes_of.get(fetch.offset, ()) if write.began < fetch.ended]
        if not candidates:
            self.report_unknown(fetch, text)
        elif fetch.is_stable and all(write.ended < replaced_until for write in candidates):
            self.report(AnomalyKind.OFFSET_BACK, f"{text}, which later commits had replaced")

    def report_unknown(self, fetch: FetchOffset, text: str) -> None:
        for commit in self.history.commits:
            if commit.offset == fetch.offset and commit.transaction and commit.began < fetch.ended:
                self.report(AnomalyKind.ABORTED_READ, f"{text} of transaction {commit.transaction}")
                return
        self.report(AnomalyKind.UNKNOWN_OFFSET, f"{text}, which nobody had committed")

    def check_exclusive(self) -> None:
        """A member continues from the last commit of the member before it, so no commit goes back in real time."""
        certain = sorted((write for write in self.writes if write.is_certain), key=lambda write: write.began)
        ended = sorted((write.ended, write.offset) for write in certain)
        # A commit without an answer may be carried out late; then the next member begins there.
        uncertain = sorted((write.began, write.offset) for write in self.writes if not write.is_certain)
        highest, n = -1, 0
        lowest, m = NEVER, 0
        for write in certain:
            while m < len(uncertain) and uncertain[m][0] < write.began:
                lowest = min(lowest, uncertain[m][1])
                m += 1
            while n < len(ended) and ended[n][0] < write.began:
                highest = max(highest, ended[n][1])
                n += 1
            if write.offset < min(highest, lowest):
                self.report(AnomalyKind.OFFSET_BACK, f"{write.offset} was committed after {highest}")
        self.check_read()

    def check_read(self) -> None:
        """No member commits beyond what the group has read."""
        polls = [poll for poll in self.history.partition.polls if poll.group == self.history.group]
        if not polls:
            return
        read = max(max(poll.position, poll.next_position) for poll in polls)
        beyond = [write.offset for write in self.writes if write.offset > read]
        if beyond:
            self.report(AnomalyKind.BEYOND_READ, f"{max(beyond)} was committed, and read was up to {read}")

    def check_end(self) -> None:
        final = self.history.partition.final(is_committed=False)
        if final is None or self.is_damaged:
            return
        beyond = [write.offset for write in self.writes if write.is_certain and write.offset > final.next_position]
        if beyond:
            self.report(
                AnomalyKind.BEYOND_READ, f"{max(beyond)} is committed, and the log ends at {final.next_position}"
            )


def final_offset(history: Mapping[tuple[str, str, int], GroupHistory], group: str, poll: Poll) -> int:
    """The offset that the group's last fetch returned in this partition; 0 if there was none."""
    entry = history.get((group, poll.topic, poll.partition))
    fetched = [fetch.offset for fetch in entry.fetches if fetch.outcome is Outcome.OK] if entry is not None else []
    return max(0, fetched[-1]) if fetched else 0
