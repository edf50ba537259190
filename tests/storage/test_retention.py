"""What retention lets go and why, and how the bytes of it are counted."""

from typing import cast

import pytest

from headwater.effects.work import at_once
from headwater.storage.config import LogConfig
from headwater.storage.log import Log
from headwater.storage.retention import Reason, bytes_let_go, expired_offsets

from .test_log import Store, filled

OLD_MS = 3_600_000
Announced = list[tuple[Log, Reason, int, int]]


def of_two_ages(config: LogConfig) -> tuple[Store, Announced]:
    """A store whose log has 120 old records and 60 new ones; what it announces."""
    store = filled(config=LogConfig(segment_bytes=2000, index_interval_bytes=200))
    store.clock.advance(OLD_MS)
    for _ in range(60):
        store.append(timestamp=store.clock.wall_ms())
    store.store.checkpoint()
    store.log.config = config
    announced: Announced = []
    store.store.cleaned = lambda *what: announced.append(what)
    return store, announced


def test_nothing_is_let_go_without_a_limit_or_a_policy_that_deletes() -> None:
    store, _ = of_two_ages(LogConfig(retention_ms=-1))
    assert expired_offsets(store.log, store.clock.wall_ms()) == {}
    store.log.config = LogConfig(retention_ms=1, delete=False)
    assert expired_offsets(store.log, store.clock.wall_ms()) == {}


def test_each_reason_has_its_own_offsets_and_bytes() -> None:
    store, announced = of_two_ages(LogConfig(retention_ms=OLD_MS // 2, retention_bytes=2500, segment_bytes=2000))
    sizes = dict(zip(store.log.base_offsets, [segment.size for segment in store.log.segments], strict=True))
    removed = at_once(store.store.apply_retention())
    (_, first, aged, aged_bytes), (_, second, surplus, surplus_bytes) = announced
    assert (first, second) == (Reason.TIME, Reason.SIZE)
    assert aged in sizes  # a segment begins where the old ones end
    assert aged_bytes == sum(size for base, size in sizes.items() if base < aged)
    assert aged + surplus == store.log.start_offset == store.log.base_offsets[0]
    assert surplus_bytes == sum(size for base, size in sizes.items() if aged <= base < aged + surplus) > 0
    assert store.log.size_bytes == sum(sizes.values()) - aged_bytes - surplus_bytes >= 2500
    assert removed == len(sizes) - len(store.log.segments)
    at_once(store.store.apply_retention())
    assert len(announced) == 2


@pytest.mark.parametrize("reason", [Reason.REQUEST, None])
def test_a_start_that_moves_within_a_segment_lets_no_bytes_go(reason: Reason | None) -> None:
    store, announced = of_two_ages(LogConfig(retention_ms=-1))
    second = store.log.base_offsets[1]
    first_bytes = store.log.segments[0].size
    store.store.advance_start({store.log: second - 1}, reason)
    store.store.advance_start({store.log: second - 1}, reason)
    assert store.store.advance_start({store.log: second + 1}, reason) == 1
    expected = [(store.log, reason, second - 1, 0), (store.log, reason, 2, first_bytes)]
    assert announced == (expected if reason is not None else [])
    assert bytes_let_go(store.log, 0, store.log.end_offset) == store.log.size_bytes


class Part:
    """A segment, as retention knows it."""

    is_damaged = False

    def __init__(self, base_offset: int, size: int, max_timestamp: int) -> None:
        self.base_offset, self.size, self.max_timestamp = base_offset, size, max_timestamp


class Parts:
    """A log of such segments, durable to its end."""

    start_offset, end_offset, high_watermark = 0, 30, 30

    def __init__(self, *segments: Part, retention_ms: int) -> None:
        self.segments = list(segments)
        self.config = LogConfig(retention_ms=retention_ms, retention_bytes=-1)
        self.size_bytes = sum(segment.size for segment in segments)

    def ensure_index(self, segment: Part) -> None:
        """They are all loaded."""


@pytest.mark.parametrize(("retention_ms", "found"), [(-1, {None: 10}), (50, {None: 10, Reason.TIME: 20})])
def test_a_segment_that_compaction_has_emptied_goes_for_no_reason(
    retention_ms: int, found: dict[Reason | None, int]
) -> None:
    log = Parts(Part(0, 0, -1), Part(10, 100, 0), Part(20, 100, 90), retention_ms=retention_ms)
    assert expired_offsets(cast(Log, log), now_ms=100) == found
