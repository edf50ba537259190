"""The cut: a prefix of all appends, whatever the journal and the checkpoints do while it is made."""

import itertools
from collections.abc import Iterator
from random import Random

import pytest

from headwater.effects.clock import ManualClock
from headwater.effects.entropy import SeededEntropy
from headwater.effects.memory_files import MemoryFiles
from headwater.effects.work import Steps, at_once
from headwater.protocol.records import Record, build_batch, read_header
from headwater.storage import backup_cut
from headwater.storage.backup_cut import Cut, JournalCopy, Key, make_cut
from headwater.storage.checkpoint import Checkpoint
from headwater.storage.checkpoints import RECOVERY_POINTS, write_offsets
from headwater.storage.config import LogConfig
from headwater.storage.journal_entries import JournalDamage, JournalEntry
from headwater.storage.store import LogStore

LOGS = 4


class Store:
    """A data directory in use; what was appended, in order, and how much of that was acknowledged."""

    def __init__(self, seed: int, journal_file_bytes: int) -> None:
        self.random = Random(seed)
        self.files = MemoryFiles()
        self.store = LogStore(
            self.files, "data", ManualClock(), SeededEntropy(seed), journal_file_bytes=journal_file_bytes
        )
        self.logs = [self.store.open_log("t", bytes([1] * 16), number, LogConfig()) for number in range(LOGS)]
        self.store.recover(lambda topic_id, partition: ("t", LogConfig()))
        self.appended: list[tuple[Key, int]] = []
        self.groups: dict[int, int] = {}  # up to which append each group of the journal goes
        self.acknowledged = 0
        self.checkpoint: Checkpoint | None = None

    def act(self) -> None:
        random, store = self.random, self.store
        action = random.random()
        if action < 0.55:
            log = random.choice(self.logs)
            batch = build_batch([Record(None, bytes(random.randrange(300)))])
            _, group = store.append(log, batch, read_header(batch))
            self.appended.append(((log.topic_id, log.partition), log.end_offset))
            self.groups[group] = len(self.appended)
        elif action < 0.9:
            self.sync()
        elif self.checkpoint is None:
            self.checkpoint = store.begin_checkpoint()
        else:
            self.end_checkpoint()

    def sync(self) -> None:
        group = self.store.journal.take()
        if group is None:
            if self.store.journal.waiting_bytes:  # both files are full
                self.checkpoint = self.checkpoint or self.store.begin_checkpoint()
                self.end_checkpoint()
            return
        self.store.journal.sync(self.store.journal.write(group))
        self.store.sync_done(group)
        self.acknowledged = self.groups[group.number]

    def end_checkpoint(self) -> None:
        checkpoint, self.checkpoint = self.checkpoint, None
        assert checkpoint is not None
        checkpoint.run()
        self.store.finish_checkpoint(checkpoint)

    def prefixes(self) -> dict[tuple[tuple[Key, int], ...], int]:
        """Every prefix of the appends as the logs' ends, with its length."""
        ends: dict[Key, int] = {}
        found: dict[tuple[tuple[Key, int], ...], int] = {(): 0}
        for count, (key, end) in enumerate(self.appended, 1):
            ends[key] = end
            found[tuple(sorted(ends.items()))] = count
        return found


def cut_meanwhile(store: Store, actions_per_step: float) -> Cut | None:
    """Makes the cut while the store runs, also within what the store does to its files."""
    steps = make_cut(store.files, "data", JournalCopy(store.files, "data", store.files, "scratch"))
    found: list[Cut | None] = []
    is_inside = False

    def step(within: Steps[Cut | None]) -> None:
        nonlocal is_inside
        is_inside = True
        try:
            next(within)
        except StopIteration as stop:
            found.append(stop.value)
        finally:
            is_inside = False

    def at_call(call: str, path: str) -> int | None:
        if not is_inside and not found and store.random.random() < 0.1:
            step(steps)
        return None

    store.files.fault = at_call
    actions_left = 100
    while not found:
        step(steps)
        while not found and actions_left and store.random.random() < actions_per_step:
            actions_left -= 1
            store.act()
    store.files.fault = None
    return found[0]


