"""Backups of a data directory that is quiet, or changes at one moment that matters; and what is restored from them."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from headwater.broker.configs.settings import Settings
from headwater.broker.core import BrokerCore
from headwater.broker.metadata import Topic
from headwater.broker.partitions import Partitions
from headwater.cli.backup import topics_in
from headwater.effects.clock import ManualClock
from headwater.effects.entropy import SeededEntropy
from headwater.effects.files import File, Files, read_file
from headwater.effects.memory_files import MemoryFiles
from headwater.effects.work import Steps, at_once
from headwater.protocol.records import Record, build_batch
from headwater.storage import backup as backups
from headwater.storage import backup_logs
from headwater.storage.backup import Backup
from headwater.storage.backup_cut import Cut, JournalCopy, make_cut
from headwater.storage.backup_logs import LogCopy, LogReader, SegmentCopy
from headwater.storage.backup_repository import BackupError, Manifest, Repository, restore_backup
from headwater.storage.checkpoints import RECOVERY_POINTS
from headwater.storage.config import LogConfig
from tests.broker.harness import Harness

VALUE = bytes(range(256)) * 4


class Backed(Harness):
    """A broker with small segments, and backups of it in the same memory."""

    segment_bytes = 20_000
    opened = 0

    def log_config(self, topic: Topic) -> LogConfig:
        return LogConfig(segment_bytes=self.segment_bytes, index_interval_bytes=200, retention_ms=-1)

    def open(self) -> BrokerCore:
        harness = self
        self.opened += 1

        class SmallSegments(Partitions):
            def log_config(self, topic: Topic) -> LogConfig:
                return harness.log_config(topic)

        class SmallCore(BrokerCore):
            partitions_class = SmallSegments

        settings, entropy = Settings.from_pairs(self.pairs), SeededEntropy(self.opened)
        return SmallCore(settings, self.files, self.clock, entropy, directory="data")

    def backup(self) -> Manifest:
        repository = self.repository()
        try:
            manifest = at_once(Backup(self.files, "data", repository, self.clock, topics_in).steps())
            repository.remove_unused()
        finally:
            repository.release()
        return manifest

    def repository(self) -> Repository:
        repository = Repository(self.files, "backups", create=True)
        repository.take_lock()
        return repository

    def restored(self, **pairs: object) -> "Backed":
        repository = Repository(self.files, "backups")
        files = MemoryFiles()
        at_once(restore_backup(repository, repository.manifest(repository.backup_ids()[-1]), files, "data"))
        return Backed(files, ManualClock(self.clock.wall_ms()), {**self.pairs, **pairs})

    def fill(self, topic: str, count: int, value: bytes = VALUE) -> None:
        for number in range(count):
            self.produce(topic, b"%d/" % number + value)

    def path(self, name: str) -> str:
        """The newest file of that kind in the directory of t-0."""
        return f"data/t-0/{[n for n in self.files.list_directory('data/t-0') if n.endswith(name)][-1]}"


@pytest.fixture
def broker() -> Backed:
    harness = Backed()
    harness.create_topic("t")
    harness.fill("t", 100)
    return harness


def values(broker: Harness, topic: str = "t") -> list[bytes | None]:
    return [record.value for record in broker.read_all(topic)]


def flip(files: MemoryFiles, path: str, position: int) -> None:
    file = files.open(path)
    file.write([bytes([file.read(1, position)[0] ^ 1])], position)


def test_a_second_backup_stores_only_what_is_new(broker: Backed) -> None:
    first = broker.backup()
    assert first.new_bytes > 100 * len(VALUE)
    broker.clock.advance(5_000)
    second = broker.backup()
    assert second.new_bytes == 0
    assert second.backup_id > first.backup_id
    broker.fill("t", 3)
    broker.clock.advance(5_000)
    third = broker.backup()
    # The end of the last segment, again, and what has come.
    assert 0 < third.new_bytes < broker.segment_bytes + 4 * len(VALUE)
    assert values(broker.restored()) == values(broker)


def test_a_large_segment_that_has_grown_is_not_stored_again(broker: Backed) -> None:
    broker.segment_bytes = 1 << 30
    broker.restart()
    value = bytes(900_000)
    for number in range(3):
        broker.produce("t", b"%d" % number + value)
    broker.backup()
    broker.fill("t", 5)
    broker.clock.advance(5_000)
    manifest = broker.backup()
    assert 0 < manifest.new_bytes < 6 * len(VALUE) + backup_logs.SMALL_PIECE_BYTES
    assert values(broker.restored()) == values(broker)


def test_files_that_did_not_change_are_not_read_again(broker: Backed, monkeypatch: pytest.MonkeyPatch) -> None:
    broker.core.store.checkpoint()
    broker.backup()
    read: list[str] = []

    def noted(self: LogReader, file: File, size: int, position: int, path: str) -> bytes:
        read.append(path)
        return read_part(self, file, size, position, path)

    read_part = LogReader.read
    monkeypatch.setattr(LogReader, "read", noted)
    broker.clock.advance(5_000)
    broker.backup()
    assert not [path for path in read if path.endswith(".log")]


def test_the_restored_broker_has_a_new_epoch_and_the_old_ids(broker: Backed) -> None:
    broker.backup()
    restored = broker.restored()
    assert restored.core.store.cluster_id == broker.core.store.cluster_id
    assert restored.core.metadata.topics["t"].topic_id == broker.core.metadata.topics["t"].topic_id
    assert restored.core.store.leader_epoch == broker.core.store.leader_epoch + 1


def test_indexes_are_restored_as_far_as_a_checkpoint_vouches_for_them(broker: Backed) -> None:
    broker.core.store.checkpoint()
    manifest = broker.backup()
    paths = {file.path for file in manifest.files}
    for suffix in (".log", ".index", ".timeindex", ".sums"):
        assert f"t-0/{0:020d}{suffix}" in paths
    flip(broker.files, f"data/t-0/{0:020d}.index", 3)
    broker.clock.advance(5_000)
    paths = {file.path for file in broker.backup().files}
    assert f"t-0/{0:020d}.sums" in paths
    assert f"t-0/{0:020d}.index" not in paths
    assert values(broker.restored()) == values(broker)


def test_a_damaged_batch_is_named_and_the_rest_is_there(broker: Backed) -> None:
    broker.core.store.checkpoint()
    flip(broker.files, f"data/t-0/{0:020d}.log", 3000)
    manifest = broker.backup()
    (damage,) = manifest.damages
    assert damage.startswith(f"data/t-0/{0:020d}.log is damaged at byte 2")
    broker.clock.advance(5_000)
    assert broker.backup().damages == [damage]  # not read again, and still known
    restored = broker.restored()
    assert restored.fetch("t", 0).error_code == 0
    assert restored.fetch("t", 50).records
    assert restored.core.metadata.topics.keys() == broker.core.metadata.topics.keys()


def test_a_segment_that_was_cut_is_named(broker: Backed) -> None:
    broker.core.store.checkpoint()
    broker.files.open(f"data/t-0/{0:020d}.log").truncate(3000)
    assert any("had" in damage and f"{0:020d}.log" in damage for damage in broker.backup().damages)


def test_a_log_that_is_missing_is_named(broker: Backed) -> None:
    broker.core.store.checkpoint()
    broker.core.store.abandon()
    broker.files.rename("data/t-0", "elsewhere")
    (damage,) = broker.backup().damages
    assert damage == "data/t-0 is missing; it held offsets 0 to 99"


def test_partition_metadata_that_is_damaged_is_named_and_mended(broker: Backed) -> None:
    broker.core.store.checkpoint()
    broker.core.store.abandon()
    flip(broker.files, "data/t-0/partition.metadata", 30)
    (damage,) = broker.backup().damages
    assert damage == "data/t-0/partition.metadata is damaged or missing"
    expected = values(broker.restored())
    assert len(expected) == 100


@pytest.mark.parametrize("seed", range(10))
def test_what_only_the_journal_has_after_a_power_cut_is_there(seed: int) -> None:
    files = MemoryFiles(crashable=True)
    broker = Backed(files)
    broker.create_topic("t")
    broker.fill("t", 30)
    if seed % 2:
        broker.core.store.checkpoint()
    broker.create_topic("u")
    broker.fill("t", 30)
    broker.fill("u", 3)
    expected = values(broker), values(broker, "u")
    files.crash(Random(seed))
    manifest = broker.backup()
    assert manifest.damages == []
    restored = broker.restored()
    assert (values(restored), values(restored, "u")) == expected


def test_without_a_journal_the_logs_themselves_are_believed() -> None:
    broker = Backed(pairs={"headwater.durability": "page-cache"})
    broker.create_topic("t")
    broker.fill("t", 30)
    broker.backup()
    assert values(broker.restored()) == values(broker)


def test_a_full_disk_that_leaves_the_journal_out(broker: Backed) -> None:
    """Then the broker syncs the logs, and only they have what was acknowledged."""
    durability, taken = broker.core.durability, []

    def full(call: str, path: str) -> int | None:
        return 28 if call == "write" and path.endswith(".journal") else None

    broker.files.fault = full
    broker.hold_syncs = True
    pending = broker.produce_batch("t", build_batch([Record(None, b"last", (), broker.clock.wall_ms())]))
    broker.begin_sync()
    taken.append(durability.shortage)
    broker.files.fault = None
    assert pending.is_done
    broker.backup()
    assert values(broker.restored())[-1] == b"last"


def test_a_clean_stop(broker: Backed) -> None:
    broker.core.close()
    broker.backup()
    assert len(values(broker.restored())) == 100


@pytest.mark.parametrize("size", [0, 1000, 4096, 5000, 8192, 10_000])
def test_what_was_set_aside_is_kept(broker: Backed, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup_logs, "PIECE_BYTES", 4096)
    name = f"data/t-0/{7:020d}.log.aside"
    content = bytes(range(250)) * 40
    broker.files.open(name, create=True).write([content[:size]], 0)
    broker.backup()
    assert read_file(broker.restored().files, name) == content[:size]


# -- what comes between the cut and the rest


def with_cut(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> list[int]:
    """Has something done right after the first cut. Returns the cuts that were made."""
    cuts: list[int] = []

    def cut_then(source: Files, directory: str, journal: JournalCopy) -> Steps[Cut | None]:
        cut = yield from make_cut(source, directory, journal)
        cuts.append(len(cuts))
        if len(cuts) == 1:
            action()
        return cut

    monkeypatch.setattr(backups, "make_cut", cut_then)
    return cuts


def after_copy(monkeypatch: pytest.MonkeyPatch, name: str, action: Callable[[], object]) -> None:
    """Has something done each time when the backup has copied a log, before the cut."""
    reader_copy = LogReader.copy

    def copy_then(self: LogReader, copied: str, point: int, held: LogCopy | None) -> Steps[LogCopy | None]:
        copy = yield from reader_copy(self, copied, point, held)
        if copied == name:
            action()
        return copy

    monkeypatch.setattr(LogReader, "copy", copy_then)


def test_what_comes_after_the_cut_is_not_in_it(broker: Backed, monkeypatch: pytest.MonkeyPatch) -> None:
    after_copy(monkeypatch, "t-0", lambda: broker.fill("t", 5))
    cuts = with_cut(monkeypatch, lambda: broker.fill("t", 50))
    broker.backup()
    assert cuts == [0]
    assert len(values(broker.restored())) == 105


class Compacted(Backed):
    """`c` is compacted as soon as it may be; nearly all of its keys are written once, so its segments stay apart."""

    number = 0

    def log_config(self, topic: Topic) -> LogConfig:
        config = super().log_config(topic)
        return replace(config, compact=True, min_cleanable_dirty_ratio=0.0) if topic.name == "c" else config

    def write(self, count: int, key: bytes = b"") -> None:
        """Records of new keys; with a key, one more of that, in their middle."""
        for number in range(count):
            self.number += 1
            keys = [b"%d" % self.number, *([key] if key and number == count // 2 else ())]
            for name in keys:
                record = Record(name, b"%d" % self.number + VALUE, (), self.clock.wall_ms())
                assert self.produce_batch("c", build_batch([record])).is_done

    def compact(self) -> None:
        """Writes `special` again, and compacts all that is sealed."""
        before = self.counters.totals["compactions"]
        self.write(60, b"special")
        self.core.durability.begin_checkpoint()
        self.core.compact()
        self.advance(2_000)
        assert self.counters.totals["compactions"] > before

    def keys(self) -> list[bytes | None]:
        return [record.key for record in self.read_all("c")]


def compacted() -> Compacted:
    broker = Compacted()
    broker.create_topic("c")
    broker.write(50)
    return broker


def test_a_compaction_after_the_cut_makes_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has removed a record below the cut in favour of one beyond it."""
    broker = compacted()
    after_copy(monkeypatch, "c-0", lambda: broker.write(1, b"special"))
    cuts = with_cut(monkeypatch, broker.compact)
    broker.backup()
    assert cuts == [0, 1]
    assert b"special" in restored_keys(broker)


