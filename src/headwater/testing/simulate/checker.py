"""Judges a history as Jepsen's Kafka workload (jepsen.tests.kafka) does. It is pure, and looks only at what clients saw.

It works for any broker: the simulated one, a real one that is killed, or Kafka itself. Example:

    history = History()
    send = history.begin(Send(process="p", topic="t", partition=0, values=(b"1",)))
    send.offset = 0
    history.end(send, Outcome.OK)
    final = history.begin(Poll(process="end", topic="t", partition=0, position=0, is_final=True))
    final.next_position = 0
    history.end(final, Outcome.OK)
    assert [str(a) for a in check(history)] == ["lost write in t-0: b'1', acknowledged to p at 0"]

It does not check whether an operation should have been answered at all (liveness), nor the order across partitions without
a transaction. It does not look for Jepsen's dependency cycles (G0, G1c), because Kafka allows them.
"""

from headwater.testing.simulate.anomalies import Anomaly, AnomalyKind, Copy, Rules
from headwater.testing.simulate.group_check import GroupCheck, GroupHistory, final_offset
from headwater.testing.simulate.history import (
    CommitOffset,
    DeleteRecords,
    DeleteTopic,
    FetchOffset,
    History,
    LookUp,
    Operation,
    Outcome,
    Poll,
    Send,
)
from headwater.testing.simulate.partition_check import PartitionCheck, PartitionHistory
from headwater.testing.simulate.transactions import Fate, Transactions

__all__ = ["Anomaly", "AnomalyKind", "Copy", "Rules", "check"]


def check(history: History, rules: Rules | None = None) -> list[Anomaly]:
    """All anomalies of a history; the list is empty if the history is good."""
    return Checker(history, rules or Rules()).run()


