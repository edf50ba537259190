"""Signals: who is called, in which order, and what happens when observers come, go, fail or die."""

import asyncio
import gc
import logging
import traceback
from functools import partial
from typing import Any

import pytest

from headwater.bus.errors import EmitError, NoLoopError
from headwater.bus.signal import OnError, Signal


class Subject:
    price_changed = Signal[str, float]()


class Watcher:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def saw(self, item: str, price: float) -> None:
        self.seen.append((item, price))


def test_observers_are_called_by_priority_then_in_order() -> None:
    signal, calls = Signal[int](), []
    signal.connect(lambda n: calls.append(("a", n)))
    signal.connect(lambda n: calls.append(("b", n)), priority=5)
    signal.connect(lambda n: calls.append(("c", n)))
    signal.emit(1)
    assert calls == [("b", 1), ("a", 1), ("c", 1)]
    assert len(signal) == 3


def test_a_decorator_connects_and_leaves_the_function() -> None:
    signal, seen = Signal[int](), []

    @signal.connect
    def plain(n: int) -> None:
        seen.append(n)

    @signal.connect(when=lambda n: n > 1)
    def big(n: int) -> None:
        seen.append(n * 10)

    signal.emit(1)
    signal.emit(2)
    assert seen == [1, 2, 20]


def test_every_instance_has_a_signal_of_its_own() -> None:
    one, two, watcher = Subject(), Subject(), Watcher()
    one.price_changed.connect(watcher.saw)
    two.price_changed.emit("gold", 1.0)
    one.price_changed.emit("gold", 2.0)
    assert watcher.seen == [("gold", 2.0)]
    assert one.price_changed is one.price_changed
    assert Subject.price_changed.name == "Subject.price_changed"


def test_a_bound_method_is_held_weakly_and_a_lambda_strongly() -> None:
    signal, watcher, seen = Signal[str, float](), Watcher(), []
    signal.connect(watcher.saw)
    signal.connect(lambda item, price: seen.append(item))
    signal.emit("a", 1.0)
    del watcher
    gc.collect()
    assert len(signal) == 1
    signal.emit("b", 1.0)
    assert seen == ["a", "b"]


def test_disconnecting_by_observer_by_connection_and_all() -> None:
    signal, watcher = Signal[str, float](), Watcher()
    signal.connect(watcher.saw)
    signal.disconnect(watcher.saw)
    connected = []
    with signal.connect(watcher.saw) as connection:
        signal.emit("a", 1.0)
        connected.append(connection.is_connected)
    connected.append(connection.is_connected)
    assert connected == [True, False]
    signal.emit("b", 1.0)
    assert watcher.seen == [("a", 1.0)]
    signal.connect(watcher.saw)
    signal.disconnect()
    assert len(signal) == 0
    signal.disconnect(watcher.saw)  # nothing happens


def test_an_observer_that_goes_during_an_emit_is_not_called_and_one_that_comes_is_called_from_the_next() -> None:
    signal = Signal[()]()
    calls: list[str] = []

    def last() -> None:
        calls.append("last")

    def first() -> None:
        calls.append("first")
        signal.disconnect(last)
        signal.connect(lambda: calls.append("new"))

    signal.connect(first, once=True)
    signal.connect(lambda: calls.append("middle"))
    signal.connect(last)
    signal.emit()
    assert calls == ["first", "middle"]
    signal.emit()
    assert calls == ["first", "middle", "middle", "new"]


def test_a_plain_observer_that_disconnects_another_during_an_emit() -> None:
    signal = Signal[()]()
    calls: list[int] = []

    def second() -> None:
        calls.append(2)

    def first() -> None:
        calls.append(1)
        signal.disconnect(second)

    signal.connect(first)
    signal.connect(second)
    signal.emit()
    assert calls == [1]


def test_once_is_once_even_when_it_emits_again() -> None:
    signal, calls = Signal[int](), []

    def again(n: int) -> None:
        calls.append(n)
        signal.emit(n + 1)

    signal.connect(again, once=True)
    signal.emit(1)
    assert calls == [1]


def fails(*args: object) -> None:
    raise ValueError("no")


def test_a_failing_observer_keeps_no_other_from_its_call() -> None:
    signal = Signal[int]()
    calls: list[int] = []
    signal.connect(fails)
    signal.connect(calls.append)
    signal.connect(fails)
    with pytest.raises(EmitError, match="1 more") as caught:
        signal.emit(1)
    assert calls == [1]
    assert [type(error) for _, error in caught.value.errors] == [ValueError, ValueError]


