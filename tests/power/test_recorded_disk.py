"""What a disk has after a power cut: all that was flushed, and any part of the rest."""

from pathlib import Path
from random import Random

import pytest

from tests.power.recorded_disk import CHUNK_BYTES, SECTOR_BYTES, VolatileDisk, save

SIZE = 4 * CHUNK_BYTES


def cut(disk: VolatileDisk, seed: int) -> bytes:
    content = bytearray(SIZE)
    for position, data in disk.image(Random(seed)):
        content[position : position + len(data)] = data
    return bytes(content)


def test_what_was_flushed_is_there() -> None:
    disk = VolatileDisk(SIZE)
    disk.write(CHUNK_BYTES - 3, memoryview(b"across"))
    disk.flush()
    for seed in range(20):
        assert cut(disk, seed)[CHUNK_BYTES - 3 : CHUNK_BYTES + 3] == b"across"


def test_of_what_was_not_flushed_any_part_may_be_there() -> None:
    disk = VolatileDisk(SIZE)
    disk.write(0, memoryview(b"old" + bytes(CHUNK_BYTES)))
    disk.flush()
    disk.write(0, memoryview(b"new"))
    disk.write(CHUNK_BYTES + 5, memoryview(b"more"))
    seen = {(state[:3], state[CHUNK_BYTES + 5 :][:4]) for state in (cut(disk, seed) for seed in range(100))}
    assert seen == {(first, second) for first in (b"old", b"new") for second in (bytes(4), b"more")}


def test_a_write_is_torn_between_its_sectors_only() -> None:
    disk = VolatileDisk(SIZE)
    disk.write(0, memoryview(b"x" * 2 * SECTOR_BYTES))
    seen = {cut(disk, seed)[: 2 * SECTOR_BYTES] for seed in range(200)}
    halves = (bytes(SECTOR_BYTES), b"x" * SECTOR_BYTES)
    assert seen == {first + second for first in halves for second in halves}


def test_what_was_replaced_does_not_come_back() -> None:
    """Two writes of one place: after the flush of neither, both may be missing; the first never wins over the second."""
    disk = VolatileDisk(SIZE)
    disk.write(0, memoryview(b"1"))
    disk.write(0, memoryview(b"2"))
    assert {cut(disk, seed)[:1] for seed in range(100)} == {b"\0", b"1", b"2"}
    disk.flush()
    assert {cut(disk, seed)[:1] for seed in range(100)} == {b"2"}


def test_a_cut_changes_nothing_for_what_runs_on() -> None:
    disk = VolatileDisk(SIZE)
    disk.write(7, memoryview(b"content"))
    for seed in range(10):
        cut(disk, seed)
    assert bytes(disk.read(7, 7)) == b"content"
    disk.flush()
    assert cut(disk, 0)[7:14] == b"content"


@pytest.mark.parametrize("position", [0, 3 * CHUNK_BYTES + 9])
def test_an_image_is_saved_with_holes_and_loaded(tmp_path: Path, position: int) -> None:
    disk, again = VolatileDisk(SIZE), VolatileDisk(SIZE)
    disk.write(position, memoryview(b"content"))
    disk.flush()
    image = tmp_path / "image"
    save(disk.image(Random(0)), SIZE, str(image))
    assert image.stat().st_size == SIZE
    assert image.stat().st_blocks * 512 <= CHUNK_BYTES
    again.load(str(image))
    assert again.content == disk.content
    assert cut(again, 0) == bytes(disk.content)
