"""The repository: a killed backup leaves it good, damage in it is named, and what nobody needs goes."""

import json
from random import Random

import pytest

from headwater.cli.backup import topics_in
from headwater.effects.clock import ManualClock
from headwater.effects.memory_files import MemoryFiles
from headwater.effects.work import at_once
from headwater.storage.backup import Backup
from headwater.storage.backup_repository import BackupError, Manifest, Repository, StoredFile, restore_backup
from headwater.storage.errors import DirectoryInUseError, FormatError
from tests.broker.harness import Harness
from tests.storage.test_backup import Backed, values


class Killed(BaseException):
    """The process is gone."""


def filled(files: MemoryFiles | None = None) -> Backed:
    broker = Backed(files)
    broker.create_topic("t")
    broker.fill("t", 40)
    return broker


def small_repository(files: MemoryFiles, *contents: bytes) -> tuple[Repository, Manifest]:
    repository = Repository(files, "backups", create=True)
    repository.take_lock()
    manifest = Manifest("one", 0, "data", "cluster")
    for number, content in enumerate(contents):
        manifest.files.append(StoredFile(f"f{number}", len(content), [repository.put(content)]))
    manifest.files.append(StoredFile("meta.properties", 1, content=b"m"))
    repository.commit(manifest)
    return repository, manifest


def test_a_backup_that_is_killed_anywhere_leaves_the_repository_good() -> None:
    """At every call that writes, by SIGKILL or a power cut: what was there is whole, and the next backup ends well."""
    calls = 0
    for number in range(10_000):
        files, random = MemoryFiles(crashable=True), Random(number)
        broker = filled(files)
        first = broker.backup()
        broker.fill("t", 5)
        broker.clock.advance(5_000)
        calls = 0

        def kill(call: str, path: str, at: int = number) -> int | None:
            nonlocal calls
            if path.startswith("backups") and call in (
                "write",
                "rename",
                "sync",
                "sync_directory",
                "remove",
                "truncate",
            ):
                calls += 1
                if calls > at:
                    raise Killed
            return None

        files.fault = kill
        try:
            broker.backup()
        except Killed:
            pass
        else:
            break
        finally:
            files.fault = None
        if number % 2:
            broker.core.store.abandon()
            files.crash(random)
        files.locks.discard("backups/.lock")
        repository = Repository(files, "backups")
        repository.take_lock()
        ids = repository.backup_ids()
        assert ids[0] == first.backup_id
        assert at_once(repository.verify([repository.manifest(backup_id) for backup_id in ids])) == []
        repository.release()
        broker.clock.advance(5_000)
        last = broker.backup()
        assert last.damages == []
        assert len(values(broker.restored())) == 45
        used = {
            piece.sha256 for backup_id in repository.backup_ids() for piece in repository.manifest(backup_id).pieces
        }
        repository.take_lock()
        assert repository.objects == used
        assert not any(name.endswith(".tmp") for folder in repository.folders() for name in repository.names(folder))
    assert calls > 20


def test_a_damaged_piece_is_named_and_stored_again() -> None:
    broker = filled()
    broker.core.store.checkpoint()
    manifest = broker.backup()
    repository = broker.repository()
    log = next(file for file in manifest.files if file.path.startswith("t-0/") and file.path.endswith(".log"))
    path = repository.object_path(log.pieces[0].sha256)
    broker.files.open(path).write([b"x"], 10)
    with pytest.raises(BackupError, match=f"{log.path} cannot be restored: {path} is damaged; restore another"):
        at_once(restore_backup(repository, manifest, MemoryFiles(), "data"))
    (problem,) = at_once(repository.verify([manifest]))
    assert problem == f"{path} is damaged: {log.path} of {manifest.backup_id} needs it"
    repository.release()
    broker.clock.advance(5_000)
    assert broker.backup().new_bytes == log.pieces[0].size
    repository = broker.repository()
    assert at_once(repository.verify([manifest])) == []
    assert len(values(broker.restored())) == 40


def test_a_missing_piece_is_named() -> None:
    files = MemoryFiles()
    repository, manifest = small_repository(files, bytes(5000))
    path = repository.object_path(manifest.files[0].pieces[0].sha256)
    files.remove(path)
    assert at_once(repository.verify([manifest])) == [f"{path} is missing: f0 of one needs it"]


def test_a_half_restored_directory_does_not_start() -> None:
    broker = filled()
    broker.backup()
    repository, files = broker.repository(), MemoryFiles()
    manifest = repository.manifest(repository.backup_ids()[0])
    steps = sum(1 for _ in restore_backup(repository, manifest, MemoryFiles(), "data"))
    for _ in zip(range(steps - 2), restore_backup(repository, manifest, files, "data"), strict=False):
        continue
    files.locks.clear()
    with pytest.raises(FormatError, match=r"has logs but no meta\.properties"):
        Harness(files)


