"""What becomes of an event whose handler fails, where the consumer is stopped, paused or kept alive meanwhile."""

import asyncio
from typing import Any

import pytest

import headwater as hw
from headwater.client.errors import RecordTooLargeError
from headwater.client.handling import Handling
from tests.client.test_clients import committed, consumer, send_numbers

LONG_MS = 3_600_000.0
WAIT_MS = 20_000.0


@pytest.mark.parametrize("last", [hw.Stop(), hw.Skip(), hw.DeadLetter()])
def test_a_stop_during_a_wait_gives_the_event_back(address: str, orders: str, last: Any) -> None:
    send_numbers(address, orders, 3)
    calls: list[int] = []

    def fail(event: hw.Event[Any]) -> None:
        calls.append(event.offset)
        if event.offset == 1:
            events.stop()
            raise ValueError("busy")

    with consumer(address, orders) as events:
        events.handle(fail, on_error=hw.Retry(5, delay_ms=LONG_MS, then=last))
    assert calls == [0, 1]
    assert committed(address, f"{orders}-group") == 1
    with consumer(address, orders) as events:
        assert [event.offset for event in events.take(2, WAIT_MS)] == [1, 2]
    with hw.Admin(address) as admin:
        assert f"{orders}.dead" not in admin.topics()


def test_an_event_whose_dead_letter_is_not_delivered_is_not_handled(address: str, orders: str) -> None:
    send_numbers(address, orders, 3)
    calls: list[int] = []

    def fail(event: hw.Event[Any]) -> None:
        calls.append(event.offset)
        raise ValueError("no")

    with hw.Admin(address) as admin:
        admin.create_topic(f"{orders}.dead", configs={"max.message.bytes": "10"})
    with pytest.raises(RecordTooLargeError), consumer(address, orders) as events:
        events.handle(fail, on_error=hw.DeadLetter())
    assert calls == [0]
    assert committed(address, f"{orders}-group") <= 0


async def test_an_async_stop_during_a_wait_gives_the_event_back(address: str, orders: str) -> None:
    send_numbers(address, orders, 2)
    calls: list[int] = []

    async def fail(event: hw.Event[Any]) -> None:
        calls.append(event.offset)
        events.stop()
        raise ValueError("busy")

    async with consumer(address, orders) as events:
        await events.handle(fail, on_error=hw.Retry(5, delay_ms=LONG_MS, then=hw.Skip()))
    assert calls == [0]
    assert committed(address, f"{orders}-group") == 0


async def test_a_wait_that_is_cancelled_leaves_no_thread(address: str, orders: str) -> None:
    send_numbers(address, orders, 1)
    failed = asyncio.Event()

    async def fail(event: hw.Event[Any]) -> None:
        failed.set()
        raise ValueError("busy")

    async with consumer(address, orders) as events:
        task = asyncio.ensure_future(events.handle(fail, on_error=hw.Retry(5, delay_ms=LONG_MS)))
        await failed.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    # A thread that still waited would hold this up for an hour.
    async with asyncio.timeout(WAIT_MS / 1000):
        await asyncio.get_running_loop().shutdown_default_executor()
    assert committed(address, f"{orders}-group") == 0


@pytest.mark.parametrize("fate", [hw.Skip, hw.Stop, hw.DeadLetter, hw.Retry, "skip", None])
def test_a_fate_that_is_none_is_refused(address: str, orders: str, fate: Any) -> None:
    with consumer(address, orders) as events:
        with pytest.raises(TypeError, match=r"on_error= is .*hw\.Skip\(\)"):
            events.handle(print, on_error=fate)
        with pytest.raises(TypeError, match="on_error"):
            Handling(events._reader, fate)
    with pytest.raises(TypeError, match="on_error"):
        hw.Bus().subscribe("t", print, on_error=fate)
    with pytest.raises(TypeError, match="then="):
        hw.Retry(then=fate)


@pytest.mark.parametrize("wrong", [{"attempts": -1}, {"delay_ms": -1}, {"factor": -1}, {"delay_ms_max": -1}])
def test_an_invalid_retry_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        hw.Retry(**wrong)


def test_a_sign_of_life_resumes_only_what_it_has_paused(address: str, orders: str) -> None:
    with consumer(address, orders) as events:
        while len(events.assignment()) < 2:
            events.take(1, 50)
        events.pause([hw.Partition(orders, 0)])
        events._reader.keep_alive()
        with hw.Producer(address) as producer:
            producer.send_batch(orders, [hw.Outgoing(n, partition=n) for n in (0, 1)]).result(WAIT_MS)
        assert [event.partition for event in events.take(2, 1000)] == [1]
        events._reader.keep_alive()
        assert events.take(1, 300) == []
        events.resume()
        assert [event.partition for event in events.take(1, WAIT_MS)] == [0]


def test_what_is_paused_stays_so_over_a_rebalance(address: str, orders: str) -> None:
    with consumer(address, orders) as events:
        while len(events.assignment()) < 2:
            events.take(1, 50)
        events.pause()
        with consumer(address, orders) as other:
            while not other.assignment():
                other.take(1, 50)
                events.take(1, 50)
        while len(events.assignment()) < 2:
            events.take(1, 50)
        with hw.Producer(address) as producer:
            producer.send_batch(orders, [hw.Outgoing(n, partition=n) for n in (0, 1)]).result(WAIT_MS)
        assert events.take(1, 500) == []
        events.resume()
        assert len(events.take(2, WAIT_MS)) == 2
