"""The bus: who gets what, in which order, what full queues, failures and the clock do."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.bus import seen as seen_module
from headwater.bus.bus import Bus
from headwater.bus.errors import (
    BusClosedError,
    HandlerCancelledError,
    NoSubscriberError,
    QueueFullError,
    ReplyTimeoutError,
)
from headwater.bus.patterns import PatternError, compile_pattern, matches
from headwater.bus.schedule import ScheduleError
from headwater.bus.subscription import Overflow
from headwater.effects.clock import MovableClock
from headwater.events import Event, current_event
from headwater.events.fates import DeadLetter, Retry, Skip, Stop


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("orders.*.paid", ["orders.eu.paid"], ["orders.paid", "orders.a.b.paid", "orders.eu.paid.x"]),
        ("orders.#", ["orders", "orders.a", "orders.a.b"], ["ordersx", "order"]),
        ("#.paid", ["paid", "a.paid", "a.b.paid"], ["apaid", "paid.x"]),
        ("a.#.b", ["a.b", "a.x.b", "a.x.y.b"], ["ab", "a.b.c"]),
        ("#", ["", "a", "a.b"], []),
        ("a.b-c", ["a.b-c"], ["axb-c"]),
    ],
)
def test_patterns(pattern: str, yes: list[str], no: list[str]) -> None:
    assert [topic for topic in yes if not matches(pattern, topic)] == []
    assert [topic for topic in no if matches(pattern, topic)] == []


@pytest.mark.parametrize("pattern", ["", "a..b", "a*", "a.#b"])
def test_invalid_patterns(pattern: str) -> None:
    with pytest.raises(PatternError):
        compile_pattern(pattern)


WORD = st.sampled_from(["a", "b", "c"])


@given(st.lists(WORD | st.sampled_from(["*", "#"]), min_size=1, max_size=5), st.lists(WORD, min_size=1, max_size=5))
def test_patterns_match_as_the_obvious_recursion_does(pattern: list[str], topic: list[str]) -> None:
    def obvious(left: list[str], right: list[str]) -> bool:
        if not left:
            return not right
        if left[0] == "#":
            return any(obvious(left[1:], right[n:]) for n in range(len(right) + 1))
        return bool(right) and left[0] in ("*", right[0]) and obvious(left[1:], right[1:])

    assert matches(".".join(pattern), ".".join(topic)) == obvious(pattern, topic)


async def test_every_subscriber_gets_the_events_in_order() -> None:
    bus, seen, others = Bus(), [], []

    @bus.subscribe("orders.*.paid")
    async def ship(event: Event[int]) -> None:
        seen.append((event.topic, event.value, event.key, event.headers["origin"]))

    bus.subscribe("orders.#", lambda event: others.append(event.value))
    for n in range(3):
        await bus.publish("orders.eu.paid", n, key=f"k{n}", headers={"origin": "web"})
    await bus.publish("orders.eu.open", 9)
    await bus.drain()
    assert seen == [("orders.eu.paid", n, f"k{n}", "web") for n in range(3)]
    assert others == [0, 1, 2, 9]


async def test_a_subscriber_filters_and_transforms() -> None:
    bus, seen = Bus(), []
    bus.subscribe(
        "n",
        lambda event: seen.append(event.value),
        when=lambda event: event.value % 2 == 0,
        transform=lambda event: event.with_value(event.value * 10),
    )
    for n in range(4):
        await bus.publish("n", n)
    await bus.drain()
    assert seen == [0, 20]


async def test_a_slow_subscriber_makes_its_publisher_wait_and_nobody_else() -> None:
    bus, gate, slow, quick = Bus(), asyncio.Event(), [], []

    async def wait(event: Event[int]) -> None:
        await gate.wait()
        slow.append(event.value)

    bus.subscribe("n", wait, queue_size_max=1)
    bus.subscribe("n", lambda event: quick.append(event.value))

    async def publish() -> None:
        for n in range(4):
            await bus.publish("n", n)

    task = asyncio.create_task(publish())
    while len(quick) < 2:
        await asyncio.sleep(0)
    assert not task.done()
    gate.set()
    await task
    await bus.drain()
    assert slow == quick == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("overflow", "expected"), [(Overflow.DROP_OLDEST, [0, 3, 4]), (Overflow.DROP_NEWEST, [0, 1, 2])]
)
async def test_full_queues_drop_as_chosen(overflow: Overflow, expected: list[int]) -> None:
    bus, gate, seen = Bus(), asyncio.Event(), []

    async def handler(event: Event[int]) -> None:
        await gate.wait()
        seen.append(event.value)

    subscription = bus.subscribe("n", handler, queue_size_max=2, overflow=overflow)
    await bus.publish("n", 0)
    while subscription.queued:
        await asyncio.sleep(0)
    for n in range(1, 5):
        await bus.publish("n", n)
    gate.set()
    await bus.drain()
    assert seen == expected
    assert subscription.dropped == 2


async def test_a_full_queue_can_fail_its_publisher_and_others_get_the_event() -> None:
    bus, seen = Bus(), []
    bus.subscribe("n", lambda event: None, queue_size_max=1, overflow="fail")
    bus.subscribe("n", lambda event: seen.append(event.value))
    bus.publish_nowait("n", 1)
    with pytest.raises(QueueFullError):
        await bus.publish("n", 2)
    await bus.drain()
    assert seen == [1, 2]


async def test_keys_stay_in_order_over_many_workers() -> None:
    bus = Bus()
    seen: dict[object, list[int]] = {}

    async def handler(event: Event[int]) -> None:
        await asyncio.sleep(0)
        seen.setdefault(event.key, []).append(event.value)

    bus.subscribe("n", handler, workers=4)
    for n in range(40):
        await bus.publish("n", n, key=n % 5)
    await bus.drain()
    assert seen == {key: [n for n in range(40) if n % 5 == key] for key in range(5)}


async def test_the_last_events_are_replayed() -> None:
    bus, seen = Bus(history=10), []
    for n in range(6):
        await bus.publish("n" if n % 2 else "m", n)
    bus.subscribe("n", lambda event: seen.append(event.value), replay=2)
    await bus.publish("n", 7)
    await bus.drain()
    assert seen == [3, 5, 7]


async def test_what_a_handler_publishes_is_caused_by_what_it_handles() -> None:
    bus = Bus()

    @bus.subscribe("ordered")
    async def pay(event: Event[Any]) -> None:
        assert current_event() is event
        await bus.publish("paid", 1)

    @bus.subscribe("paid")
    async def ship(event: Event[Any]) -> None:
        await bus.publish("shipped", 1)

    with bus.watch() as seen:
        await bus.publish("ordered", 1)
        await bus.drain()
    ordered, paid, shipped = seen.events
    assert (paid.causation_id, shipped.causation_id) == (ordered.id, paid.id)
    assert {ordered.correlation_id, paid.correlation_id, shipped.correlation_id} == {ordered.id}
    assert current_event() is None


def flaky(failures: int) -> tuple[Any, list[int]]:
    attempts: list[int] = []

    def handler(event: Event[int]) -> None:
        attempts.append(event.value)
        if len(attempts) <= failures:
            raise ValueError("not yet")

    return handler, attempts


async def test_retries_wait_on_the_clock() -> None:
    clock = MovableClock()
    bus = Bus(clock=clock)
    handler, attempts = flaky(2)
    subscription = bus.subscribe("n", handler, on_error=Retry(3, delay_ms=60_000, then=Skip()))
    await bus.publish("n", 1)
    for expected in (1, 2, 3):
        while len(attempts) < expected:
            clock.advance(60_000)
            await asyncio.sleep(0)
    await bus.drain()
    assert (subscription.delivered, subscription.failed) == (1, 0)


async def test_a_dead_letter_keeps_the_event_and_its_error() -> None:
    bus = Bus()
    handler, attempts = flaky(99)
    bus.subscribe("orders", handler, on_error=Retry(1, delay_ms=0, then=DeadLetter()))
    with bus.watch("orders.dead") as seen:
        await bus.publish("orders", 5, key="k")
        await bus.drain()
    (letter,) = seen.events
    assert attempts == [5, 5]
    assert (letter.value, letter.key, letter.headers["hw_original_topic"]) == (5, "k", "orders")
    assert "not yet" in letter.headers["hw_error"]


async def test_a_subscriber_that_stops_leaves_the_others_alone() -> None:
    bus, seen = Bus(), []
    handler, attempts = flaky(99)
    subscription = bus.subscribe("n", handler, on_error=Stop())
    bus.subscribe("n", lambda event: seen.append(event.value))
    for n in range(3):
        await bus.publish("n", n)
    await bus.drain()
    assert seen == [0, 1, 2]
    assert attempts == [0]
    assert not subscription.is_active
    assert isinstance(subscription.error, ValueError)


async def test_delays_times_and_schedules_move_with_the_clock() -> None:
    clock = MovableClock()
    bus = Bus(clock=clock)
    with bus.watch() as seen:
        await bus.publish("later", 1, delay=timedelta(minutes=5))
        await bus.publish("then", 2, at=datetime.fromtimestamp(clock.wall_ms() / 1000, UTC) + timedelta(hours=1))
        schedule = bus.every(timedelta(hours=2), "tick", lambda: "tock")
        bus.every("0 0 1 1 *", "new-year")
        assert seen.events == []
        for minutes, expected in ((6, 1), (60, 2), (60, 3), (120, 4)):
            clock.advance(minutes * 60_000)
            while len(seen.events) < expected:
                await asyncio.sleep(0)
        schedule.cancel()
        clock.advance(367 * 24 * 3600_000)
        while len(seen.events) < 5:
            await asyncio.sleep(0)
    assert [event.topic for event in seen.events] == ["later", "then", "tick", "tick", "new-year"]
    await bus.close()


@pytest.mark.parametrize("when", ["", "61 * * * *", timedelta(0)])
async def test_invalid_schedules(when: Any) -> None:
    with pytest.raises(ScheduleError):
        Bus().every(when, "t")


async def test_invalid_times() -> None:
    bus = Bus()
    with pytest.raises(ScheduleError, match="time zone"):
        await bus.publish("t", 1, at=datetime(2026, 1, 1))
    with pytest.raises(ScheduleError, match="past"):
        await bus.publish("t", 1, delay=-1)
    with pytest.raises(ScheduleError, match="not both"):
        await bus.publish("t", 1, delay=1, at=datetime.now(UTC))


async def test_requests_are_answered_refused_or_too_late(caplog: pytest.LogCaptureFixture) -> None:
    clock = MovableClock()
    bus = Bus(clock=clock)

    @bus.subscribe("double")
    async def double(event: Event[int]) -> int:
        return event.value * 2

    assert await bus.request("double", 21) == 42
    with pytest.raises(NoSubscriberError):
        await bus.request("nobody", 1)
    bus.subscribe("fail", flaky(9)[0])
    with pytest.raises(ValueError, match="not yet"):
        await bus.request("fail", 1)
    assert caplog.records == []  # it has been raised, so it need not be logged as well
    bus.subscribe("picky", lambda event: 1, when=lambda event: False)
    with pytest.raises(NoSubscriberError):
        await bus.request("picky", 1)

    async def never(event: Event[int]) -> None:
        await asyncio.get_running_loop().create_future()

    subscription = bus.subscribe("slow", never)
    task = asyncio.create_task(bus.request("slow", 1, timeout_ms=3_600_000))
    await asyncio.sleep(0)
    clock.advance(3_600_001)
    with pytest.raises(ReplyTimeoutError):
        await task
    subscription.cancel()


async def test_routes_pass_on() -> None:
    bus = Bus()
    bus.route("orders.*.paid", "billing", transform=lambda event: event.with_value(event.value + 1))
    with bus.watch("billing") as seen:
        assert repr(seen) == "<Seen 0 so far>"
        await bus.publish("orders.eu.paid", 1, key="k")
        await bus.drain()
    assert [(e.value, e.key) for e in seen.events] == [(2, "k")]
    assert repr(seen) == "<Seen 1 so far: the last is <Event billing key='k' value=2>>"


async def test_only_the_last_events_that_were_watched_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen_module, "SEEN_MAX", 2)
    bus = Bus()
    with bus.watch() as seen:
        for number in range(3):
            await bus.publish("orders", number)
    assert seen.values == [1, 2]


class MemoryStore:
    def __init__(self) -> None:
        self.events: list[Event[Any]] = []

    async def append(self, event: Event[Any]) -> None:
        self.events.append(event)

    async def read(self) -> Any:
        for event in list(self.events):
            yield event


async def test_a_store_has_an_event_before_anybody_gets_it() -> None:
    store, seen = MemoryStore(), []
    bus = Bus(store=store)
    bus.subscribe("n", lambda event: seen.append((event.value, len(store.events))))
    await bus.publish("n", 1)
    await bus.drain()
    assert seen == [(1, 1)]
    await bus.publish("m", 2)
    assert await bus.replay_store("n") == 1
    await bus.drain()
    assert seen == [(1, 1), (1, 2)]
    with pytest.raises(RuntimeError, match="await"):
        bus.publish_nowait("n", 1)


async def test_a_closed_bus_refuses() -> None:
    async with Bus() as bus:
        seen: list[int] = []
        bus.subscribe("n", lambda event: seen.append(event.value))
        await bus.publish("n", 1)
    assert seen == [1]
    with pytest.raises(BusClosedError):
        await bus.publish("n", 1)
    with pytest.raises(BusClosedError):
        bus.subscribe("n", print)


# -- nothing vanishes silently


async def test_a_dead_letter_is_logged_and_whether_anybody_gets_it(caplog: pytest.LogCaptureFixture) -> None:
    bus = Bus()

    def fail(event: Event[int]) -> None:
        raise ValueError("no stock")

    bus.subscribe("orders", fail, on_error=Retry(1, delay_ms=0, then=DeadLetter()))
    await bus.publish("orders", 1)
    await bus.drain()
    bus.subscribe("orders.dead", lambda event: None)
    await bus.publish("orders", 2)
    await bus.drain()
    first, second = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "orders" in first
    assert first.endswith("is in orders.dead, to which nobody subscribes: ValueError: no stock")
    assert second.endswith("is in orders.dead: ValueError: no stock")


async def test_a_dead_letter_that_cannot_be_published_stops_its_subscription_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus = Bus()

    def fail(event: Event[int]) -> None:
        raise ValueError("no stock")

    subscription = bus.subscribe("orders", fail, on_error=DeadLetter("not..a.topic"))
    await bus.publish("orders", 1)
    await bus.drain()
    assert isinstance(subscription.error, PatternError)
    assert not subscription.is_active
    assert "not..a.topic" in caplog.text


async def test_what_is_due_and_cannot_be_published_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    clock = MovableClock()
    bus = Bus(clock=clock)
    held = asyncio.Event()

    async def hold(event: Event[int]) -> None:
        await held.wait()

    bus.subscribe("t", hold, queue_size_max=1, overflow="fail")
    await bus.publish("t", 1)
    await asyncio.sleep(0)
    await bus.publish("t", 2)
    await bus.publish("t", 3, delay=1)
    clock.advance(1000)
    while not caplog.records:
        await asyncio.sleep(0)
    held.set()
    await bus.drain()
    assert "a scheduled event could not be published" in caplog.text
    assert "has 1 events waiting" in caplog.text


# -- cancellation


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("filtered", [True, False])
async def test_a_handler_whose_waiting_was_cancelled_has_failed_and_the_next_event_comes(
    is_async: bool, filtered: bool
) -> None:
    bus, seen = Bus(), []

    def take(event: Event[int]) -> None:
        seen.append(event.value)
        if event.value == 0:
            raise asyncio.CancelledError

    async def take_async(event: Event[int]) -> None:
        take(event)

    transform = (lambda event: event) if filtered else None
    dead = []
    bus.subscribe("t.dead", lambda event: dead.append(event.headers["hw_error"]))
    subscription = bus.subscribe("t", take_async if is_async else take, transform=transform, on_error=DeadLetter())
    for n in range(3):
        await bus.publish("t", n)
    await bus.drain()
    assert seen == [0, 1, 2]
    assert (subscription.failed, subscription.delivered, subscription.is_active) == (1, 2, True)
    assert [error.partition(":")[0] for error in dead] == ["HandlerCancelledError"]
    await bus.close()


async def test_a_request_whose_handler_was_cancelled_gets_an_error() -> None:
    bus = Bus()

    async def fail(event: Event[int]) -> None:
        raise asyncio.CancelledError

    bus.subscribe("t", fail)
    with pytest.raises(HandlerCancelledError, match="fail"):
        await bus.request("t", 1)


async def test_a_cancelled_worker_ends_its_subscription_and_lets_its_publishers_go(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus = Bus()

    async def hold(event: Event[int]) -> None:
        await asyncio.get_running_loop().create_future()

    subscription = bus.subscribe("t", hold, queue_size_max=1)
    await bus.publish("t", 1)
    await asyncio.sleep(0)
    await bus.publish("t", 2)
    waiting = asyncio.ensure_future(bus.publish("t", 3))
    await asyncio.sleep(0)
    (lane,) = subscription.lanes
    assert lane.task is not None
    lane.task.cancel()
    await waiting
    await bus.drain()
    assert not subscription.is_active
    assert isinstance(subscription.error, HandlerCancelledError)
    assert "its worker was cancelled, 1 events were not handled" in caplog.text
    await bus.close()


async def test_cancel_ends_a_subscription_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    bus, begun = Bus(), asyncio.Event()

    async def hold(event: Event[int]) -> None:
        begun.set()
        await asyncio.get_running_loop().create_future()

    subscription = bus.subscribe("t", hold)
    await bus.publish("t", 1)
    await begun.wait()
    subscription.cancel()
    await bus.drain()
    await asyncio.sleep(0)
    assert (subscription.error, caplog.records) == (None, [])


# -- what is refused


@pytest.mark.parametrize("topic", ["", "a..b", ".a", "a.", "orders.*", "#", "a*", None, 5])
async def test_topics_that_are_none_are_refused(topic: Any) -> None:
    bus = Bus()
    seen: list[Event[Any]] = []
    bus.subscribe("#", seen.append)
    for _ in range(2):
        with pytest.raises(PatternError):
            await bus.publish(topic, 1)
        with pytest.raises(PatternError):
            bus.publish_nowait(topic, 1)
        with pytest.raises(PatternError):
            await bus.request(topic, 1)
    with pytest.raises(PatternError):
        bus.every(5, topic)
    with pytest.raises(PatternError):
        bus.route("a", topic)
    await bus.drain()
    assert seen == []


async def test_a_transform_must_return_an_event(caplog: pytest.LogCaptureFixture) -> None:
    bus = Bus()
    seen: list[Event[Any]] = []

    def wrong(event: Event[int]) -> Any:
        return event.value * 2.0

    subscription = bus.subscribe("t", seen.append, transform=wrong)
    await bus.publish("t", 1)
    await bus.drain()
    assert (seen, subscription.failed) == ([], 1)
    assert "returned float; it must return an Event, such as event.with_value(value)" in caplog.text


async def test_every_takes_seconds_as_delay_does() -> None:
    clock = MovableClock()
    bus, seen = Bus(clock=clock), []
    bus.subscribe("t", lambda event: seen.append(event.value))
    schedule = bus.every(5, "t", "tick")
    for _ in range(2):
        clock.advance(5000)
        await asyncio.sleep(0)
        await bus.drain()
    assert seen == ["tick", "tick"]
    schedule.cancel()


@pytest.mark.parametrize("when", [0, -1, True, None, float("nan"), float("inf"), [5]])
async def test_periods_and_delays_that_are_none_are_refused(when: Any) -> None:
    bus = Bus()
    with pytest.raises(ScheduleError):
        bus.every(when, "t")
    if when not in (0, None):
        with pytest.raises(ScheduleError):
            await bus.publish("t", 1, delay=when)


def test_choices_are_listed_and_handlers_can_be_called() -> None:
    bus = Bus()
    bogus: Any = "bogus"
    with pytest.raises(
        ValueError, match="overflow is 'bogus'; give one of 'wait', 'drop-oldest', 'drop-newest', 'fail'"
    ):
        bus.subscribe("t", print, overflow=bogus)
    with pytest.raises(TypeError, match="must be callable, not str"):
        bus.subscribe("t", bogus)


def test_reprs_say_what_a_thing_is() -> None:
    bus = Bus()
    assert repr(bus) == "<Bus with 0 subscriptions>"
    subscription = bus.subscribe("a.*", partial(print, "x"))
    assert repr(bus) == "<Bus with 1 subscription>"
    assert repr(subscription) == "<Subscription of print to a.*>"
