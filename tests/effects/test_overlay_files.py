"""Changes over files: seen at once, made only by a commit, and the same as if they had been made at once."""

from random import Random

import pytest

from headwater.effects.files import read_file
from headwater.effects.memory_files import MemoryFiles
from headwater.effects.overlay_files import OverlayFiles


def base() -> MemoryFiles:
    files = MemoryFiles()
    files.make_directory("d/a")
    for name, content in (("a/1", b"one"), ("a/2", b"two" * 100), ("3", b"three")):
        files.open(f"d/{name}", create=True).write([content], 0)
    return files


def overlay(files: MemoryFiles) -> OverlayFiles:
    return OverlayFiles(files, MemoryFiles().open("spill", create=True))


def tree(files: MemoryFiles | OverlayFiles, path: str = "d") -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name in files.list_directory(path):
        try:
            found |= tree(files, f"{path}/{name}") | {f"{path}/{name}/": b""}
        except (FileNotFoundError, NotADirectoryError):
            found[f"{path}/{name}"] = read_file(files, f"{path}/{name}")
    return found


def change(files: MemoryFiles | OverlayFiles, random: Random) -> None:
    """One change of some kind; on both kinds of files the same."""
    names = [path for path in sorted(tree(files)) if not path.endswith("/")]
    path = random.choice(names) if names else "d/new"
    match random.randrange(7):
        case 0 | 1:
            files.open(path, create=True).write(
                [bytes([random.randrange(256)]) * random.randint(1, 50)], random.randrange(90)
            )
        case 2:
            files.open(path, create=True).truncate(random.randrange(120))
        case 3:
            files.open(f"d/{random.randrange(5)}", create=True).write([b"new"], 0)
        case 4:
            if names:
                files.rename(path, f"d/{random.choice(('x', 'y', '3'))}")
        case 5:
            if names:
                files.remove(path)
        case _:
            files.make_directory(f"d/{random.choice('pq')}/r")
            files.open(f"d/p/r/{random.randrange(3)}", create=True) if files.exists("d/p/r") else None


@pytest.mark.parametrize("seed", range(150))
def test_an_overlay_is_as_if_the_changes_had_been_made_and_a_commit_makes_them(seed: int) -> None:
    below, direct = base(), base()
    before = tree(below)
    over = overlay(below)
    for n in range(25):
        change(direct, Random(seed * 1000 + n))
        change(over, Random(seed * 1000 + n))
        assert tree(over) == tree(direct)
    assert tree(below) == before
    changed = over.changed_paths()
    over.commit()
    after = tree(below)
    assert after == tree(direct)
    gone_or_written = {p for p, content in before.items() if not p.endswith("/") and after.get(p) != content}
    moved = {p for p in gone_or_written if p not in after and before[p] in after.values()}
    assert gone_or_written - moved <= set(changed)


def test_a_directory_is_renamed_with_what_is_in_it() -> None:
    below = base()
    over = overlay(below)
    over.rename("d/a", "d/b")
    assert over.list_directory("d") == ["3", "b"]
    assert over.changed_paths() == []
    over.commit()
    assert tree(below) == {"d/b/": b"", "d/b/1": b"one", "d/b/2": b"two" * 100, "d/3": b"three"}


def test_what_follows_a_part_that_is_replaced_moves() -> None:
    below = base()
    below.open("d/3").write([bytes(range(100))], 0)
    over = overlay(below)
    layer = over.layer("d/3")
    assert layer is not None
    over.open("d/3").write([b"xy"], 50)
    layer.replace(60, 70, b"longer than ten bytes")
    layer.replace(10, 20, b"")
    whole = bytearray(range(100))
    whole[50:52] = b"xy"
    expected = bytes(whole[:10] + whole[20:60] + b"longer than ten bytes" + whole[70:])
    assert read_file(over, "d/3") == expected
    assert over.changed_paths() == ["d/3"]
    over.commit()
    assert read_file(below, "d/3") == expected
    assert below.list_directory("d") == ["3", "a"]


def test_what_is_not_there() -> None:
    over = overlay(base())
    for call in (over.open, over.sync_path, over.list_directory, over.sync_directory, over.remove, over.stamp):
        with pytest.raises(FileNotFoundError):
            call("d/none")
    with pytest.raises(OSError, match="not empty"):
        over.remove("d/a")
    with pytest.raises(NotADirectoryError):
        over.make_directory("d/3/x")