@pytest.mark.parametrize("name", ["data/else", "data/.lock"])
def test_a_directory_that_is_not_empty_is_left_alone(name: str) -> None:
    files = MemoryFiles()
    repository, manifest = small_repository(files, b"1")
    files.make_directory("data")
    files.open(name, create=True)
    with pytest.raises(BackupError, match="data is not empty"):
        at_once(restore_backup(repository, manifest, files, "data"))


def test_no_broker_starts_while_it_is_restored() -> None:
    files = MemoryFiles()
    repository, manifest = small_repository(files, b"1")
    steps = restore_backup(repository, manifest, files, "data")
    next(steps)
    with pytest.raises(DirectoryInUseError):
        Harness(files)


@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a//b", "a/./b"])
def test_a_manifest_leads_nowhere_else(path: str) -> None:
    files = MemoryFiles()
    repository, manifest = small_repository(files)
    manifest.files.append(StoredFile(path, 1, content=b"x"))
    repository.commit(manifest)
    with pytest.raises(BackupError, match=r"one.json is damaged: .* its path leads out of the directory"):
        repository.manifest("one")


def test_a_manifest_with_a_flipped_bit_is_damaged_and_nothing_is_removed() -> None:
    files = MemoryFiles()
    repository, manifest = small_repository(files, b"content")
    content = manifest.content()
    for at in range(0, len(content), 7):
        file = files.open("backups/backups/one.json")
        file.write([bytes([content[at] ^ 1])], at)
        with pytest.raises(BackupError, match=r"one\.json is damaged"):
            repository.manifest("one")
        with pytest.raises(BackupError, match=r"one\.json is damaged"):
            repository.remove_unused()
        with pytest.raises(BackupError, match=r"one\.json is damaged"):
            repository.keep_newest(1)
        file.write([content], 0)
    assert repository.manifest("one") == manifest


def test_a_manifest_of_a_later_version_is_refused() -> None:
    files = MemoryFiles()
    repository, manifest = small_repository(files)
    values = {**json.loads(manifest.content()), "version": 2}
    files.open("backups/backups/one.json").write([json.dumps(values).encode()], 0)
    with pytest.raises(BackupError, match="it has version 2, but this Headwater reads version 1"):
        repository.manifest("one")


def test_old_backups_go_with_what_only_they_need() -> None:
    broker = Backed()
    broker.create_topic("t")
    for _ in range(4):
        broker.fill("t", 10)
        broker.clock.advance(5_000)
        broker.backup()
    broker.core.topics.delete(broker.core.metadata.topics["t"])
    broker.sync()
    broker.clock.advance(5_000)
    last = broker.backup()
    repository = broker.repository()
    ids = repository.backup_ids()
    assert repository.keep_newest(2) == ids[:3]
    assert repository.backup_ids() == [ids[3], last.backup_id]
    repository.remove_unused()
    assert at_once(repository.verify([repository.manifest(ids[3]), last])) == []
    repository.keep_newest(1)
    assert repository.remove_unused() > 40 * 1024
    assert repository.objects == {piece.sha256 for piece in last.pieces}


def test_one_backup_at_a_time() -> None:
    repository, _ = small_repository(MemoryFiles())
    with pytest.raises(BackupError, match="backups is in use by another backup"):
        Repository(repository.files, "backups").take_lock()


def test_backups_sort_by_age_also_where_the_clock_went_back() -> None:
    broker = filled()
    first = broker.backup().backup_id
    again = broker.backup().backup_id
    repository = broker.repository()
    late = Backup(broker.files, "data", repository, ManualClock(1_000), topics_in)
    third = at_once(late.steps()).backup_id
    assert first < again < third
    assert repository.backup_ids() == [first, again, third]


def test_a_directory_with_other_things_is_not_a_repository() -> None:
    files = MemoryFiles()
    files.make_directory("backups")
    files.open("backups/mine", create=True)
    with pytest.raises(BackupError, match="neither empty nor a backup repository"):
        Repository(files, "backups", create=True)
    with pytest.raises(BackupError, match=r"it has no headwater-backups\.json"):
        Repository(files, "backups")


@pytest.mark.parametrize("seed", range(5))
def test_a_power_cut_after_a_backup_takes_nothing_of_it(seed: int) -> None:
    broker = filled(MemoryFiles(crashable=True))
    manifest = broker.backup()
    broker.core.store.abandon()
    broker.files.crash(Random(seed))
    repository = broker.repository()
    assert repository.backup_ids() == [manifest.backup_id]
    assert at_once(repository.verify([repository.manifest(manifest.backup_id)])) == []
    assert len(values(broker.restored())) == 40
