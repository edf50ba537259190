"""`headwater backup` and `headwater restore`: copies of a data directory, taken while a broker runs on it or not.

`storage/backup.py` decides what is copied, and in which order. This module adds files, the clock, a terminal and messages.
"""

import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from headwater.broker.metadata_records import MetadataRecordType, decode_record
from headwater.cli.errors import CommandError, quantity
from headwater.effects.clock import SystemClock
from headwater.effects.files import DiskFiles
from headwater.effects.work import Steps
from headwater.protocol.errors import ProtocolError
from headwater.protocol.records import batches, records
from headwater.storage.backup import Backup, Topics
from headwater.storage.backup_repository import BackupError, Manifest, Repository, restore_backup
from headwater.storage.errors import StorageError

PAUSE_S = 0.05
PROGRESS_S = 0.2
OPEN_FILES = 64
DAMAGES_SHOWN_MAX = 20


def topics_in(contents: Iterable[bytes]) -> Topics:
    """The topics that exist, by id, from the readable batches of the metadata log."""
    topics: Topics = {}
    for content in contents:
        try:
            for header, batch in batches(content):
                for record in () if header.is_control else records(header, batch):
                    change = decode_record(record.value) if record.value is not None else None
                    if change is not None and change.RECORD_TYPE == MetadataRecordType.TOPIC:
                        topics[change.topic_id] = change.name
                    elif change is not None and change.RECORD_TYPE == MetadataRecordType.REMOVE_TOPIC:
                        topics.pop(change.topic_id, None)
        except (ProtocolError, KeyError):  # the damage was reported when the batch was checked
            continue
    return topics


def backup(paths: list[str], keep: int | None, *, show_list: bool, verify: bool, as_json: bool) -> int:
    """The command. Returns the exit status: 1 if the source, or a backup, is damaged."""
    try:
        if show_list and verify:
            raise CommandError("--list and --verify exclude each other")
        if show_list:
            return list_backups(*check_arguments(paths, 1, 1, "backup --list TO"), as_json=as_json)
        if verify:
            return verify_backups(check_arguments(paths, 1, 2, "backup --verify TO [ID]"), as_json=as_json)
        directory, to = check_arguments(paths, 2, 2, "backup DATA_DIR TO")
        return make_backup(directory, to, keep, as_json=as_json)
    except (StorageError, OSError) as error:
        raise command_error(error) from error


def restore(repository_path: str, directory: str, backup_id: str, *, as_json: bool) -> None:
    """The command."""
    clock = SystemClock()
    started_ms = clock.steady_ms()
    try:
        repository = Repository(DiskFiles(OPEN_FILES, read_only=True), os.path.abspath(repository_path))
        manifest = repository.manifest(backup_id or newest_id(repository))
        total = run(restore_backup(repository, manifest, DiskFiles(OPEN_FILES), os.path.abspath(directory)), lambda: "")
    except (StorageError, OSError) as error:
        raise command_error(error) from error
    duration_s = (clock.steady_ms() - started_ms) / 1000
    if as_json:
        print(json.dumps({**summary(manifest), "directory": directory, "restored_bytes": total}))
        return
    print(f"Restored {manifest.backup_id} into {directory}: {size_text(total)} in {duration_s:.1f} s")
    show_damages(manifest.damages)


def command_error(error: StorageError | OSError) -> CommandError:
    if isinstance(error, OSError) and error.filename is not None:
        return CommandError(f"{error.filename}: {error.strerror}")
    return CommandError(str(error))


def check_arguments(paths: list[str], at_least: int, at_most: int, usage: str) -> list[str]:
    """Returns the arguments. Raises CommandError if there are too few or too many."""
    if not at_least <= len(paths) <= at_most or "" in paths:
        raise CommandError(f"usage: headwater {usage}")
    return paths


def newest_id(repository: Repository) -> str:
    ids = repository.backup_ids()
    if not ids:
        raise BackupError(f"{repository.path} has no backup")
    return ids[-1]


