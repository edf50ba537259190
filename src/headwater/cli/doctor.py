"""`headwater doctor`: checks the data directory of a stopped broker, and repairs it.

`broker/doctor.py` finds the damage, and decides how to repair it. This module adds the terminal, the copies and messages.
"""

import json
import os
import shutil
import sys
import tempfile
import textwrap
from datetime import datetime
from pathlib import Path

from headwater.broker.doctor import Doctor, Examination, Finding
from headwater.cli.backup import command_error, size_text
from headwater.cli.errors import CommandError, quantity
from headwater.effects.clock import SystemClock
from headwater.effects.entropy import SystemEntropy
from headwater.effects.files import DiskFiles, File, Lock
from headwater.effects.overlay_files import OverlayFiles
from headwater.storage.errors import StorageError
from headwater.storage.mending import Mended

OPEN_FILES = 256
PROGRESS_MS = 200
WIDTH_MIN = 40
UNUSABLE = 2


def doctor(directory: str, copy_to: str, *, repair: bool, yes: bool, as_json: bool) -> int:
    """The command. Returns the exit status: 0 if nothing is damaged, or the next start repairs it; 1 if something is lost or
    not served; 2 if the data directory could not be examined."""
    try:
        return run(os.path.abspath(directory), copy_to, repair=repair, yes=yes, as_json=as_json)
    except CommandError as error:
        print(f"headwater: {error}", file=sys.stderr)
    except (StorageError, OSError) as error:
        print(f"headwater: {command_error(error)}", file=sys.stderr)
    return UNUSABLE


def run(directory: str, copy_to: str, *, repair: bool, yes: bool, as_json: bool) -> int:
    if not Path(directory).is_dir():
        raise CommandError(f"{directory} is not a directory")
    if not any(Path(directory, name).exists() for name in ("meta.properties", "meta.properties.copy", "journal")):
        raise CommandError(f"{directory} is not a data directory: it has no meta.properties and no journal")
    if copy_to and not repair:
        raise CommandError("--copy-to needs --repair")
    lock = take_lock(directory)
    try:
        with tempfile.TemporaryDirectory(prefix="headwater-doctor-") as temporary:
            return look(directory, temporary, copy_to, repair=repair, yes=yes, as_json=as_json)
    finally:
        if lock is not None:
            lock.release()


def take_lock(directory: str) -> Lock | None:
    """Keeps a broker from starting meanwhile; None if the directory is read-only."""
    if not os.access(directory, os.W_OK):
        return None
    try:
        return DiskFiles(OPEN_FILES).lock(f"{directory}/.lock")
    except BlockingIOError:
        raise CommandError(
            f"{directory} is in use by a running broker, whose files keep changing; stop it first. headwater backup "
            "--verify checks a copy of a running broker"
        ) from None