@pytest.mark.parametrize("first", [0, 100])
def test_a_cut_is_a_prefix_of_all_appends(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup_cut, "COPY_BYTES", 700)
    for seed in range(first, first + 100):
        store = Store(seed, Random(seed).choice((6000, 20_000)))
        store.files.make_directory("scratch")
        for _ in range(store.random.randrange(150)):
            store.act()
        acknowledged = store.acknowledged
        cut = cut_meanwhile(store, store.random.choice((0.1, 0.5, 0.8)))
        assert cut is not None
        assert cut.damages == [], seed
        prefixes = store.prefixes()
        ends = tuple(sorted((key, end) for key, end in cut.ends.items() if end))
        assert ends in prefixes, (seed, ends)
        assert acknowledged <= prefixes[ends], (seed, acknowledged, prefixes[ends])


def synced(count: int, journal_file_bytes: int = 1 << 20) -> Store:
    """A store with so many batches, each in a group of its own, all acknowledged."""
    store = Store(0, journal_file_bytes)
    store.files.make_directory("scratch")
    for number in range(count):
        batch = build_batch([Record(None, b"value %d" % number)])
        _, group = store.store.append(store.logs[0], batch, read_header(batch))
        store.groups[group] = number + 1
        store.sync()
    return store


def cut_now(store: Store) -> Cut | None:
    return at_once(make_cut(store.files, "data", JournalCopy(store.files, "data", store.files, "scratch")))


def test_damage_in_the_journal_is_named(caplog: pytest.LogCaptureFixture) -> None:
    store = synced(5)
    content = store.files.open("data/journal/0.journal")
    at = bytes(content.read(content.size(), 0)).find(b"value 2")
    content.write([b"VALUE"], at)
    cut = cut_now(store)
    assert cut is not None
    (damage,) = cut.damages
    assert damage.startswith("data/journal/0.journal is damaged at position")
    assert "it held offset 2 of partition 0" in damage
    assert cut.ends == {(bytes([1] * 16), 0): 5}


def test_a_checkpoint_at_every_step_leaves_no_cut() -> None:
    store = synced(5)
    steps = make_cut(store.files, "data", JournalCopy(store.files, "data", store.files, "scratch"))
    for number in itertools.count():
        try:
            next(steps)
        except StopIteration as stopped:
            assert stopped.value is None
            break
        write_offsets(store.files, f"data/{RECOVERY_POINTS}", {(bytes(16), 0): number})


def test_a_journal_that_grows_while_it_is_copied_does_not_look_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever it grows: a copy that has passed the journal's end must not see what is written beyond its own place."""
    monkeypatch.setattr(backup_cut, "COPY_BYTES", 300)
    for moment in range(0, 60, 2):
        store = synced(20, journal_file_bytes=20_000)
        journal = JournalCopy(store.files, "data", store.files, "scratch")
        heads = journal.heads()
        for step, _ in enumerate(journal.copy(heads)):
            for _ in range(24 if step == moment else 0):
                batch = build_batch([Record(None, b"another value")])
                _, group = store.store.append(store.logs[1], batch, read_header(batch))
                store.groups[group] = 0
                store.sync()
        assert journal.heads() == heads
        items = list(journal.items())
        assert [item.base_offset for item in items if item.partition == 0] == list(range(20))
        assert not any(isinstance(item, JournalDamage) for item in items)


def test_damage_that_a_second_copy_does_not_have_was_none(monkeypatch: pytest.MonkeyPatch) -> None:
    store = synced(3)
    read, copies = JournalCopy.items, []

    def torn_once(journal: JournalCopy) -> Iterator[JournalEntry | JournalDamage]:
        copies.append(journal)
        if len(copies) == 1:
            yield JournalDamage("scratch/0.journal", 4096, 100)
        yield from read(journal)

    monkeypatch.setattr(JournalCopy, "items", torn_once)
    cut = cut_now(store)
    assert cut is not None
    assert (cut.damages, len(copies)) == ([], 2)
