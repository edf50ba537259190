"""An exception leaves a producer's block at once, whatever the broker does; what was not delivered is named."""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import headwater as hw
from headwater.client.connections import Notes
from headwater.client.deliveries import Delivery, Waker
from headwater.client.errors import BrokerUnavailableError, ClientTimeoutError, DeliveryError, TransactionStateError
from headwater.client.transactions import initialize
from headwater.testing import TestBroker

NOWHERE = "127.0.0.1:1"
AT_ONCE_S = (
    10.0  # far below the minute that a flush, a registration or an abort may wait, far above what a busy machine needs
)


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_is_not_held_back_by_a_broker_that_is_away(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    began = time.monotonic()
    with pytest.raises(kind) as caught, hw.Producer(NOWHERE) as producer:  # noqa: PT012
        delivery = producer.send("t", b"x")
        producer.send("t", b"y")
        raise kind("mine")
    assert time.monotonic() - began < AT_ONCE_S
    assert any("2 records were not delivered" in note for note in caught.value.__notes__)
    assert any("2 records were not delivered" in r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    with pytest.raises(DeliveryError, match="its producer was closed first"):
        delivery.result(0)


def test_an_exception_in_the_block_waits_for_a_broker_that_answers(address: str, orders: str) -> None:
    with pytest.raises(ValueError, match="mine"), hw.Producer(address) as producer:  # noqa: PT012
        delivery = producer.send(orders, b"x")
        delivery_2 = producer.send(orders, b"y")
        delivery.result(20_000)
        raise ValueError("mine")
    assert delivery_2.result(0).offset >= 0


def test_a_flush_that_is_too_late_leaves_the_block_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(ClientTimeoutError, match="1 records"), hw.Producer(NOWHERE) as producer:  # noqa: PT012
        producer.send("t", b"x")
        producer.flush(10)
    assert time.monotonic() - began < AT_ONCE_S


def test_close_takes_a_time_and_fails_what_is_left() -> None:
    producer = hw.Producer(NOWHERE)
    delivery = producer.send("t", b"x")
    with pytest.raises(ClientTimeoutError, match="after 10 ms"):
        producer.close(timeout_ms=10)
    with pytest.raises(DeliveryError):
        delivery.result(0)
    producer.close()


async def test_an_async_block_is_left_at_once_too() -> None:
    began = time.monotonic()
    with pytest.raises(ValueError, match="mine"):  # noqa: PT012
        async with hw.Producer(NOWHERE) as producer:
            delivery = producer.send("t", b"x")
            raise ValueError("mine")
    assert time.monotonic() - began < AT_ONCE_S
    with pytest.raises(DeliveryError):
        await delivery


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as in a terminal: a shell starts what runs in its background with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt_when(is_time: threading.Event) -> None:
    def interrupt() -> None:
        is_time.wait()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_the_registration_of_a_transactional_id() -> None:
    began, is_time = time.monotonic(), threading.Event()
    producer: hw.Producer[Any] = hw.Producer(NOWHERE, transactional_id="t")
    interrupt_when(is_time)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        is_time.set()
        producer.__enter__()
    assert time.monotonic() - began < AT_ONCE_S
    assert producer.is_closed


def test_a_producer_whose_registration_fails_is_closed() -> None:
    producer: hw.Producer[Any] = hw.Producer(NOWHERE, transactional_id="t")
    with pytest.raises((BrokerUnavailableError, ClientTimeoutError)):
        initialize(producer._raw, 600)
    producer.close()


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_a_flush() -> None:
    is_time = threading.Event()
    producer: hw.Producer[Any] = hw.Producer(NOWHERE)
    producer.send("t", b"x")
    interrupt_when(is_time)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        is_time.set()
        producer.close()
    assert time.monotonic() - began < AT_ONCE_S
    assert producer.is_closed


def test_ctrl_c_that_comes_while_librdkafka_calls_back_is_not_lost(address: str, orders: str) -> None:
    """Its binding keeps the value of what a callback raises, and a Ctrl-C has none yet."""

    class Raw:
        def consume(self, number: int, timeout_s: float) -> Any:
            raise SystemError("<method 'consume'> returned NULL without setting an exception")

        poll = pause = consume

    with hw.Consumer(address, orders, group="g") as consumer:
        real, consumer._reader.raw = consumer._reader.raw, Raw()
        try:
            with pytest.raises(KeyboardInterrupt):
                consumer.take(1)
        finally:
            consumer._reader.raw = real


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_a_consumers_block_is_left_at_once_where_the_broker_is_away(kind: type[BaseException]) -> None:
    """librdkafka would wait for 45 seconds, as long as a session lasts, to commit what was handled."""
    with TestBroker() as broker:
        with hw.Producer(broker) as producer:
            producer.send_batch("t", [1, 2, 3])
        with pytest.raises(kind), hw.Consumer(broker, "t", group="g") as consumer:  # noqa: PT012
            assert len(consumer.take(3)) == 3
            broker.kill()
            while consumer._reader.notes.log.away_ms is None:
                consumer.take(1, 50)
            began = time.monotonic()
            raise kind("mine")
    assert time.monotonic() - began < AT_ONCE_S
    assert consumer.is_closed


def test_a_consumers_close_takes_a_time_and_says_what_comes_again(caplog: pytest.LogCaptureFixture) -> None:
    with TestBroker() as broker:
        with hw.Producer(broker) as producer:
            producer.send_batch("t", [1, 2, 3])
        consumer: hw.Consumer[Any] = hw.Consumer(broker, "t", group="g")
        assert len(consumer.take(3)) == 3
        broker.kill()
        consumer.close(timeout_ms=50)
        consumer.close()
    assert "no answer in 50 ms: events that are not committed come again" in caplog.text


# -- the state of a transaction


def test_sending_outside_a_transaction_says_what_to_do(address: str, orders: str) -> None:
    with hw.Producer(address, transactional_id=f"{orders}-t") as producer:
        with pytest.raises(TransactionStateError, match=r"wrap it in `with producer\.transaction\(\):`"):
            producer.send(orders, 1)
        with producer.transaction():
            producer.send(orders, 2)
            with pytest.raises(TransactionStateError, match="one open already"), producer.transaction():
                pass
        with producer.transaction():
            producer.send(orders, 3)
    assert repr(producer).startswith(f"<Producer {orders}-t to ")
    with hw.Consumer(address, orders, group="g", idle_timeout_ms=20_000) as events:
        assert sorted(event.value for event in events.take(2)) == [2, 3]


# -- waiting for deliveries


async def test_a_waiter_that_gives_up_takes_no_other_with_it() -> None:
    delivery = Delivery(Waker(Notes()), "t")

    async def wait() -> Any:
        return await delivery

    first, second = asyncio.ensure_future(wait()), asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    assert not second.done()
    delivery.mark_done()
    delivery.waker.wake()
    assert await second is delivery
    assert first.cancelled()


def test_the_event_of_a_delivery_is_made_under_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two threads that wait could each make one of their own, and one of them would wait for ever."""
    delivery = Delivery(Waker(Notes()), "t")
    is_locked: list[bool] = []

    class Event(threading.Event):
        def __init__(self) -> None:
            super().__init__()
            is_locked.append(delivery.waker.lock.locked())

    monkeypatch.setattr("headwater.client.deliveries.threading.Event", Event)
    assert not delivery.wait_done(0)
    first = delivery.event
    assert not delivery.wait_done(0)
    assert delivery.event is first
    assert is_locked[0]
