"""Transactions: what is seen when, who is fenced, what a restart in the middle of one does."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from headwater.coordinators.transactions.transaction import (
    EPOCH_MAX,
    Transaction,
    TransactionRecord,
    TransactionState,
    encoded_record,
    read_record,
)
from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.describe_producers import DescribeProducersRequest
from headwater.protocol.messages.describe_transactions import DescribeTransactionsRequest
from headwater.protocol.messages.init_producer_id import InitProducerIdRequest
from headwater.protocol.messages.list_offsets import ListOffsetsRequest
from headwater.protocol.messages.list_transactions import ListTransactionsRequest
from headwater.protocol.messages.write_txn_markers import WriteTxnMarkersRequest
from tests.broker.harness import NO_PAIRS, Harness
from tests.broker.test_slices import TickingClock
from tests.broker.transactional import READ_COMMITTED, Producer, committed_values, fetched_offset


def new_broker(pairs: Mapping[str, object] = NO_PAIRS) -> Harness:
    broker = Harness(pairs=pairs)
    broker.create_topic("t", 2)
    return broker


def new_producer(broker: Harness, version: int = 2, name: str = "tx", **more: int) -> Producer:
    producer = Producer(broker, name, version, **more)
    assert producer.init().error_code == 0
    return producer


def begin(producer: Producer, *values: bytes, partition: int = 0) -> None:
    if producer.version < 2:
        assert producer.add("t", partition) == 0
    assert producer.produce("t", *values, partition=partition) == 0


def last_stable_offset(broker: Harness, partition: int = 0) -> int:
    return int(broker.fetch("t", 0, partition, isolation_level=READ_COMMITTED).last_stable_offset)


@pytest.mark.parametrize("version", [1, 2])
def test_records_are_seen_when_they_are_committed(version: int) -> None:
    broker = new_broker()
    producer = new_producer(broker, version)
    begin(producer, b"a", b"b")
    begin(producer, b"c", partition=1)
    assert committed_values(broker, "t") == []
    assert (last_stable_offset(broker), broker.fetch("t", 0).high_watermark) == (0, 2)
    assert [r.value for r in broker.read_all("t")] == [b"a", b"b"]
    assert producer.end(commit=True) == 0
    assert committed_values(broker, "t") == [b"a", b"b"]
    assert committed_values(broker, "t", 1) == [b"c"]
    assert last_stable_offset(broker) == 3


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("how", ["kill", "restart", "neither"])
def test_aborted_records_are_never_seen(version: int, how: str) -> None:
    broker = new_broker()
    producer = new_producer(broker, version)
    for n in range(3):
        begin(producer, b"no-%d" % n)
        assert producer.end(commit=False) == 0
        begin(producer, b"yes-%d" % n)
        assert producer.end(commit=True) == 0
    if how != "neither":
        getattr(broker, how)()
    assert committed_values(broker, "t") == [b"yes-0", b"yes-1", b"yes-2"]
    assert producer.init().error_code == 0
    begin(producer, b"yes-3")
    assert producer.end(commit=True) == 0
    assert committed_values(broker, "t")[-1] == b"yes-3"


def test_aborted_transactions_are_found_in_sealed_segments() -> None:
    broker = new_broker()
    producer = new_producer(broker)
    log = broker.core.partitions.log(broker.core.metadata.topics["t"], 0)
    expected = []
    for n in range(12):
        begin(producer, b"%d" % n)
        if n % 3 == 0:
            log.roll()
        assert producer.end(commit=n % 2 == 0) == 0
        expected += [b"%d" % n] if n % 2 == 0 else []
    assert len(log.segments) > 3
    assert committed_values(broker, "t") == expected
    broker.restart()
    assert committed_values(broker, "t") == expected


def test_a_damaged_transaction_index_is_rebuilt() -> None:
    broker = new_broker()
    producer = new_producer(broker)
    begin(producer, b"no")
    assert producer.end(commit=False) == 0
    begin(producer, b"yes")
    assert producer.end(commit=True) == 0
    broker.core.close()
    path = "data/t-0/00000000000000000000.txnindex"
    file = broker.files.open(path)
    file.write([b"\xff" * 34], 0)
    file.close()
    broker.core = broker.open()
    assert committed_values(broker, "t") == [b"yes"]


@pytest.mark.parametrize("version", [1, 2])
def test_a_newer_instance_fences_the_older_one(version: int) -> None:
    broker = new_broker()
    old = new_producer(broker, version)
    begin(old, b"old")
    new = new_producer(broker, version)
    assert new.producer_id == old.producer_id
    assert new.epoch > old.epoch
    assert old.produce("t", b"late") == ErrorCode.INVALID_PRODUCER_EPOCH
    assert old.end(commit=True) in (ErrorCode.PRODUCER_FENCED, ErrorCode.INVALID_PRODUCER_EPOCH)
    begin(new, b"new")
    assert new.end(commit=True) == 0
    assert committed_values(broker, "t") == [b"new"]


def test_each_transaction_has_an_epoch_of_its_own() -> None:
    broker = new_broker()
    producer = new_producer(broker)
    begin(producer, b"1")
    first_epoch = producer.epoch
    ended = producer.send_end(commit=True).message
    again = producer.send_end(commit=True).message
    assert ended.producer_epoch == first_epoch + 1
    assert (again.error_code, again.producer_epoch) == (0, ended.producer_epoch)
    assert producer.send_end(commit=False).message.error_code == ErrorCode.INVALID_TXN_STATE
    assert producer.produce("t", b"of the first") == ErrorCode.INVALID_PRODUCER_EPOCH
    producer.took(ended)
    assert producer.end(commit=True) == ErrorCode.INVALID_TXN_STATE  # there is nothing to commit
    assert producer.end(commit=False) == 0  # there is nothing to abort, and it is allowed
    assert producer.end(commit=True) == ErrorCode.INVALID_TXN_STATE


def test_a_producer_that_names_its_epoch_continues_with_the_one_after_it() -> None:
    broker = new_broker()
    producer = new_producer(broker)
    begin(producer, b"lost")
    request = InitProducerIdRequest("tx", 60_000, producer.producer_id, producer.epoch)
    answer = broker.call(ApiKey.INIT_PRODUCER_ID, 4, request)
    assert (answer.error_code, answer.producer_epoch) == (0, producer.epoch + 1)
    producer.took(answer)
    begin(producer, b"kept")
    assert producer.end(commit=True) == 0
    assert committed_values(broker, "t") == [b"kept"]


@pytest.mark.parametrize(
    ("version", "sequence", "error"),
    [
        (1, 5, ErrorCode.INVALID_TXN_STATE),  # it is looked at first whether the partition is in the transaction
        (2, 5, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER),  # an epoch of its own begins with 0
        (2, 0, ErrorCode.NONE),
    ],
)
def test_the_first_batch_of_a_transaction(version: int, sequence: int, error: ErrorCode) -> None:
    broker = new_broker()
    producer = new_producer(broker, version)
    producer.sequences["t", 0] = sequence
    assert producer.produce("t", b"first") == error


def test_a_fenced_producer_commits_no_offsets() -> None:
    broker = new_broker()
    old = new_producer(broker)
    new_producer(broker)
    assert old.commit_offset("g", "t", 5) == ErrorCode.INVALID_PRODUCER_EPOCH


def test_epochs_that_are_used_up_bring_a_new_producer_id() -> None:
    broker = new_broker()
    producer = new_producer(broker)
    known = broker.core.transactions.transactions["tx"]
    broker.core.transactions.change(replace(known, producer_epoch=EPOCH_MAX - 1))
    broker.sync()
    producer.epoch = EPOCH_MAX - 1
    first_id = producer.producer_id
    begin(producer, b"last")
    assert producer.end(commit=True) == 0
    assert (producer.producer_id != first_id, producer.epoch) == (True, 0)
    begin(producer, b"first")
    assert producer.end(commit=True) == 0
    assert committed_values(broker, "t") == [b"last", b"first"]


def test_a_producer_continues_after_an_error_and_may_ask_twice() -> None:
    broker = new_broker()
    producer = new_producer(broker, version=1)
    request = InitProducerIdRequest("tx", 60_000, producer.producer_id, producer.epoch)
    first = broker.call(ApiKey.INIT_PRODUCER_ID, 4, request)
    again = broker.call(ApiKey.INIT_PRODUCER_ID, 4, request)
    assert first.producer_epoch == again.producer_epoch == producer.epoch + 1
    stranger = InitProducerIdRequest("tx", 60_000, producer.producer_id + 1, 0)
    assert broker.call(ApiKey.INIT_PRODUCER_ID, 4, stranger).error_code == ErrorCode.PRODUCER_FENCED


def test_what_is_open_too_long_is_aborted() -> None:
    broker = new_broker()
    producer = new_producer(broker, timeout_ms=30_000)
    begin(producer, b"slow")
    broker.advance(25_000)
    assert last_stable_offset(broker) == 0
    broker.advance(20_000)
    assert last_stable_offset(broker) == 2
    assert committed_values(broker, "t") == []
    assert producer.produce("t", b"late") == ErrorCode.INVALID_PRODUCER_EPOCH
    assert producer.end(commit=True) == ErrorCode.INVALID_TXN_STATE
    assert producer.end(commit=False) == 0  # it was aborted, and the client may continue
    begin(producer, b"again")
    assert producer.end(commit=True) == 0
    assert committed_values(broker, "t") == [b"again"]


def test_a_transaction_that_grows_is_not_open_any_longer() -> None:
    broker = new_broker()
    producer = new_producer(broker, timeout_ms=30_000)
    begin(producer, b"first")
    broker.advance(20_000)
    begin(producer, b"second", partition=1)
    broker.advance(25_000)
    assert [last_stable_offset(broker, partition) for partition in (0, 1)] == [2, 2]
    assert producer.end(commit=True) == ErrorCode.INVALID_TXN_STATE


@pytest.mark.parametrize(("timeout_ms", "error"), [(0, 50), (900_001, 50), (900_000, 0)])
def test_timeouts_have_limits(timeout_ms: int, error: int) -> None:
    assert Producer(new_broker(), "tx", timeout_ms=timeout_ms).init().error_code == error


def test_a_batch_must_be_in_its_producers_transaction() -> None:
    broker = new_broker()
    first = new_producer(broker, version=1)
    assert first.produce("t", b"not added") == ErrorCode.INVALID_TXN_STATE
    first.sequences = {}
    begin(first, b"added")
    assert first.end(commit=True) == 0
    assert first.produce("t", b"after the end") == ErrorCode.INVALID_TXN_STATE
    assert first.add("unknown") == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    stranger = Producer(broker, "nobody")
    stranger.producer_id, stranger.epoch = 77, 0
    assert stranger.produce("t", b"x") == ErrorCode.INVALID_PRODUCER_ID_MAPPING
    assert stranger.end(commit=True) == ErrorCode.INVALID_PRODUCER_ID_MAPPING


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize("restarts", [True, False])
def test_offsets_count_when_the_transaction_commits(version: int, commit: bool, restarts: bool) -> None:
    broker = new_broker()
    producer = new_producer(broker, version)
    if version < 2:
        assert producer.commit_offset("g", "t", 5) == ErrorCode.TRANSACTION_ABORTABLE
        assert producer.add_offsets("g") == 0
    assert producer.commit_offset("g", "t", 5) == 0
    if restarts:
        broker.kill()
    assert fetched_offset(broker, "g", "t") == (-1, ErrorCode.UNSTABLE_OFFSET_COMMIT)
    assert fetched_offset(broker, "g", "t", stable=False) == (-1, 0)
    assert producer.end(commit=commit) == 0
    assert fetched_offset(broker, "g", "t") == (5 if commit else -1, 0)
    if restarts:
        broker.kill()
    assert fetched_offset(broker, "g", "t") == (5 if commit else -1, 0)


def test_a_member_of_an_older_generation_cannot_commit_in_a_transaction() -> None:
    broker = new_broker()
    producer = new_producer(broker)
    stale = {"generation_id_or_member_epoch": 3, "member_id": "gone"}
    assert producer.commit_offset("g", "t", 5, **stale) == ErrorCode.ILLEGAL_GENERATION


def test_what_was_decided_before_a_crash_is_carried_out_after_it() -> None:
    broker = new_broker()
    producer = new_producer(broker)
    begin(producer, b"a")
    begin(producer, b"b", partition=1)
    producer.commit_offset("g", "t", 9)
    broker.hold_syncs = True
    pending = producer.send_end(commit=True)
    broker.begin_sync()
    assert broker.disk.sync() is None  # the decision is on disk, and nothing more
    assert not pending.is_done
    broker.kill()
    broker.hold_syncs = False
    broker.sync()
    assert committed_values(broker, "t") == [b"a"]
    assert committed_values(broker, "t", 1) == [b"b"]
    assert fetched_offset(broker, "g", "t") == (9, 0)
    assert broker.core.transactions.transactions["tx"].state is TransactionState.COMPLETE_COMMIT


def test_administrators_see_transactions_and_end_hanging_ones() -> None:
    broker = new_broker()
    producer = new_producer(broker)
    begin(producer, b"a", b"b")
    listed = broker.call(ApiKey.LIST_TRANSACTIONS, 2, ListTransactionsRequest(["Ongoing", "Nonsense"]))
    assert [s.transactional_id for s in listed.transaction_states] == ["tx"]
    assert listed.unknown_state_filters == ["Nonsense"]
    for wanted, count in (
        (ListTransactionsRequest(duration_filter=1000), 0),
        (ListTransactionsRequest(producer_id_filters=[producer.producer_id]), 1),
        (ListTransactionsRequest(transactional_id_pattern="t."), 1),
        (ListTransactionsRequest(transactional_id_pattern="t"), 0),
    ):
        assert len(broker.call(ApiKey.LIST_TRANSACTIONS, 2, wanted).transaction_states) == count
    refused = broker.call(ApiKey.LIST_TRANSACTIONS, 2, ListTransactionsRequest(transactional_id_pattern="("))
    assert refused.error_code == ErrorCode.INVALID_REGULAR_EXPRESSION
    described = broker.call(ApiKey.DESCRIBE_TRANSACTIONS, 0, DescribeTransactionsRequest(["tx", "no"]))
    found, missing = described.transaction_states
    assert (found.transaction_state, found.topics[0].partitions) == ("Ongoing", [0])
    assert missing.error_code == ErrorCode.TRANSACTIONAL_ID_NOT_FOUND
    topic = DescribeProducersRequest.TopicRequest("t", [0, 9])
    known, unknown = broker.call(ApiKey.DESCRIBE_PRODUCERS, 0, DescribeProducersRequest([topic])).topics[0].partitions
    state = known.active_producers[0]
    assert (state.producer_id, state.last_sequence, state.current_txn_start_offset) == (producer.producer_id, 1, 0)
    assert unknown.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    marker = WriteTxnMarkersRequest.WritableTxnMarker(
        producer.producer_id, producer.epoch, False, [WriteTxnMarkersRequest.WritableTxnMarkerTopic("t", [0])]
    )
    written = broker.call(ApiKey.WRITE_TXN_MARKERS, 1, WriteTxnMarkersRequest([marker]))
    assert written.markers[0].topics[0].partitions[0].error_code == 0
    assert last_stable_offset(broker) == 3
    marker.producer_epoch -= 1
    old = broker.call(ApiKey.WRITE_TXN_MARKERS, 1, WriteTxnMarkersRequest([marker]))
    assert old.markers[0].topics[0].partitions[0].error_code == ErrorCode.INVALID_PRODUCER_EPOCH


def test_latest_is_the_last_stable_offset_for_readers_of_committed_records() -> None:
    broker = new_broker()
    begin(new_producer(broker), b"a")
    wanted = ListOffsetsRequest.ListOffsetsTopic("t", [ListOffsetsRequest.ListOffsetsPartition(0, -1, -1)])
    for level, offset in ((0, 1), (READ_COMMITTED, 0)):
        answer = broker.call(ApiKey.LIST_OFFSETS, 7, ListOffsetsRequest(-1, level, [wanted]))
        assert answer.topics[0].partitions[0].offset == offset


def test_a_fetch_of_committed_records_waits_for_the_marker() -> None:
    broker = new_broker()
    producer = new_producer(broker)
    request = broker.fetch_request("t", 0, isolation_level=READ_COMMITTED, max_wait_ms=5000)
    waiting = broker.send(ApiKey.FETCH, 12, request)
    begin(producer, b"a")
    assert not waiting.is_done
    assert producer.end(commit=True) == 0
    assert waiting.message.responses[0].partitions[0].last_stable_offset == 2


def test_ids_that_nobody_uses_are_forgotten() -> None:
    broker = new_broker(pairs={"transactional.id.expiration.ms": 7_200_000})
    new_producer(broker)
    broker.core.timers.run_due()
    for _ in range(3):
        broker.clock.advance(3_600_001)
        broker.core.timers.run_due()
        broker.sync()
    assert broker.core.transactions.transactions == {}
    broker.kill()
    assert broker.core.transactions.transactions == {}


@pytest.mark.parametrize("state", list(TransactionState))
def test_records_say_all_there_is_to_say(state: TransactionState) -> None:
    partitions = frozenset() if state is TransactionState.EMPTY else frozenset({("a", 1), ("a", 2), ("b", 0)})
    before = Transaction("id", 7, 3, 1000, state, partitions, 5, 6, 4, 9, 2)
    for record in (TransactionRecord("id", before), TransactionRecord("id", None)):
        key, value, *_ = encoded_record(record)
        assert read_record(key, value) == record


def test_many_transactions_are_ended_and_forgotten_in_slices() -> None:
    broker = Harness(clock=TickingClock(), pairs={"transactional.id.expiration.ms": 100_000})
    broker.create_topic("t", 2)
    for number in range(60):
        begin(new_producer(broker, name=f"tx{number}", timeout_ms=1000), b"v")
    transactions = broker.core.transactions
    assert {t.state for t in transactions.transactions.values()} == {TransactionState.ONGOING}
    counts = []
    for wait_ms in (10_000, 3_600_000):  # the intervals at which they are ended, and forgotten
        broker.clock.advance(wait_ms)
        for _ in range(100):
            broker.core.timers.run_due()
            broker.sync()
            open_count = sum(t.state is TransactionState.ONGOING for t in transactions.transactions.values())
            counts.append((len(transactions.transactions), open_count))
    assert counts[99] == (60, 0)
    assert counts[-1] == (0, 0)
    assert len(set(counts)) > 6  # not all at once
