"""Signals beside psygnal and blinker, and the bus, in one run."""

import asyncio
import time
import timeit
from collections.abc import Callable

import blinker
import psygnal

import headwater as hw

OBSERVERS = (0, 1, 10, 70)
EMITS = 10_000
REPEATS = 7
DELIVERIES = 400_000


class Observer:
    """One with a method of the right form for each library."""

    def saw(self, item: str, price: float) -> None:
        pass

    def saw_blinker(self, sender: object, item: str, price: float) -> None:
        pass


class PsygnalSubject:
    changed = psygnal.Signal(str, float)


def best_us(function: Callable[[], object]) -> float:
    return min(timeit.repeat(function, number=EMITS, repeat=REPEATS)) / EMITS * 1e6


def emits(number: int) -> tuple[float, float, float]:
    """µs for one emit to so many bound methods: Headwater, psygnal, blinker."""
    observers = [Observer() for _ in range(number)]
    ours, theirs, blinking = hw.Signal[str, float](), PsygnalSubject(), blinker.Signal()
    for observer in observers:
        ours.connect(observer.saw)
        theirs.changed.connect(observer.saw)
        blinking.connect(observer.saw_blinker)
    return (
        best_us(lambda: ours.emit("gold", 2010.5)),
        best_us(lambda: theirs.changed.emit("gold", 2010.5)),
        best_us(lambda: blinking.send(None, item="gold", price=2010.5)),
    )


async def deliveries(subscribers: int) -> float:
    """Deliveries a second to async handlers."""
    bus, count = hw.Bus(), 0

    async def handler(event: hw.Event[int]) -> None:
        nonlocal count
        count += 1

    for _ in range(subscribers):
        bus.subscribe("orders.*.paid", handler)
    start_s = time.perf_counter()
    for n in range(DELIVERIES // subscribers):
        await bus.publish("orders.eu.paid", n)
    await bus.drain()
    took_s = time.perf_counter() - start_s
    await bus.close()
    return count / took_s


def main() -> None:
    print("| emit to | Headwater (µs) | psygnal (µs) | blinker (µs) |\n|---|---:|---:|---:|")
    for number in OBSERVERS:
        print(f"| {number} bound methods | " + " | ".join(f"{value:.2f}" for value in emits(number)) + " |")
    print("\n| bus, async handlers | deliveries/s |\n|---|---:|")
    for subscribers in (1, 4, 10):
        best = max(asyncio.run(deliveries(subscribers)) for _ in range(3))
        print(f"| {subscribers} subscribers | {best:,.0f} |")


if __name__ == "__main__":
    main()
