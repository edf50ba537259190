"""Transactions alone, without a broker: their life, a disk that fails, crashes, and what any history leaves behind."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.coordinators.transactions import transaction as transaction_module
from headwater.coordinators.transactions.coordinator import ProducerAnswer, TransactionCoordinator
from headwater.coordinators.transactions.transaction import (
    EPOCH_MAX,
    Transaction,
    TransactionRecord,
    TransactionState,
    encoded_record,
    read_record,
)
from headwater.effects.clock import ManualClock
from headwater.effects.work import at_once
from headwater.protocol.error_codes import ErrorCode
from headwater.replay.deferred import Deferred
from headwater.replay.sync_number import SyncNumber
from tests.replay.diagrams import transitions
from tests.replay.state_log import MemoryStateLog

TIMEOUT_MS, EXPIRATION_MS = 60_000, 3_600_000
FULL = OSError(errno.ENOSPC, "the disk is full")


class Scene:
    """A coordinator on a disk and a clock of its own; it is also what writes the markers."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.log: MemoryStateLog[TransactionRecord] = MemoryStateLog()
        self.marker_error: OSError | None = None
        self.outcomes: dict[tuple[str, int], bool] = {}  # by id and start: what the markers said
        self.marker_syncs: dict[str, SyncNumber] = {}
        self.producer_id = 0
        self.seen: set[tuple[str, str]] = set()
        self.coordinator = self.new_coordinator()

    def new_coordinator(self) -> TransactionCoordinator:
        return TransactionCoordinator(
            self.clock, self.log, self, self.next_producer_id, timeout_ms_max=TIMEOUT_MS, expiration_ms=EXPIRATION_MS
        )

    def next_producer_id(self) -> int:
        if self.log.error is not None:
            raise self.log.error
        self.producer_id += 1
        return self.producer_id

    def write_markers(self, transaction: Transaction, *, commit: bool) -> SyncNumber:
        name = transaction.transactional_id
        durable = [record.transaction for record in self.log.durable_records if record.transactional_id == name]
        assert durable[-1] == transaction, "markers of an outcome that is not on disk"
        if self.marker_error is not None:
            raise self.marker_error
        told_before = self.outcomes.setdefault((name, transaction.started_ms), commit)
        assert told_before is commit, "one transaction has two outcomes"
        sync = self.marker_syncs[name] = self.log.append("markers", [])
        return sync

    def crash(self) -> None:
        """A start with what is on disk."""
        self.log.crash()
        self.coordinator = self.new_coordinator()
        for record in self.log.records:
            self.coordinator.replay(record)
        self.coordinator.started()

    def state_of(self, name: str) -> TransactionState:
        return self.coordinator.transactions[name].state

    @contextmanager
    def broken_disk(self) -> Iterator[None]:
        self.log.error = FULL
        yield
        self.log.error = None


class Client:
    """One instance of a transactional producer."""

    def __init__(self, scene: Scene, name: str = "tx", version: int = 2) -> None:
        self.scene = scene
        self.name = name
        self.version = version
        self.producer_id = self.epoch = -1
        self.started_ms = -1
        self.answer: ProducerAnswer | None = None

    def wait_for(self, answer: ProducerAnswer | Deferred[ProducerAnswer]) -> None:
        self.answer = None
        if isinstance(answer, Deferred):
            answer.when_done(self.take)
        else:
            self.take(answer)

    def take(self, answer: ProducerAnswer) -> None:
        self.answer = answer
        if answer.error is ErrorCode.NONE:
            self.producer_id, self.epoch = answer.producer_id, answer.producer_epoch

    def init(self, *, again: bool = False) -> "Client":
        """Asks for an epoch; `again` names the one that it has."""
        named = (self.producer_id, self.epoch) if again else (-1, -1)
        self.wait_for(self.scene.coordinator.init(self.name, TIMEOUT_MS, *named))
        return self

    def add(self, partition: int = 0) -> ErrorCode:
        error, _ = self.scene.coordinator.add(self.name, self.producer_id, self.epoch, [("t", partition)], self.version)
        if error is ErrorCode.NONE:
            self.started_ms = self.scene.coordinator.transactions[self.name].started_ms
        return error

    def end(self, *, commit: bool) -> None:
        self.answer = None
        scene, started_ms = self.scene, self.started_ms

        def ended(answer: ProducerAnswer) -> None:
            if answer.error is ErrorCode.NONE:
                assert scene.marker_syncs[self.name] <= scene.log.synced, "told before the markers are on disk"
                assert scene.outcomes.get((self.name, started_ms), commit) is commit
            self.take(answer)

        answer = scene.coordinator.end(
            self.name, self.producer_id, self.epoch, commit=commit, client_version=self.version
        )
        if isinstance(answer, Deferred):
            answer.when_done(ended)
        else:
            ended(answer)


