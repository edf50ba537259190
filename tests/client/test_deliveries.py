"""When a delivery is done: reports come in librdkafka's thread, before and after all was sent."""

from typing import Any

import pytest
from confluent_kafka import KafkaError

from headwater.client.connections import Notes
from headwater.client.deliveries import BatchDelivery, Delivery, Waker
from headwater.client.errors import ClientError, ClientTimeoutError

MESSAGE: Any = None  # nobody looks at it here
TOO_LARGE = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)


@pytest.fixture
def waker() -> Waker:
    return Waker(Notes())


def test_a_batch_is_done_with_its_last_report(waker: Waker) -> None:
    batch = BatchDelivery(waker, "t")
    batch.report(None, MESSAGE)
    batch.report(None, MESSAGE)
    batch.sent_all(3)
    assert not batch.is_done
    with pytest.raises(ClientTimeoutError, match="not delivered after 0 ms"):
        batch.result(0)
    batch.report(None, MESSAGE)
    assert batch.result(0).delivered == 3


def test_a_batch_whose_reports_are_all_there_is_done_when_it_is_sent(waker: Waker) -> None:
    batch = BatchDelivery(waker, "t")
    batch.report(None, MESSAGE)
    batch.report(None, MESSAGE)
    assert not batch.is_done
    batch.sent_all(2)
    assert batch.is_done


def test_a_batch_of_nothing_is_done(waker: Waker) -> None:
    batch = BatchDelivery(waker, "t")
    batch.sent_all(0)
    assert batch.result(0).size == 0


def test_records_that_failed_count_as_reported(waker: Waker) -> None:
    batch = BatchDelivery(waker, "t")
    batch.sent_all(3)
    for error in (None, TOO_LARGE, TOO_LARGE):
        assert not batch.is_done
        batch.report(error, MESSAGE)
    with pytest.raises(ClientError, match="too large") as caught:
        batch.result(0)
    assert caught.value.__notes__ == ["2 of the 3 records of the batch were not delivered"]
    waker.raise_unseen()  # it was seen


def test_the_first_failure_that_nobody_has_seen_is_raised_once(waker: Waker) -> None:
    for topic in ("one", "two"):
        Delivery(waker, topic).report(TOO_LARGE, MESSAGE)
    with pytest.raises(ClientError, match="one"):
        waker.raise_unseen()
    waker.raise_unseen()
