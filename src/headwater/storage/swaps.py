"""How a compacted copy takes the place of segments, so that a crash at any moment leaves the one or the other.

    1. the copy's files are renamed from their folder to NAME.SUFFIX.swap, the `.log` last; the names are synced
    2. the segments that it replaces are removed
    3. the copy's files get their names, the `.log` last; the names are synced

A start that finds a `.log.swap` does 2 and 3: that name is the decision. Other `.swap` files, and the folder, are left over
from a copy that never came so far, and go. Source: LogLoader.java.
"""

import re

from headwater.effects.files import Files, remove_tree
from headwater.storage.segment import SEGMENT_SUFFIXES, Segment, segment_name
from headwater.storage.sums import read_sums

SWAP_SUFFIX = ".swap"
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
    """Gives a copy's files their names, the `.log` last: until then a start knows that there is more to do."""
    for suffix in reversed(SEGMENT_SUFFIXES):
        if files.exists(f"{directory}/{name}{suffix}{SWAP_SUFFIX}"):
            files.rename(f"{directory}/{name}{suffix}{SWAP_SUFFIX}", f"{directory}/{name}{suffix}")
    files.sync_directory(directory)


def finish_swaps(files: Files, directory: str) -> list[str]:
    """Completes what a crash has interrupted between a compaction's copies and their names; returns what is then there."""
    names = files.list_directory(directory)
    if CLEANING_DIRECTORY in names:
        remove_tree(files, f"{directory}/{CLEANING_DIRECTORY}")
    swapped = [name for name in names if SWAPPED_FILE.fullmatch(name)]
    for name in swapped:
        if not name.endswith(f".log{SWAP_SUFFIX}"):
            continue
        base = int(name.partition(".")[0])
        copy = Segment(files, directory, base, suffix=SWAP_SUFFIX)
        last = max((header.last_offset for header, _ in copy.scan(0, copy.size)), default=base)
        copy.file.close()
        sums = read_sums(files, f"{directory}/{segment_name(base)}", SWAP_SUFFIX)
        if sums is not None:
            last = max(last, sums.end_offset - 1)
        for other in names:
            stem, dot, suffix = other.partition(".")
            if SEGMENT_STEM.fullmatch(stem) and base <= int(stem) <= last and f"{dot}{suffix}" in SEGMENT_SUFFIXES:
                files.remove(f"{directory}/{other}")
        complete_swap(files, directory, segment_name(base))
    for name in swapped:  # of a copy whose own name did not reach the disk
        if files.exists(f"{directory}/{name}"):
            files.remove(f"{directory}/{name}")
    return files.list_directory(directory) if swapped else [n for n in names if n != CLEANING_DIRECTORY]
