"""The simulation finds bugs: each of these is planted for the time of a test, and must be found within a few seeds."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from headwater.broker.durability import Durability
from headwater.broker.markers import Markers
from headwater.coordinators.groups.offsets import Offsets
from headwater.storage.recovery import LogRecovery
from headwater.storage.store import LogStore
from headwater.testing.simulate.simulation import simulate

SEEDS = range(20)
Original = Callable[..., Any]


def acknowledge_before_the_sync(original: Original) -> Original:
    return lambda self, group, callback: callback()


def lose_a_marker(original: Original) -> Original:
    def write_markers(self: Markers, transaction: Any, *, commit: bool) -> Any:
        partitions = frozenset(sorted(transaction.partitions)[: max(1, len(transaction.partitions) - 1)])
        return original(self, replace(transaction, partitions=partitions), commit=commit)

    return write_markers


def forget_the_producers(original: Original) -> Original:
    return lambda self, names: None


def free_the_journal_too_early(original: Original) -> Original:
    def begin_checkpoint(self: LogStore) -> Any:
        checkpoint = original(self)
        for file in checkpoint.full_files:
            file.erase()
            file.release()
        return checkpoint

    return begin_checkpoint


def keep_offsets_of_aborted_transactions(original: Original) -> Original:
    return lambda self, producer_id, belongs, *, commit: original(self, producer_id, belongs, commit=True)


PLANTED = [
    (Durability, "when_durable", acknowledge_before_the_sync),
    (Markers, "write_markers", lose_a_marker),
    (LogRecovery, "load_producers", forget_the_producers),
    (LogStore, "begin_checkpoint", free_the_journal_too_early),
    (Offsets, "end_transaction", keep_offsets_of_aborted_transactions),
]


@pytest.mark.parametrize(("class_", "name", "plant"), PLANTED, ids=[plant.__name__ for _, _, plant in PLANTED])
def test_a_planted_bug_is_found(
    class_: type, name: str, plant: Callable[[Original], Original], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_, name, plant(getattr(class_, name)))
    assert any(simulate(seed).findings for seed in SEEDS)