def make_backup(directory: str, to: str, keep: int | None, *, as_json: bool) -> int:
    directory, to = os.path.abspath(directory), os.path.abspath(to)
    if Path(to).resolve().is_relative_to(Path(directory).resolve()):
        raise CommandError(f"{to} is in the data directory; choose a directory outside it, preferably on another disk")
    if not Path(directory).is_dir():
        raise CommandError(f"{directory} is not a directory")
    repository = Repository(DiskFiles(OPEN_FILES), to, create=True)
    repository.take_lock()
    try:
        source = DiskFiles(OPEN_FILES, read_only=True)
        job = Backup(source, directory, repository, SystemClock(), topics_in)

        def progress() -> str:
            if job.wants_pause:
                job.wants_pause = False
                time.sleep(PAUSE_S)
            return f"{size_text(job.reader.read_bytes)} read, {size_text(repository.new_bytes)} new"

        manifest = run(job.steps(), progress)
        removed, problems = remove_old(repository, keep)
    finally:
        repository.release()
    if as_json:
        print(json.dumps({**summary(manifest), "removed": removed, "problems": problems}))
    else:
        print(
            f"Backed up {directory} as {manifest.backup_id}: {size_text(manifest.new_bytes)} new, "
            f"{size_text(manifest.size_bytes - manifest.new_bytes)} kept, in {manifest.duration_ms / 1000:.1f} s"
            + (f"; removed {quantity(len(removed), 'older backup', 'older backups')}" if removed else "")
        )
        show_damages(manifest.damages + problems)
    return 1 if manifest.damages or problems else 0


def remove_old(repository: Repository, keep: int | None) -> tuple[list[str], list[str]]:
    """Returns the ids of the backups that were removed, and warnings if that failed: the new backup exists all the same."""
    removed: list[str] = []
    try:
        removed = repository.keep_newest(keep) if keep is not None else []
        repository.remove_unused()
    except BackupError as error:
        return removed, [f"nothing was removed from {repository.path}: {error}"]
    return removed, []


def show_damages(damages: list[str]) -> None:
    for text in damages[:DAMAGES_SHOWN_MAX]:
        print(f"headwater: {text}", file=sys.stderr)
    if len(damages) > DAMAGES_SHOWN_MAX:
        print(f"headwater: and {len(damages) - DAMAGES_SHOWN_MAX} more; --json shows all", file=sys.stderr)


def summary(manifest: Manifest) -> dict[str, Any]:
    return {
        "id": manifest.backup_id,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(manifest.started_ms / 1000)),
        "source": manifest.source,
        "cluster_id": manifest.cluster_id,
        "files": len(manifest.files),
        "size_bytes": manifest.size_bytes,
        "new_bytes": manifest.new_bytes,
        "kept_bytes": manifest.size_bytes - manifest.new_bytes,
        "duration_ms": manifest.duration_ms,
        "damages": manifest.damages,
    }


def list_backups(to: str, *, as_json: bool) -> int:
    """Prints the backups. An unreadable manifest is reported, and makes the exit status 1."""
    repository = Repository(DiskFiles(OPEN_FILES, read_only=True), os.path.abspath(to))
    rows, problems = [], []
    for backup_id in repository.backup_ids():
        try:
            rows.append(summary(repository.manifest(backup_id)))
        except BackupError as error:
            problems.append(str(error))
    if as_json:
        print(json.dumps({"backups": rows, "problems": problems}))
    else:
        for row in rows:
            damage = f", {quantity(len(row['damages']), 'damage', 'damages')} in the source" if row["damages"] else ""
            print(
                f"{row['id']}  {size_text(row['size_bytes'])}, {size_text(row['new_bytes'])} new{damage}  {row['source']}"
            )
        show_damages(problems)
    return 1 if problems else 0


def verify_backups(paths: list[str], *, as_json: bool) -> int:
    """Reads everything in the backups; returns 1 if something is missing or damaged."""
    repository = Repository(DiskFiles(OPEN_FILES), os.path.abspath(paths[0]))
    repository.take_lock()
    try:
        manifests, problems = [], []
        for backup_id in paths[1:] or repository.backup_ids():
            try:
                manifests.append(repository.manifest(backup_id))
            except BackupError as error:
                if paths[1:]:
                    raise
                problems.append(str(error))
        problems += run(repository.verify(manifests), lambda: "")
    finally:
        repository.release()
    if as_json:
        print(json.dumps({"backups": [manifest.backup_id for manifest in manifests], "problems": problems}))
    else:
        print(f"Read {quantity(len(manifests), 'backup', 'backups')}: {'damaged' if problems else 'no damage found'}")
        show_damages(problems)
    return 1 if problems else 0


def run(steps: Steps[Any], progress: Any) -> Any:
    """Runs all steps and returns the result; on a terminal, shows the progress."""
    is_terminal, shown_s, clock = sys.stderr.isatty(), 0.0, SystemClock()
    try:
        while True:
            next(steps)
            text = progress()
            now_s = clock.steady_ms() / 1000
            if is_terminal and text and now_s - shown_s > PROGRESS_S:
                shown_s = now_s
                print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    except StopIteration as stop:
        return stop.value
    finally:
        if is_terminal and shown_s:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def size_text(size: int) -> str:
    """A size for people: `3.2 MiB`."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