class Progress:
    """Shows the progress on a terminal."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self.clock = SystemClock()
        self.shown_ms = 0.0
        self.is_shown = False

    def __call__(self, checked_bytes: int) -> None:
        now_ms = self.clock.steady_ms()
        if sys.stderr.isatty() and now_ms - self.shown_ms >= PROGRESS_MS:
            self.shown_ms, self.is_shown = now_ms, True
            percent = min(100, checked_bytes * 100 // max(1, self.total_bytes))
            print(f"\r{size_text(checked_bytes)} checked, {percent} %   ", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.is_shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def look(directory: str, temporary: str, copy_to: str, *, repair: bool, yes: bool, as_json: bool) -> int:
    writable = DiskFiles(OPEN_FILES)
    progress = Progress(sum(path.stat().st_size for path in Path(directory).rglob("*.log") if path.is_file()))
    numbers = iter(range(1_000_000))

    def spill() -> File:
        return writable.open(f"{temporary}/{next(numbers)}", create=True)

    files = writable if repair else DiskFiles(OPEN_FILES, read_only=True)
    found_by = Doctor(files, directory, spill, SystemClock(), SystemEntropy(), progress)
    found = found_by.examine()
    progress.end()
    if not repair:
        show(directory, found, as_json=as_json)
        return int(bool(found.damages))
    overlay, done, left = found_by.mend(found)
    progress.end()
    return mend(directory, found, overlay, done, left, copy_to, yes=yes, as_json=as_json)


def mend(
    directory: str,
    found: Examination,
    overlay: OverlayFiles,
    done: list[Mended],
    left: Examination,
    copy_to: str,
    *,
    yes: bool,
    as_json: bool,
) -> int:
    changed = overlay.changed_paths()
    folder = copy_to and os.path.abspath(copy_to)
    folder = folder or f"{directory}.doctor-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    if Path(folder).resolve().is_relative_to(Path(directory).resolve()):
        raise CommandError(f"{folder} is in the data directory; choose a directory outside it")
    if not as_json:
        show(directory, found, as_json=False)
    if not done:
        if as_json:
            print(json.dumps({**summary(directory, found), "repaired": [], "copy": None}))
        else:
            print("There is nothing that --repair can repair.")
        return int(bool(found.damages))
    if not yes and not agreed(done, changed, folder, as_json=as_json):
        print("Nothing was changed.", file=sys.stderr)
        return 1
    copy_files(directory, changed, folder, done)
    overlay.commit()
    repaired = [{"path": m.path, "position": m.position, "what": m.words, "lossless": m.is_lossless} for m in done]
    if as_json:
        print(json.dumps({**summary(directory, left), "repaired": repaired, "copy": folder}))
    else:
        for mended in done:
            print(
                wrap(f"repaired: {os.path.relpath(mended.path, directory)} at byte {mended.position}: {mended.words}")
            )
        print(f"Repaired {quantity(len(done), 'place', 'places')}; the original files are in {folder}.")
        if left.findings:
            print("Found now:")
        show(directory, left, as_json=False)
    return int(bool(left.damages))


def agreed(done: list[Mended], changed: list[str], folder: str, *, as_json: bool) -> bool:
    """Asks whether to continue."""
    out = sys.stderr if as_json else sys.stdout
    print("--repair will do this:", file=out)
    for mended in done:
        print(wrap(f"  {mended.path} at byte {mended.position}: {mended.words}"), file=out)
    print(wrap(f"after copying {quantity(len(changed), 'file', 'files')} to {folder}"), file=out)
    if not sys.stdin.isatty():
        print("headwater: without a terminal, --repair needs --yes", file=sys.stderr)
        return False
    print("Continue? [y/N] ", end="", file=out, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def copy_files(directory: str, changed: list[str], folder: str, done: list[Mended]) -> None:
    """Copies the files that will change, durably. Raises OSError, and CommandError if the folder is in use."""
    target = Path(folder)
    if target.exists() and any(target.iterdir()):
        raise CommandError(f"{folder} is not empty; choose another directory for the copy")
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = DiskFiles(OPEN_FILES)
    for path in changed:
        copied = target / os.path.relpath(path, directory)
        copied.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copy2(path, copied)
        files.sync_path(str(copied))
        files.sync_directory(str(copied.parent))
    lines = [f"{mended.path} at byte {mended.position}: {mended.words}" for mended in done]
    text = f"headwater doctor --repair changed these files of {directory}; copy them back to undo it.\n" + "\n".join(
        lines
    )
    (target / "README.txt").write_text(text + "\n", encoding="utf-8")
    files.sync_path(str(target / "README.txt"))
    files.sync_directory(folder)
    files.close()


# -- saying it


def show(directory: str, found: Examination, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(summary(directory, found)))
        return
    for finding in found.findings:
        print(wrap(line(directory, finding)))
    checked = f"{quantity(found.logs, 'log', 'logs')}, {size_text(found.checked_bytes)}"
    damages = len(found.damages)
    if found.is_whole:
        print(f"{directory}: no damage found; {checked} checked.")
    elif damages:
        print(f"{directory}: {quantity(damages, 'damage', 'damages')}; {checked} checked.")
    else:
        print(f"{directory}: nothing is lost; the next start repairs the above; {checked} checked.")


def line(directory: str, finding: Finding) -> str:
    """A finding as one line."""
    path = os.path.relpath(finding.path, directory)
    place = f"{finding.topic}-{finding.partition}" if finding.partition >= 0 else ""
    if finding.first_offset >= 0:
        place += f", offsets {finding.first_offset} to {finding.last_offset}"
    parts = [f"{finding.kind}: {path}" + (f" ({place})" if place else ""), finding.what]
    if finding.broker:
        parts.append(f"the broker {finding.broker}")
    if finding.repair:
        parts.append(f"--repair {finding.repair}")
    return ": ".join([parts[0], "; ".join(parts[1:])])


def wrap(text: str) -> str:
    """Wraps text to the width of the terminal; one line if there is no terminal."""
    if not sys.stdout.isatty():
        return text
    width = max(WIDTH_MIN, shutil.get_terminal_size().columns - 1)
    return textwrap.fill(text, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def summary(directory: str, found: Examination) -> dict[str, object]:
    return {
        "directory": directory,
        "whole": found.is_whole,
        "logs": found.logs,
        "checked_bytes": found.checked_bytes,
        "findings": [finding.as_dict() for finding in found.findings],
    }