class Checker:
    """Splits a history by partitions, groups and transactions, and checks each part."""

    def __init__(self, history: History, rules: Rules) -> None:
        self.rules = rules
        self.partitions: dict[tuple[str, int], PartitionHistory] = {}
        self.groups: dict[tuple[str, str, int], GroupHistory] = {}
        self.deleted_topics: list[DeleteTopic] = []
        for operation in history.operations:
            self.sort(operation)
        for deletion in self.deleted_topics:
            self.delete_topic(deletion)
        self.transactions = Transactions(history)
        self.checks = {
            key: PartitionCheck(partition, self.transactions, rules) for key, partition in self.partitions.items()
        }
        self.found: list[Anomaly] = []

    def partition(self, topic: str, partition: int) -> PartitionHistory:
        return self.partitions.setdefault((topic, partition), PartitionHistory(topic, partition))

    def group(self, operation: CommitOffset | FetchOffset) -> GroupHistory:
        key = operation.group, operation.topic, operation.partition
        entry = self.groups.get(key)
        if entry is None:
            partition = self.partition(operation.topic, operation.partition)
            entry = self.groups[key] = GroupHistory(operation.group, partition)
        return entry

    def sort(self, operation: Operation) -> None:
        if isinstance(operation, Send):
            self.partition(operation.topic, operation.partition).sends.append(operation)
        elif isinstance(operation, Poll):
            if operation.outcome is Outcome.OK:
                self.partition(operation.topic, operation.partition).polls.append(operation)
        elif isinstance(operation, DeleteRecords):
            self.partition(operation.topic, operation.partition).deletions.append(operation)
        elif isinstance(operation, LookUp):
            self.partition(operation.topic, operation.partition).look_ups.append(operation)
        elif isinstance(operation, CommitOffset):
            self.group(operation).commits.append(operation)
        elif isinstance(operation, FetchOffset):
            self.group(operation).fetches.append(operation)
        elif isinstance(operation, DeleteTopic):
            self.deleted_topics.append(operation)

    def delete_topic(self, deletion: DeleteTopic) -> None:
        if deletion.outcome is Outcome.FAILED:
            return
        for partition in self.partitions.values():
            if partition.topic == deletion.topic:
                partition.is_topic_deleted = True
                if deletion.outcome is Outcome.OK:
                    partition.topic_deleted_at = deletion.ended

    def run(self) -> list[Anomaly]:
        for check_ in self.checks.values():
            self.found += check_.run()
        for name in self.transactions.names:
            self.check_transaction(name)
        for group in self.groups.values():
            self.found += GroupCheck(group, self.transactions, self.rules).run()
        for copy in self.rules.copies:
            self.check_copy(copy)
        return self.found

    # -- transactions

    def check_transaction(self, name: str) -> None:
        """Checks that a transaction is visible as a whole or not at all, in all of its partitions."""
        transactions, where = self.transactions, f"transaction {name}"
        if transactions.has_two_ends(name):
            text = "both a commit and an abort were confirmed"
            self.found.append(Anomaly(AnomalyKind.TORN_TRANSACTION, where, text))
        if transactions.fates[name] is Fate.ABORTED:
            return  # any visible record of it is reported as an aborted read
        shown, missing = self.split(name)
        if transactions.fates[name] is Fate.OPEN and shown:
            transactions.show(name, self.read_at(name))
        elif transactions.fates[name] is Fate.OPEN and missing:
            transactions.seen[name] = False
        if shown and missing:
            text = f"{shown[0]} is there and {missing[0]} is not"
            self.found.append(Anomaly(AnomalyKind.TORN_TRANSACTION, where, text))
        elif missing and transactions.fates[name] is Fate.COMMITTED:
            self.found.append(Anomaly(AnomalyKind.LOST_WRITE, where, f"{missing[0]} is not there"))

    def read_at(self, name: str) -> int:
        """When the final reads of a transaction's records had ended."""
        finals = [self.checks[send.topic, send.partition].final_committed for send in self.transactions.sends[name]]
        return max(final.ended for final in finals if final is not None)

    def split(self, name: str) -> tuple[list[str], list[str]]:
        """The records of a transaction that are visible at the end, and those that are missing without an excuse."""
        shown, missing = [], []
        for send in self.transactions.sends[name]:
            check_ = self.checks[send.topic, send.partition]
            if check_.final_committed is None:
                continue
            for n, value in enumerate(send.values):
                offset = send.offset + n if send.offset is not None else None
                place = f"{value!r} of {send.topic}-{send.partition}"
                # If a damaged partition cannot store its marker, the transaction stays open in all partitions.
                is_unstable = self.rules.damaged and (offset or 0) >= check_.final_committed.next_position
                if value in check_.all_committed:
                    shown.append(place)
                elif is_unstable:
                    continue
                elif send.outcome is Outcome.OK and check_.is_missing_committed(offset, value):
                    missing.append(place)
        return shown, missing

    # -- consume, transform, produce

    def check_copy(self, copy: Copy) -> None:
        """Checks that the copies are exactly the records that the group has consumed, in order: each once, and no others."""
        for (topic, partition), source in self.checks.items():
            if topic != copy.source or source.final_committed is None or source.is_damaged:
                continue
            target = self.checks.get((copy.target, partition))
            if target is not None and target.is_damaged:
                continue
            until = final_offset(self.groups, copy.group, source.final_committed)
            expected = [copy.prefix + value for offset, value in source.final_committed.records if offset < until]
            final = target.final_committed if target is not None else None
            copied = [value for _, value in final.records] if final is not None else []
            if copied != expected:
                at = next((n for n, pair in enumerate(zip(copied, expected, strict=False)) if pair[0] != pair[1]), None)
                at = at if at is not None else min(len(copied), len(expected))
                text = f"record {at} is {copied[at : at + 1]}, and {expected[at : at + 1]} was consumed (up to {until})"
                self.found.append(Anomaly(AnomalyKind.WRONG_COPY, f"{copy.target}-{partition}", text))