def error_of(client: Client) -> ErrorCode | None:
    """The client's answer; None while it waits."""
    return None if client.answer is None else client.answer.error


def begun(version: int = 2) -> Client:
    """A client with an open transaction, all on disk."""
    client = Client(Scene(), version=version).init()
    client.scene.log.sync()
    assert client.add() is ErrorCode.NONE
    client.scene.log.sync()
    return client


# -- a transaction's life


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("commit", [False, True])
def test_a_transaction_begins_grows_and_ends_in_three_steps(version: int, commit: bool) -> None:
    client = begun(version)
    scene, epoch = client.scene, client.epoch
    assert client.add(1) is ErrorCode.NONE
    assert scene.coordinator.transactions["tx"].partitions == {("t", 0), ("t", 1)}
    client.end(commit=commit)
    prepared = TransactionState.PREPARE_COMMIT if commit else TransactionState.PREPARE_ABORT
    assert (scene.state_of("tx"), scene.outcomes) == (prepared, {})
    scene.log.sync_once()
    assert (scene.state_of("tx"), list(scene.outcomes.values())) == (prepared, [commit])
    assert error_of(client) is None
    scene.log.sync_once()
    assert scene.state_of("tx").is_complete
    assert error_of(client) is ErrorCode.NONE
    assert client.epoch == epoch + (version == 2)


def test_an_answer_to_init_waits_for_the_disk() -> None:
    client = Client(Scene()).init()
    assert error_of(client) is None
    client.scene.log.sync()
    assert (error_of(client), client.epoch) == (ErrorCode.NONE, 0)


def test_one_that_is_open_too_long_is_aborted_and_its_client_fenced() -> None:
    client = begun()
    scene = client.scene
    scene.clock.advance(TIMEOUT_MS + 1)
    at_once(scene.coordinator.abort_overdue())
    scene.log.sync()
    assert scene.state_of("tx") is TransactionState.COMPLETE_ABORT
    assert client.add() is ErrorCode.PRODUCER_FENCED


def test_a_newer_instance_waits_until_what_the_older_one_left_is_aborted() -> None:
    old = begun()
    scene = old.scene
    new = Client(scene).init()
    scene.log.sync_once()
    assert error_of(new) is None
    scene.log.sync()
    assert list(scene.outcomes.values()) == [False]
    assert (error_of(new), new.producer_id) == (ErrorCode.NONE, old.producer_id)
    assert new.epoch > old.epoch
    assert old.add() is ErrorCode.PRODUCER_FENCED


@pytest.mark.parametrize("version", [1, 2])
def test_nobody_continues_with_the_epoch_that_is_kept_for_a_fence(version: int) -> None:
    """A transaction of that epoch could never be ended: there is none after it."""
    scene = Scene()
    name = "tx"
    last = Transaction(name, 1, EPOCH_MAX, TIMEOUT_MS, TransactionState.COMPLETE_ABORT, updated_ms=1)
    scene.coordinator.change(last)
    client = Client(scene, version=version)
    client.producer_id, client.epoch = 1, EPOCH_MAX
    assert client.add() is ErrorCode.PRODUCER_FENCED
    for commit in (False, True):
        client.end(commit=commit)
        assert error_of(client) is ErrorCode.PRODUCER_FENCED
    assert scene.coordinator.verify(name, 1, EPOCH_MAX, ("t", 0)) is ErrorCode.PRODUCER_FENCED
    assert scene.coordinator.transactions[name] == last


def test_nobody_is_given_the_epoch_that_is_kept_for_a_fence() -> None:
    """A client whose last transaction timed out, and that aborts it then, needs another producer id."""
    scene = Scene()
    scene.coordinator.change(Transaction("tx", scene.next_producer_id(), EPOCH_MAX - 2, TIMEOUT_MS, updated_ms=1))
    client = Client(scene).init()
    scene.log.sync()
    assert client.epoch == EPOCH_MAX - 1
    client.add()
    scene.clock.advance(TIMEOUT_MS + 1)
    at_once(scene.coordinator.abort_overdue())
    scene.log.sync()
    client.end(commit=False)
    assert (error_of(client), client.epoch) == (ErrorCode.PRODUCER_FENCED, EPOCH_MAX - 1)
    client.init(again=True)
    assert error_of(client) is ErrorCode.PRODUCER_FENCED
    client.init()
    scene.log.sync()
    assert (error_of(client), client.producer_id, client.epoch) == (ErrorCode.NONE, 2, 0)
    assert client.add() is ErrorCode.NONE


