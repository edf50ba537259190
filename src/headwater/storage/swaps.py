"""How a compacted copy replaces segments, so that a crash at any moment leaves either the segments or the copy.

    1. the copy's files are renamed from their folder to NAME.SUFFIX.swap, the `.log` last; the names are synced
    2. the segments that it replaces are removed
    3. the copy's files get their names, the `.log` last; the names are synced

A start that finds a `.log.swap` does steps 2 and 3: that name is the decision. Other `.swap` files, and the folder, are the
remains of an unfinished copy, and are removed. Source: LogLoader.java.
"""

import re

from headwater.effects.files import Files, free_name
from headwater.effects.logs import get_logger
from headwater.storage.errors import DamagedLogError
from headwater.storage.segment import ASIDE_SUFFIX, SEGMENT_SUFFIXES, Segment, segment_name
from headwater.storage.sums import read_sums

logger = get_logger(__name__)

SWAP_SUFFIX = ".swap"
COPIED_FILE = re.compile(r"[0-9]{20}\.(log|index|timeindex|txnindex|sums)")
SEGMENT_STEM = re.compile(r"[0-9]{20}")
SWAPPED_FILE = re.compile(r"[0-9]{20}\.(log|index|timeindex|txnindex|sums)\.swap")
CLEANING_DIRECTORY = ".cleaning"  # where compaction makes its copies


def begin_swap(files: Files, folder: str, directory: str, name: str) -> None:
    """Step 1. Raises OSError."""
    for suffix in reversed(SEGMENT_SUFFIXES):
        if files.exists(f"{folder}/{name}{suffix}"):
            files.rename(f"{folder}/{name}{suffix}", f"{directory}/{name}{suffix}{SWAP_SUFFIX}")
    files.sync_directory(directory)


def complete_swap(files: Files, directory: str, name: str) -> None:
    """Gives a copy's files their final names, the `.log` last: until then a start knows that there is more to do."""
    for suffix in reversed(SEGMENT_SUFFIXES):
        if files.exists(f"{directory}/{name}{suffix}{SWAP_SUFFIX}"):
            files.rename(f"{directory}/{name}{suffix}{SWAP_SUFFIX}", f"{directory}/{name}{suffix}")
    files.sync_directory(directory)


def last_offset(files: Files, directory: str, base: int) -> int | None:
    """The last offset in a copy; None if it is damaged."""
    copy = Segment(files, directory, base, suffix=SWAP_SUFFIX)
    try:
        return max((header.last_offset for header, _, _ in copy.checked_scan(0, copy.size)), default=base)
    except DamagedLogError:
        return None
    finally:
        copy.file.close()


def set_copy_aside(files: Files, path: str) -> None:
    name = free_name(files, f"{path}.log{ASIDE_SUFFIX}")
    logger.error(
        "%s.log%s, a compacted copy, is damaged: the segments that it would replace stay, and the copy is kept as %s; inspect "
        "it, and remove it",
        path,
        SWAP_SUFFIX,
        name,
    )
    files.rename(f"{path}.log{SWAP_SUFFIX}", name)


def remove_copies(files: Files, folder: str) -> None:
    """Removes a compaction's folder; files in it that no compaction made are kept. Raises OSError."""
    if not files.exists(folder):
        return
    others = []
    for name in files.list_directory(folder):
        if COPIED_FILE.fullmatch(name):
            files.remove(f"{folder}/{name}")
        else:
            others.append(name)
    if others:
        logger.warning("%s is kept, because it has files that no compaction made: %s", folder, ", ".join(others[:3]))
    else:
        files.remove(folder)


def finish_swaps(files: Files, directory: str) -> list[str]:
    """Completes a compaction that a crash has interrupted after its copies were made; returns the names in the directory."""
    names = files.list_directory(directory)
    if CLEANING_DIRECTORY in names:
        remove_copies(files, f"{directory}/{CLEANING_DIRECTORY}")
    swapped = [name for name in names if SWAPPED_FILE.fullmatch(name)]
    for name in swapped:
        if not name.endswith(f".log{SWAP_SUFFIX}"):
            continue
        base = int(name.partition(".")[0])
        last = last_offset(files, directory, base)
        if last is None and f"{segment_name(base)}.log" in names:  # everything that it replaces is still there
            set_copy_aside(files, f"{directory}/{segment_name(base)}")
            continue
        if last is None:  # it has the only copy of its records; but files beside it are kept
            complete_swap(files, directory, segment_name(base))
            continue
        sums = read_sums(files, f"{directory}/{segment_name(base)}", SWAP_SUFFIX)
        if sums is not None:
            last = max(last, sums.end_offset - 1)
        for other in names:
            stem, dot, suffix = other.partition(".")
            if SEGMENT_STEM.fullmatch(stem) and base <= int(stem) <= last and f"{dot}{suffix}" in SEGMENT_SUFFIXES:
                files.remove(f"{directory}/{other}")
        complete_swap(files, directory, segment_name(base))
    for name in swapped:  # of a copy whose own name was not durable
        if files.exists(f"{directory}/{name}"):
            files.remove(f"{directory}/{name}")
    return files.list_directory(directory) if swapped else [n for n in names if n != CLEANING_DIRECTORY]
