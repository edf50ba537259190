"""The records of one partition: which were sent, acknowledged and seen, and which must be there at the end.

Theory. Acknowledgements and polls together show which value each offset has had. A log is append-only, so an offset keeps
its value for ever, and the final reads show which values are still there. Each missing value needs an excuse: it is below
the log's start, its topic was deleted, a later record with the same key replaced it, or its transaction was aborted.

There are two final reads, one after the other, and the broker keeps compacting and expiring in between. So a record that the
first read has seen may rightly be missing in the second: each read has its own log start and its own excuses.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from headwater.testing.simulate.anomalies import Anomaly, AnomalyKind, Rules
from headwater.testing.simulate.history import DeleteRecords, LookUp, Outcome, Poll, Send
from headwater.testing.simulate.transactions import Transactions

EXAMPLES_MAX = 5  # per kind and partition: more examples would show nothing new


@dataclass(slots=True, eq=False)
class PartitionHistory:
    """All operations on one partition."""

    topic: str
    partition: int
    sends: list[Send] = field(default_factory=list)
    polls: list[Poll] = field(default_factory=list)
    deletions: list[DeleteRecords] = field(default_factory=list)
    look_ups: list[LookUp] = field(default_factory=list)
    topic_deleted_at: int | None = None  # when the deletion of the topic was confirmed
    is_topic_deleted: bool = False  # also True if its deletion was not confirmed

    def final(self, *, is_committed: bool) -> Poll | None:
        found = [p for p in self.polls if p.is_final and p.is_committed == is_committed and p.outcome is Outcome.OK]
        return found[-1] if found else None


class PartitionCheck:
    """Finds the anomalies of one partition."""

    def __init__(self, history: PartitionHistory, transactions: Transactions, rules: Rules) -> None:
        self.history = history
        self.transactions = transactions
        self.rules = rules
        self.where = f"{history.topic}-{history.partition}"
        self.is_damaged = (history.topic, history.partition) in rules.damaged
        self.is_compacted = history.topic in rules.compacted
        self.final = history.final(is_committed=False)
        self.final_committed = history.final(is_committed=True)
        self.final_values = dict(self.final.records) if self.final is not None else {}
        self.committed_values = dict(self.final_committed.records) if self.final_committed is not None else {}
        self.all_committed = frozenset(self.committed_values.values())
        self.origins: dict[bytes, list[Send]] = defaultdict(list)
        self.key_of: dict[bytes, bytes] = {}
        self.time_of: dict[bytes, int] = {}
        for send in history.sends:
            for n, value in enumerate(send.values):
                self.origins[value].append(send)
                if send.keys:
                    self.key_of[value] = send.keys[n]
                if send.timestamps:
                    self.time_of[value] = send.timestamps[n]
        self.known: dict[int, bytes] = {}
        self.latest_of_key: dict[bytes, int] = {}
        self.found: list[Anomaly] = []
        self.counts: dict[AnomalyKind, int] = defaultdict(int)

    def report(self, kind: AnomalyKind, text: str) -> None:
        self.counts[kind] += 1
        if self.counts[kind] <= EXAMPLES_MAX:
            self.found.append(Anomaly(kind, self.where, text))

    def run(self) -> list[Anomaly]:
        if not self.history.is_topic_deleted and not self.is_damaged and not self.is_read_at_end():
            return self.found
        self.collect_known()
        self.latest_of_key = self.find_latest_of_key()
        for poll in self.history.polls:
            self.check_poll(poll)
        self.check_duplicates()
        self.check_order()
        if not self.history.is_topic_deleted:
            if not self.is_damaged:
                self.check_log_start()
                self.check_all_there()
            self.check_look_ups()
        return self.found

    def is_read_at_end(self) -> bool:
        if not any(send.outcome is not Outcome.FAILED for send in self.history.sends):
            return True
        if self.final is None:
            self.report(AnomalyKind.UNREAD, "no final poll")
            return False
        if self.final_committed is None and any(send.transaction for send in self.history.sends):
            self.report(AnomalyKind.UNREAD, "no final poll of committed records")
            return False
        return True

    # -- which value each offset has

    def evidence(self) -> Iterator[tuple[int, bytes, str]]:
        for send in self.history.sends:
            if send.outcome is Outcome.OK and send.is_durable and send.offset is not None:
                for n, value in enumerate(send.values):
                    yield send.offset + n, value, f"acknowledged to {send.process}"
        for poll in self.history.polls:
            for offset, value in poll.records:
                yield offset, value, f"read by {poll.process}"

    def collect_known(self) -> None:
        sources: dict[int, str] = {}
        for offset, value, source in self.evidence():
            earlier = self.known.setdefault(offset, value)
            first = sources.setdefault(offset, source)
            if earlier != value:
                self.report(
                    AnomalyKind.INCONSISTENT_OFFSET,
                    f"offset {offset} is {earlier!r} ({first}) and {value!r} ({source})",
                )

    def find_latest_of_key(self) -> dict[bytes, int]:
        """The last offset of each key that may replace earlier ones: an aborted record replaces nothing."""
        latest: dict[bytes, int] = {}
        for offset, value in self.known.items():
            key = self.key_of.get(value)
            if key is not None and self.may_be_committed(value):
                latest[key] = max(offset, latest.get(key, -1))
        return latest

    def may_be_committed(self, value: bytes) -> bool:
        return any(self.transactions.is_committed(send) is not False for send in self.origins.get(value, ()))

    def is_excused(self, offset: int | None, value: bytes, read: Poll | None) -> bool:
        """Whether a record may rightly be missing from a final read."""
        if self.history.is_topic_deleted or self.is_damaged:
            return True
        if offset is not None and read is not None and offset < read.log_start:
            return True
        if self.is_compacted and value in self.key_of:
            return offset is None or self.latest_of_key.get(self.key_of[value], -1) > offset
        return False

    # -- polls

    def check_poll(self, poll: Poll) -> None:
        last = poll.position - 1
        for offset, value in poll.records:
            if offset <= last:
                self.report(AnomalyKind.NONMONOTONIC_POLL, f"{poll.process} got {offset} after {last}")
            last = offset
            self.check_origin(poll, offset, value)
            is_lost = self.final is not None and self.final_values.get(offset) != value
            if is_lost and not self.is_excused(offset, value, self.final) and not self.was_acknowledged(value):
                self.report(
                    AnomalyKind.READ_BEFORE_DURABLE, f"{poll.process} read {value!r} at {offset}, and it is gone"
                )
        self.check_deleted(poll)
        if not poll.is_final:
            self.check_skips(poll)

    def was_acknowledged(self, value: bytes) -> bool:
        return any(send.outcome is Outcome.OK and send.is_durable for send in self.origins[value])

    def check_origin(self, poll: Poll, offset: int, value: bytes) -> None:
        sends = [send for send in self.origins.get(value, ()) if send.began < poll.ended]
        if not sends:
            self.report(AnomalyKind.UNKNOWN_VALUE, f"{poll.process} read {value!r} at {offset}, which nobody had sent")
        elif all(send.outcome is Outcome.FAILED for send in sends):
            self.report(
                AnomalyKind.FAILED_WRITE_READ,
                f"{poll.process} read {value!r} at {offset}; its send had failed: {sends[0].error}",
            )
        elif poll.is_committed and sends[0].transaction:
            text = f"{poll.process} read {value!r} at {offset} of transaction {sends[0].transaction}"
            if all(self.transactions.is_aborted(send.transaction) for send in sends):
                self.report(AnomalyKind.ABORTED_READ, text)
            elif all(self.transactions.commit_began(send.transaction) > poll.ended for send in sends):
                self.report(AnomalyKind.PRECOMMITTED_READ, text)

    def check_deleted(self, poll: Poll) -> None:
        deleted_at = self.history.topic_deleted_at
        if deleted_at is not None and poll.began > deleted_at and poll.records:
            self.report(AnomalyKind.DELETED_READ, f"{poll.process} read the topic after its deletion")
        for deletion in self.history.deletions:
            if deletion.outcome is Outcome.OK and deletion.ended < poll.began:
                low = [offset for offset, _ in poll.records if offset < deletion.low_watermark]
                if low:
                    text = f"{poll.process} read {low[0]} after the removal of all below {deletion.low_watermark}"
                    self.report(AnomalyKind.DELETED_READ, text)

    def check_skips(self, poll: Poll) -> None:
        """Every record that is there at the end must be in each poll that moved past its offset."""
        final = self.final_committed if poll.is_committed else self.final
        if final is None or poll.next_position <= poll.position:
            return
        records = final.records
        start = bisect_left(records, (poll.position, b""))
        end = bisect_left(records, (poll.next_position, b""))
        expected = records[start:end]
        if len(expected) <= len(poll.records) and expected == poll.records[-len(expected) :]:
            return
        seen = {offset for offset, _ in poll.records}
        missed = [entry for entry in expected if entry[0] not in seen]
        if missed:
            self.report(
                AnomalyKind.POLL_SKIP,
                f"{poll.process} went from {poll.position} to {poll.next_position} without {missed[0]}",
            )

    # -- sends

    def check_duplicates(self) -> None:
        """A transaction's record may be in the log twice, if readers of committed records see it once.

        After a crash the broker may abort open records that it cannot assign to a transaction. The producer has had no
        answer, so it sends the same records again, in the same transaction.
        """
        for values, is_committed in ((self.known.items(), False), (self.committed_values.items(), True)):
            offsets: dict[bytes, list[int]] = defaultdict(list)
            for offset, value in values:
                offsets[value].append(offset)
            for value, places in offsets.items():
                sends = self.origins.get(value, [])
                allowed = 1 if is_committed else len(sends)
                if not is_committed and any(send.transaction for send in sends):
                    continue
                if len(places) > allowed > 0 and all(send.producer for send in sends):
                    self.report(AnomalyKind.DUPLICATE, f"{value!r} is at {places}")

    def check_order(self) -> None:
        """Each producer's records must be in the order in which they were sent."""
        last: dict[str, tuple[int, int, bytes]] = {}
        for offset in sorted(self.known):
            value = self.known[offset]
            sends = self.origins.get(value, ())
            if len(sends) != 1 or not sends[0].producer:
                continue
            if sends[0].transaction and self.committed_values.get(offset) != value:
                continue
            place = sends[0].began, sends[0].values.index(value), value
            earlier = last.get(sends[0].producer)
            if earlier is not None and earlier[:2] > place[:2]:
                self.report(
                    AnomalyKind.REORDERED, f"{value!r} of {sends[0].producer} lies at {offset}, after {earlier[2]!r}"
                )
            last[sends[0].producer] = place

    def check_all_there(self) -> None:
        there = set(self.final_values.values())
        for send in self.history.sends:
            if send.outcome is not Outcome.OK or not send.is_durable:
                continue
            for n, value in enumerate(send.values):
                offset = send.offset + n if send.offset is not None else None
                is_there = value in there if offset is None else self.final_values.get(offset) == value
                if not is_there and not self.is_excused(offset, value, self.final):
                    self.report(AnomalyKind.LOST_WRITE, f"{value!r}, acknowledged to {send.process} at {offset}")
                elif is_there and self.final_committed is not None and not send.transaction:
                    self.check_committed_there(send, offset, value)

    def check_committed_there(self, send: Send, offset: int | None, value: bytes) -> None:
        """Records outside of transactions are committed as soon as they are written."""
        if self.is_missing_committed(offset, value):
            self.report(
                AnomalyKind.LOST_WRITE, f"{value!r} of {send.process} is hidden from readers of committed records"
            )

    def is_missing_committed(self, offset: int | None, value: bytes) -> bool:
        """Whether a committed record is hidden from readers of committed records, without an excuse."""
        return value not in self.all_committed and not self.is_excused(offset, value, self.final_committed)

    def check_log_start(self) -> None:
        log_start = max((read.log_start for read in (self.final, self.final_committed) if read is not None), default=0)
        if log_start <= 0:
            return
        asked = [d for d in self.history.deletions if d.outcome is not Outcome.FAILED]
        everything = any(deletion.before < 0 for deletion in asked)
        allowed = max((max(d.before, d.low_watermark) for d in asked), default=0)
        if everything or log_start <= allowed:
            return
        expired_before_ms = self.rules.expired_before_ms.get(self.history.topic, 0)
        for offset, value in self.known.items():
            if allowed <= offset < log_start and self.time_of.get(value, 0) >= expired_before_ms:
                text = f"the log starts at {log_start}, and {value!r} at {offset} was kept"
                self.report(AnomalyKind.EARLY_REMOVAL, text)

    # -- look-ups by time

    def check_look_ups(self) -> None:
        acknowledged = {
            value: send.ended
            for value, sends in self.origins.items()
            for send in sends
            if send.outcome is Outcome.OK and send.is_durable
        }
        times = self.time_of
        timed = [(offset, value, times[value]) for offset, value in self.final_values.items() if value in times]
        for look_up in self.history.look_ups:
            if look_up.outcome is not Outcome.OK:
                continue
            found = look_up.offset
            name = f"{look_up.process} looked for {look_up.timestamp} and found {found}"
            if found >= 0 and look_up.found_timestamp < look_up.timestamp:
                self.report(AnomalyKind.WRONG_LOOK_UP, f"{name}, which is of {look_up.found_timestamp}")
            value = self.known.get(found)
            if value is not None and self.time_of.get(value, look_up.found_timestamp) != look_up.found_timestamp:
                self.report(
                    AnomalyKind.WRONG_LOOK_UP,
                    f"{name} with {look_up.found_timestamp}, but it is of {self.time_of[value]}",
                )
            for offset, earlier, time in timed:
                is_before = found < 0 or offset < found
                if is_before and time >= look_up.timestamp and acknowledged.get(earlier, look_up.began) < look_up.began:
                    self.report(AnomalyKind.WRONG_LOOK_UP, f"{name}, but {offset} is of {time}")
                    break
