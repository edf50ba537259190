"""The producers of one log alone: which batches are new, which come again, and which are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.protocol.errors import ProtocolError
from headwater.protocol.records import TRANSACTIONAL, BatchHeader
from headwater.storage.producers import BATCHES_KEPT, FencedMarkerError, ProducerStates, Verdict

SEQUENCE_MAX = 2**31 - 1


def batch(sequence: int, count: int = 1, epoch: int = 0, producer_id: int = 7, attributes: int = 0) -> BatchHeader:
    return BatchHeader(0, 0, 0, 2, 0, attributes, count - 1, 0, 5, producer_id, epoch, sequence, count)


def verdict(states: ProducerStates, header: BatchHeader) -> Verdict:
    return states.check(header)[0]


def test_the_next_batch_is_new_the_same_one_comes_again_and_a_gap_is_refused() -> None:
    states = ProducerStates()
    states.note(batch(0, 3), 100)
    assert verdict(states, batch(3)) is Verdict.APPEND
    again, kept = states.check(batch(0, 3))
    assert (again, kept and kept.last_offset) == (Verdict.DUPLICATE, 102)
    for header in (batch(4), batch(0, 2), batch(1, 2), batch(2)):
        assert verdict(states, header) is Verdict.OUT_OF_ORDER


def test_sequences_wrap_within_a_batch_and_between_two() -> None:
    states = ProducerStates()
    states.note(batch(SEQUENCE_MAX - 1, 3), 0)  # ends with 0
    assert verdict(states, batch(1)) is Verdict.APPEND
    assert verdict(states, batch(SEQUENCE_MAX - 1, 3)) is Verdict.DUPLICATE
    states = ProducerStates()
    states.note(batch(SEQUENCE_MAX), 0)
    assert verdict(states, batch(0)) is Verdict.APPEND
    read = ProducerStates.from_snapshot(states.snapshot())
    assert (verdict(read, batch(0)), verdict(read, batch(SEQUENCE_MAX))) == (Verdict.APPEND, Verdict.DUPLICATE)


def test_an_older_epoch_is_fenced_and_a_newer_one_begins_with_0() -> None:
    states = ProducerStates()
    states.note(batch(0, epoch=3), 0)
    assert verdict(states, batch(1, epoch=2)) is Verdict.FENCED
    assert verdict(states, batch(1, epoch=4)) is Verdict.OUT_OF_ORDER
    assert verdict(states, batch(0, epoch=4)) is Verdict.APPEND
    states.note(batch(0, epoch=4), 1)
    assert verdict(states, batch(1, epoch=3)) is Verdict.FENCED
    with pytest.raises(FencedMarkerError):
        states.check_marker(7, 3, 0)


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from([0, 0, 0, 1]), st.integers(7, 8), st.booleans())))
def test_the_last_five_are_known_again_also_from_a_snapshot(script: list[tuple[int, int, int, bool]]) -> None:
    states = ProducerStates()
    kept: dict[int, list[BatchHeader]] = {7: [], 8: []}
    starts: dict[int, int] = {}
    offset, epochs = 0, {7: 0, 8: 0}
    for count, newer, producer_id, is_transactional in script:
        epochs[producer_id] += newer
        if newer:
            kept[producer_id] = []
        last = kept[producer_id][-1].last_sequence if kept[producer_id] else -1
        attributes = TRANSACTIONAL if is_transactional else 0
        header = batch(last + 1, count, epochs[producer_id], producer_id, attributes)
        assert verdict(states, header) is Verdict.APPEND
        states.note(header, offset)
        if is_transactional:
            starts.setdefault(producer_id, offset)
        kept[producer_id].append(header)
        offset += count
    for found in (states, ProducerStates.from_snapshot(states.snapshot())):
        for headers in kept.values():
            for header in headers[:-BATCHES_KEPT]:
                assert verdict(found, header) is Verdict.OUT_OF_ORDER
            for header in headers[-BATCHES_KEPT:]:
                assert verdict(found, header) is Verdict.DUPLICATE
        assert found.entries == states.entries
        assert list(found.ongoing.items()) == list(starts.items())
        assert found.first_unstable(offset) == min(starts.values(), default=None)


def test_every_damaged_byte_of_a_snapshot_is_found() -> None:
    states = ProducerStates()
    states.note(batch(0), 0)
    content = bytearray(states.snapshot())
    for at in range(len(content)):
        content[at] ^= 1
        with pytest.raises(ProtocolError):
            ProducerStates.from_snapshot(bytes(content))
        content[at] ^= 1
    with pytest.raises(ProtocolError):
        ProducerStates.from_snapshot(b"\0")
