"""A transaction's end is seen when its markers are on disk, not before (M13): a power cut must not undo what was seen."""

from collections.abc import Callable

import pytest

from headwater.coordinators.transactions.transaction import Transaction, TransactionState
from headwater.protocol.error_codes import ErrorCode
from tests.broker.harness import Harness, Pending
from tests.broker.transactional import READ_COMMITTED, Producer, ask_offset, committed_values


class Steps:
    """A transaction with a record and an offset that is ending, step by step."""

    def __init__(self, *, commit: bool, version: int) -> None:
        self.broker = broker = Harness(pairs={"offsets.topic.num.partitions": 1})
        broker.create_topic("t")
        producer = Producer(broker, "tx", version)
        producer.init()
        if version < 2:
            producer.add("t")
            producer.add_offsets("group")
        assert producer.produce("t", b"1") == 0
        assert producer.commit_offset("group", "t", 7) == 0
        broker.hold_syncs = True
        self.ended = producer.send_end(commit=commit)

    @property
    def state(self) -> TransactionState:
        return self.broker.core.transactions.transactions["tx"].state

    @property
    def last_stable_offset(self) -> int:
        return int(self.broker.fetch("t", 0, isolation_level=READ_COMMITTED).last_stable_offset)

    def ask_offset(self) -> Pending:
        return ask_offset(self.broker, "group", "t", stable=False)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("commit", [True, False])
def test_nothing_of_it_is_seen_before_its_markers_are_durable(commit: bool, version: int) -> None:
    steps = Steps(commit=commit, version=version)
    assert steps.state is (TransactionState.PREPARE_COMMIT if commit else TransactionState.PREPARE_ABORT)
    log = steps.broker.core.partitions.log(steps.broker.core.metadata.topics["t"], 0)
    assert log.end_offset == 1  # not even written before the outcome is on disk
    steps.broker.sync_one()
    assert log.end_offset == 2  # the marker is written, and not on disk
    assert steps.state.is_prepared
    assert steps.last_stable_offset == 0
    assert committed_values(steps.broker, "t") == []
    asked = steps.ask_offset()
    assert not asked.is_done
    assert not steps.ended.is_done
    steps.broker.sync_one()
    assert steps.last_stable_offset == 2
    assert committed_values(steps.broker, "t") == ([b"1"] if commit else [])
    assert asked.message.topics[0].partitions[0].committed_offset == (7 if commit else -1)
    steps.broker.sync()
    assert steps.ended.message.error_code == 0
    assert steps.state is (TransactionState.COMPLETE_COMMIT if commit else TransactionState.COMPLETE_ABORT)


def test_one_that_cannot_be_aborted_keeps_no_other_from_its_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Harness()
    broker.create_topic("t", 2)
    for number, name in enumerate(("broken", "other")):
        producer = Producer(broker, name, timeout_ms=1000)
        producer.init()
        assert producer.produce("t", b"1", partition=number) == 0
    transactions = broker.core.transactions
    fence = transactions.fence

    def fails_for_one(transaction: Transaction, then: Callable[[ErrorCode], None]) -> None:
        if transaction.transactional_id == "broken":
            raise ValueError("broken")
        fence(transaction, then)

    monkeypatch.setattr(transactions, "fence", fails_for_one)
    broker.clock.advance(2000)
    with pytest.raises(ExceptionGroup):
        list(transactions.abort_overdue())
    broker.sync()
    assert transactions.transactions["broken"].state is TransactionState.ONGOING
    assert transactions.transactions["other"].state is TransactionState.COMPLETE_ABORT