def test_the_other_policies(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []
    stops = Signal[int](on_error=OnError.STOP)
    stops.connect(fails)
    stops.connect(calls.append)
    with pytest.raises(ValueError, match="no"):
        stops.emit(1)
    assert calls == []
    logs = Signal[int]("prices", on_error="log")
    logs.connect(fails)
    logs.connect(calls.append)
    with caplog.at_level(logging.ERROR):
        logs.emit(2)
    assert calls == [2]
    assert "prices" in caplog.text


def test_blocked_signals_and_blocked_observers() -> None:
    signal = Signal[int]()
    calls: list[int] = []
    others: list[int] = []
    connection = signal.connect(calls.append)
    signal.connect(others.append)
    with signal.blocked():
        signal.emit(1)
    with connection.blocked():
        signal.emit(2)
    signal.emit(3)
    assert calls == [3]
    assert others == [2, 3]


def test_batched_emits_come_at_the_end_without_repetitions() -> None:
    signal = Signal[int]()
    calls: list[int] = []
    signal.connect(calls.append)
    with signal.batched():
        for n in (1, 1, 2, 1):
            signal.emit(n)
        assert calls == []
    assert calls == [1, 2, 1]
    with signal.batched(lambda kept: kept[-1:]):
        signal.emit(5)
        signal.emit(6)
    assert calls == [1, 2, 1, 6]


def test_a_batch_whose_block_raises_emits_nothing() -> None:
    signal = Signal[int]()
    calls: list[int] = []
    signal.connect(calls.append)

    def block() -> None:
        with signal.batched():
            signal.emit(1)
            raise KeyError

    with pytest.raises(KeyError):
        block()
    signal.emit(2)
    assert calls == [2]


def test_async_observers_run_side_by_side_and_are_waited_for() -> None:
    signal = Signal[int](on_error="collect")
    order: list[object] = []

    async def main() -> None:
        met = asyncio.Barrier(2)

        async def one(n: int) -> None:
            await met.wait()
            order.append(n)

        async def two(n: int) -> None:
            await met.wait()
            order.append(n)
            raise ValueError("late")

        signal.connect(one)
        signal.connect(two)
        signal.connect(lambda n: order.insert(0, "sync"))
        with pytest.raises(EmitError, match="late"):
            await signal.emit_async(7)

    asyncio.run(main())
    assert order == ["sync", 7, 7]


def test_an_async_observer_becomes_a_task_or_a_named_error(caplog: pytest.LogCaptureFixture) -> None:
    signal, seen = Signal[int](), []

    async def observer(n: int) -> None:
        seen.append(n)
        raise ValueError("logged")

    signal.connect(observer)
    with pytest.raises(EmitError) as caught:
        signal.emit(1)
    assert isinstance(caught.value.errors[0][1], NoLoopError)

    async def main() -> None:
        signal.emit(2)
        assert seen == []
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert seen == [2]
    assert "logged" in caplog.text


def test_what_is_not_callable_is_refused() -> None:
    with pytest.raises(TypeError, match="callable"):
        Signal[int]().connect(3)  # type: ignore[call-overload]


# -- errors say where they come from


class Alarm:
    def ring(self, temperature: int) -> None:
        raise KeyError("deep")

    def __call__(self, temperature: int) -> None:
        raise ValueError("called")


def test_an_error_names_its_observer_and_shows_its_traceback() -> None:
    temperature, alarm = Signal[int]("temperature"), Alarm()
    temperature.connect(alarm.ring)
    with pytest.raises(EmitError) as caught:
        temperature.emit(5)
    line = Alarm.ring.__code__.co_firstlineno
    text = str(caught.value)
    assert text == f"temperature: {__name__}.Alarm.ring ({__file__}:{line}) raised KeyError: 'deep'"
    assert isinstance(caught.value.__cause__, KeyError)
    shown = "".join(traceback.format_exception(caught.value))
    assert 'raise KeyError("deep")' in shown


def test_several_errors_are_a_group_without_addresses() -> None:
    temperature, alarm = Signal[int]("temperature"), Alarm()
    for observer in (alarm, partial(alarm.ring), lambda value: 1 / 0):
        temperature.connect(observer)
    with pytest.raises(EmitError, match="and 2 more failed") as caught:
        temperature.emit(5)
    cause = caught.value.__cause__
    assert isinstance(cause, ExceptionGroup)
    assert [type(error) for error in cause.exceptions] == [ValueError, KeyError, ZeroDivisionError]
    assert "Alarm.__call__ (" in str(caught.value)
    assert " at 0x" not in str(caught.value)


def test_async_observers_and_the_log_are_named_as_well(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(value: int) -> None:
        raise KeyError("deep")

    temperature = Signal[int]("temperature")
    temperature.connect(fail)
    with pytest.raises(EmitError, match=r"fail \(.*test_signal\.py:\d+\) raised KeyError"):
        asyncio.run(temperature.emit_async(5))
    quiet = Signal[int]("quiet", on_error="log")
    quiet.connect(lambda value: 1 / 0)
    quiet.emit(5)
    assert "<lambda> (" in caplog.text
    assert " at 0x" not in "".join(r.getMessage() for r in caplog.records)


def test_choices_are_listed_and_a_signal_says_what_it_is() -> None:
    bogus: Any = "bogus"
    with pytest.raises(ValueError, match="on_error is 'bogus'; give one of 'collect', 'stop', 'log'"):
        Signal[int](on_error=bogus)
    signal = Signal[int]("temperature")
    assert repr(signal) == "<Signal temperature with 0 observers>"
    signal.connect(print)
    assert repr(signal) == "<Signal temperature with 1 observer>"