def test_a_compaction_while_the_rest_is_copied_makes_another_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = compacted()
    after_copy(monkeypatch, "c-0", lambda: broker.write(50, b"special"))
    cuts = with_cut(monkeypatch, lambda: None)
    read_segment, is_compacted = LogReader.segment, False

    def segment_then(
        self: LogReader, name: str, base: int, point: int, limit: int | None, held: SegmentCopy | None
    ) -> Steps[SegmentCopy]:
        nonlocal is_compacted
        copy = yield from read_segment(self, name, base, point, limit, held)
        if name == "c-0" and limit is not None and not is_compacted:
            is_compacted = True
            broker.compact()
        return copy

    monkeypatch.setattr(LogReader, "segment", segment_then)
    broker.backup()
    assert is_compacted
    assert len(cuts) > 1
    assert b"special" in restored_keys(broker)


def test_a_compaction_while_a_log_is_copied_has_it_copied_again(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = compacted()
    broker.write(50, b"special")
    read_segment, is_compacted, copied = LogReader.segment, False, []

    def segment_then(
        self: LogReader, name: str, base: int, point: int, limit: int | None, held: SegmentCopy | None
    ) -> Steps[SegmentCopy]:
        nonlocal is_compacted
        copy = yield from read_segment(self, name, base, point, limit, held)
        if name == "c-0":
            copied.append(copy.base_offset)
            if not is_compacted:
                is_compacted = True
                broker.compact()
        return copy

    monkeypatch.setattr(LogReader, "segment", segment_then)
    broker.backup()
    assert copied.count(0) > 1
    assert b"special" in restored_keys(broker)


def restored_keys(broker: Compacted) -> list[bytes | None]:
    restored = broker.restored()
    assert all(not log.damages for log in restored.core.store.logs.values())
    return [record.key for record in restored.read_all("c")]


def test_a_log_that_came_into_being_and_was_compacted_after_the_cut(
    broker: Backed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that the backup sees first after the cut, with more than one segment: the cut is made again."""
    reader_copy = LogReader.copy

    def create_late(self: LogReader, name: str, point: int, held: LogCopy | None) -> Steps[LogCopy | None]:
        copy = yield from reader_copy(self, name, point, held)
        if name == "t-0" and "late" not in broker.core.metadata.topics:
            broker.create_topic("late")
            broker.fill("late", 5)
        return copy

    monkeypatch.setattr(LogReader, "copy", create_late)
    cuts = with_cut(monkeypatch, lambda: broker.fill("late", 60))
    broker.backup()
    assert cuts == [0, 1]
    assert len(values(broker.restored(), "late")) == 65


def test_a_removal_after_the_cut_makes_another(broker: Backed, monkeypatch: pytest.MonkeyPatch) -> None:
    def delete_all() -> None:
        broker.fill("t", 40)
        broker.core.store.checkpoint()
        log = broker.core.partitions.log(broker.core.metadata.topics["t"], 0)
        broker.core.store.advance_start({log: log.end_offset})

    reader_copy = LogReader.copy

    def grow(self: LogReader, name: str, point: int, held: LogCopy | None) -> Steps[LogCopy | None]:
        copy = yield from reader_copy(self, name, point, held)
        broker.fill("t", 1)
        return copy

    monkeypatch.setattr(LogReader, "copy", grow)
    cuts = with_cut(monkeypatch, delete_all)
    manifest = broker.backup()
    assert len(cuts) > 1
    assert manifest.damages == []
    restored = broker.restored()
    log = restored.core.partitions.log(restored.core.metadata.topics["t"], 0)
    assert log.start_offset >= 140


def test_a_topic_that_is_deleted_after_the_cut(broker: Backed, monkeypatch: pytest.MonkeyPatch) -> None:
    def delete() -> None:
        broker.core.topics.delete(broker.core.metadata.topics["t"])
        broker.sync()

    with_cut(monkeypatch, delete)
    manifest = broker.backup()
    assert manifest.damages == []
    assert "t" not in broker.restored().core.metadata.topics


def test_a_directory_that_never_rests(broker: Backed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backups, "ROUNDS_MAX", 3)

    def never(self: LogReader, *arguments: object) -> Steps[None]:
        yield

    monkeypatch.setattr(LogReader, "rest", never)
    with pytest.raises(BackupError, match="gave up after 3 rounds"):
        broker.backup()
    assert Repository(broker.files, "backups").backup_ids() == []


# -- what cannot be copied


def test_not_a_data_directory() -> None:
    files = MemoryFiles()
    files.make_directory("data")
    repository = Repository(files, "backups", create=True)
    repository.take_lock()
    with pytest.raises(BackupError, match="data is not a data directory: it has no"):
        at_once(Backup(files, "data", repository, ManualClock(), topics_in).steps())


def test_a_file_that_cannot_be_read_is_named(broker: Backed) -> None:
    broker.files.fault = lambda call, path: 5 if call == "read" and path.endswith(f"t-0/{0:020d}.log") else None
    with pytest.raises(BackupError, match=f"data/t-0/{0:020d}.log cannot be read at byte 0: Input/output error"):
        broker.backup()


def test_a_full_disk_is_named(broker: Backed) -> None:
    broker.backup()
    broker.fill("t", 3)
    broker.clock.advance(5_000)
    broker.files.fault = lambda call, path: 28 if call == "write" and path.startswith("backups/objects") else None
    with pytest.raises(BackupError, match=r"backups/objects/.* cannot be written: No space left"):
        broker.backup()
    broker.files.fault = None
    assert len(Repository(broker.files, "backups").backup_ids()) == 1
    broker.backup()
    assert values(broker.restored()) == values(broker)


def test_lost_recovery_points(broker: Backed) -> None:
    broker.core.store.checkpoint()
    for name in (RECOVERY_POINTS, RECOVERY_POINTS + ".copy"):
        broker.files.remove(f"data/{name}")
    broker.backup()
    assert values(broker.restored()) == values(broker)