def test_ids_that_nobody_uses_are_forgotten() -> None:
    client = Client(Scene()).init()
    scene = client.scene
    scene.clock.advance(EXPIRATION_MS + 1)
    at_once(scene.coordinator.remove_expired())
    assert (scene.coordinator.transactions, scene.coordinator.owners) == ({}, {})
    assert client.add() is ErrorCode.INVALID_PRODUCER_ID_MAPPING


# -- appends that fail


def test_every_append_may_fail_and_be_tried_again() -> None:
    scene = Scene()
    client, code = Client(scene), ErrorCode.COORDINATOR_NOT_AVAILABLE
    with scene.broken_disk():
        client.init()
    assert (error_of(client), scene.coordinator.transactions) == (code, {})
    client.init()
    scene.log.sync()
    before = dict(scene.coordinator.transactions)
    with scene.broken_disk():
        assert client.add() is code
    assert scene.coordinator.transactions == before
    assert client.add() is ErrorCode.NONE
    before = dict(scene.coordinator.transactions)
    with scene.broken_disk():
        client.end(commit=True)
    assert (error_of(client), scene.coordinator.transactions) == (code, before)
    with scene.broken_disk():
        other = Client(scene).init()
    assert (error_of(other), scene.coordinator.transactions) == (code, before)
    scene.clock.advance(TIMEOUT_MS + 1)
    with scene.broken_disk(), pytest.raises(ExceptionGroup):
        at_once(scene.coordinator.abort_overdue())
    assert scene.coordinator.transactions == before
    client.end(commit=True)
    scene.log.sync()
    assert error_of(client) is ErrorCode.NONE


@pytest.mark.parametrize("what", ["markers", "their end"])
def test_what_cannot_be_ended_is_ended_later_as_it_was_decided(what: str) -> None:
    client = begun()
    scene = client.scene
    client.end(commit=True)
    if what == "markers":
        scene.marker_error = FULL
        scene.log.sync_once()
    else:
        scene.log.sync_once()
        with scene.broken_disk():
            scene.log.sync_once()
    assert error_of(client) is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert scene.state_of("tx") is TransactionState.PREPARE_COMMIT
    client.end(commit=True)
    assert error_of(client) is ErrorCode.CONCURRENT_TRANSACTIONS
    scene.marker_error = None
    at_once(scene.coordinator.abort_overdue())
    scene.log.sync()
    assert scene.state_of("tx") is TransactionState.COMPLETE_COMMIT
    client.end(commit=True)
    assert error_of(client) is ErrorCode.NONE


# -- any history


class Step(NamedTuple):
    """What happens, and to which client."""

    what: str
    client: int


STEPS = {
    "init": 3,
    "init again": 3,
    "add": 8,
    "commit": 4,
    "abort": 4,
    "guess": 1,
    "wait": 1,
    "idle": 1,
    "overdue": 3,
    "break": 1,
    "break markers": 1,
    "mend": 3,
    "sync once": 10,
    "crash": 1,
}
any_step = st.builds(
    Step, st.sampled_from([what for what, weight in STEPS.items() for _ in range(weight)]), st.integers(0, 4)
)
NAMES = ("a", "a", "a", "b", "b")
VERSIONS = (2, 2, 1, 1, 2)


def act(scene: Scene, clients: list[Client], step: Step) -> None:
    client = clients[step.client]
    match step.what:
        case "init" | "init again":
            client.init(again=step.what == "init again" and client.producer_id >= 0)
        case "add":
            client.add(step.client % 2)
        case "commit" | "abort":
            client.end(commit=step.what == "commit")
        case "guess":  # a client that names what it was not given
            known = scene.coordinator.transactions.get(client.name)
            if known is not None:
                client.producer_id, client.epoch = known.producer_id, known.producer_epoch
        case "wait":
            scene.clock.advance(TIMEOUT_MS)
        case "idle" if scene.log.error is None:
            scene.clock.advance(EXPIRATION_MS)
            at_once(scene.coordinator.remove_expired())
        case "overdue" if scene.log.error is None:
            at_once(scene.coordinator.abort_overdue())
        case "break":
            scene.log.error = FULL
        case "break markers":
            scene.marker_error = FULL
        case "mend":
            scene.log.error = scene.marker_error = None
        case "sync once":
            scene.log.sync_once()
        case "crash" if scene.log.error is None:
            scene.crash()


