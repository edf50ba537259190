"""An offset index alone: look-ups against a sorted list, and what its file says."""

from hypothesis import given
from hypothesis import strategies as st

from headwater.storage.index import OFFSET_ENTRY_BYTES, OffsetIndex

gaps = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 99)), max_size=40)


def index_of(entries: list[tuple[int, int]]) -> OffsetIndex:
    index = OffsetIndex()
    for offset, position in entries:
        index.append(offset, position)
    return index


@given(gaps, st.integers(0, 400), st.integers(0, 40))
def test_look_ups_truncation_and_file_agree_with_a_sorted_list(
    steps: list[tuple[int, int]], wanted: int, written: int
) -> None:
    entries: list[tuple[int, int]] = []
    offset = position = 0
    for more_offsets, more_bytes in steps:
        offset, position = offset + more_offsets, position + more_bytes
        entries.append((offset, position))
    index = index_of(entries[:written])
    file = bytearray(index.unwritten()[1])
    for entry in entries[written:]:
        index.append(*entry)
    assert index.floor(wanted) == max((entry for entry in entries if entry[0] <= wanted), default=None)
    assert index.first_from(wanted) == next((offset for offset, at in entries if at >= wanted), None)
    index.truncate(wanted)
    entries = [entry for entry in entries if entry[1] < wanted]
    at, content = index.unwritten()
    file[at:] = content
    assert file == b"".join(n.to_bytes(4, "big") for entry in entries for n in entry)
    loaded = OffsetIndex()
    loaded.load(bytes(file))
    assert list(zip(loaded.offsets, loaded.positions, strict=True)) == entries
    assert (loaded.crc, loaded.entries_written) == (index.crc, len(file) // OFFSET_ENTRY_BYTES)
    assert loaded.unwritten() == (len(file), b"")
