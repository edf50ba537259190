"""What a log knows of its producers, after a start too."""

import pytest

from headwater.protocol.records import CONTROL, TRANSACTIONAL, Record, build_batch, control_record, read_header
from headwater.storage.producers import FORGETTING_COORDINATOR_EPOCH, Verdict
from tests.storage.test_log import Store

PRODUCER_ID, EPOCH = 7, 13


def data() -> bytearray:
    return build_batch(
        [Record(None, b"v", (), 1)],
        attributes=TRANSACTIONAL,
        producer_id=PRODUCER_ID,
        producer_epoch=EPOCH,
        base_sequence=0,
    )


def abort(coordinator_epoch: int) -> bytearray:
    return build_batch(
        [control_record(0, coordinator_epoch, 1)],
        attributes=CONTROL | TRANSACTIONAL,
        producer_id=PRODUCER_ID,
        producer_epoch=EPOCH,
    )


@pytest.mark.parametrize(
    ("coordinator_epoch", "verdict"), [(0, Verdict.DUPLICATE), (FORGETTING_COORDINATOR_EPOCH, Verdict.APPEND)]
)
@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_batch_that_a_start_has_aborted_is_new_when_it_comes_again(
    coordinator_epoch: int, verdict: Verdict, checkpointed: bool
) -> None:
    """Also at the start after that one: an answer that it is a duplicate would say that it is there."""
    store = Store()
    for batch in (data(), abort(coordinator_epoch)):
        store.store.append(store.log, batch, read_header(batch))
        store.flush()
    assert store.log.producers.check(read_header(data()))[0] is verdict
    if checkpointed:
        store.store.checkpoint()
    for _ in range(2):
        store.reopen(clean=False)
        assert store.log.producers.check(read_header(data()))[0] is verdict
        assert not store.log.producers.ongoing