def replayed(records: list[TransactionRecord]) -> dict[str, Transaction]:
    """What a coordinator makes of records that were on disk."""
    coordinator = Scene().coordinator
    for record in records:
        key, value, *_ = encoded_record(record)
        coordinator.replay(read_record(key, value))
    return coordinator.transactions


def check(scene: Scene) -> None:
    coordinator = scene.coordinator
    assert coordinator.owners == {t.producer_id: t.transactional_id for t in coordinator.transactions.values()}
    assert replayed(scene.log.records) == coordinator.transactions
    assert replayed(list(coordinator.snapshot())) == coordinator.transactions
    for transaction in coordinator.transactions.values():
        assert bool(transaction.partitions) <= (transaction.state in IN_TRANSACTION)


IN_TRANSACTION = (TransactionState.ONGOING, TransactionState.PREPARE_COMMIT, TransactionState.PREPARE_ABORT)


def observe(scene: Scene) -> set[tuple[str, str]]:
    """The changes of state that the log has."""
    last: dict[str, str] = {}
    seen = set()
    for name, transaction in scene.log.records:
        if transaction is None:
            last.pop(name, None)
            continue
        label = transaction.state.label
        if last.get(name, label) != label:
            seen.add((last[name], label))
        last[name] = label
    return seen


def play(script: list[Step], epoch: int) -> tuple[Scene, set[tuple[str, str]]]:
    """Does all steps, with checks after each, on ids that have had so many epochs; returns the changes of state."""
    scene, seen = Scene(), set[tuple[str, str]]()
    for name in ("a", "b") if epoch else ():
        scene.coordinator.change(Transaction(name, scene.next_producer_id(), epoch, TIMEOUT_MS, updated_ms=1))
    clients = [Client(scene, name, version) for name, version in zip(NAMES, VERSIONS, strict=True)]
    for step in script:
        scene.clock.advance(1)
        act(scene, clients, step)
        check(scene)
        seen |= observe(scene)
    return scene, seen


DIAGRAM = transitions(transaction_module.__doc__)


@settings(max_examples=150)
@given(st.lists(any_step, max_size=50), st.sampled_from([0, EPOCH_MAX - 3, EPOCH_MAX - 2, EPOCH_MAX - 1]))
def test_after_any_history_records_and_snapshot_make_the_state_and_all_that_is_open_ends(
    script: list[Step], epoch: int
) -> None:
    scene, seen = play(script, epoch)
    assert seen <= DIAGRAM
    scene.log.error = scene.marker_error = None
    scene.log.sync()
    scene.clock.advance(TIMEOUT_MS + 1)
    at_once(scene.coordinator.abort_overdue())
    scene.log.sync()
    check(scene)
    assert not [t for t in scene.coordinator.transactions.values() if t.state in IN_TRANSACTION]


@settings(max_examples=100)
@given(st.lists(any_step, max_size=40))
def test_no_two_instances_are_given_the_same_epoch(script: list[Step]) -> None:
    scene = Scene()
    assigned: dict[tuple[int, int], Client] = {}
    script = [step for step in script if step.what not in ("guess", "crash", "init again")]
    clients = [Client(scene, name, version) for name, version in zip(NAMES, VERSIONS, strict=True)]
    for step in script:
        scene.clock.advance(1)
        act(scene, clients, step)
        if step.what == "init":
            scene.log.sync()
            client = clients[step.client]
            if error_of(client) is ErrorCode.NONE:
                assert assigned.setdefault((client.producer_id, client.epoch), client) is client
                held = {(c.producer_id, c.epoch) for c in clients if c is not client}
                assert (client.producer_id, client.epoch) not in held


def test_every_transition_of_the_diagram_is_made() -> None:
    seen: set[tuple[str, str]] = set()
    names, weights = zip(*STEPS.items(), strict=True)
    for seed in range(120):
        random = Random(seed)
        script = [Step(random.choices(names, weights)[0], random.randrange(5)) for _ in range(60)]
        seen |= play(script, 0)[1]
    assert seen == DIAGRAM
