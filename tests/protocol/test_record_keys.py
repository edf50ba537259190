"""The keys that compaction reads where they lie are those of the decoded records."""

from hypothesis import example, given
from hypothesis import strategies as st

from headwater.protocol.record_keys import consecutive_keys, short_key
from headwater.protocol.records import HEADER_BYTES, Record, build_batch

KEYS = st.none() | st.binary(max_size=40) | st.sampled_from([b"k", b"key-00000001", b"x" * 16, b"x" * 17])
RECORDS = st.tuples(KEYS, st.none() | st.integers(0, 200), st.sampled_from([0, 1, 63, 64, 5000, 8191, 8192, -3]))
RUNS = st.lists(st.tuples(RECORDS, st.integers(1, 100)), min_size=1, max_size=8)


def check(content: list[Record]) -> None:
    data = bytes(build_batch(content))[HEADER_BYTES:]
    expected = [None if record.key is None else short_key(record.key) for record in content]
    assert consecutive_keys(data, len(content)) == expected


@given(RUNS)
@example([((b"key-00000001", 100, 0), 100)])
@example([((b"key-00000001", 100, 64), 70), ((b"key-00000001", 99, 64), 70), ((b"key-0001", 104, 64), 70)])
def test_runs_of_records_that_lie_alike_or_not(runs: list[tuple[tuple[bytes | None, int | None, int], int]]) -> None:
    content = []
    for (key, size, delta), number in runs:
        for n in range(number):
            own = key if key is None or len(key) < 2 else key[:-1] + bytes([n])
            value = None if size is None else bytes([n]) * size
            content.append(Record(own, value, (), 1_000_000 + delta))
    check(content)


def test_the_offsets_delta_grows_through_all_its_widths() -> None:
    check([Record(b"key-%06d" % n, b"v" * 30, (), 5) for n in range(9000)])


def test_headers_of_different_sizes_do_not_matter() -> None:
    check([Record(b"key-%02d" % (n % 50), b"v", (("h", b"x" * (n % 3)),), 5) for n in range(500)])
