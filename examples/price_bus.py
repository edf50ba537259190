"""Prices on a bus in one process: wildcards, filters, a slow subscriber, a request with an answer, a reminder later."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import headwater as hw


@dataclass
class Price:
    """What a market says."""

    symbol: str
    amount: float


async def main() -> None:
    async with hw.Bus(history=100) as bus:
        last: dict[str, float] = {}

        @bus.subscribe("prices.#")
        def remember(event: hw.Event[Price]) -> None:
            last[event.value.symbol] = event.value.amount

        @bus.subscribe("prices.metals.*", when=lambda event: event.value.amount > 2000)
        async def warn(event: hw.Event[Price]) -> None:
            await bus.publish("alerts", f"{event.value.symbol} is at {event.value.amount:g}", key=event.value.symbol)

        @bus.subscribe("alerts")
        def show(event: hw.Event[str]) -> None:
            print(f"alert: {event.value} (caused by {'a price' if event.causation_id else 'nothing'})")

        @bus.subscribe("price-of")
        def answer(event: hw.Event[str]) -> float | None:
            return last.get(event.value)

        # A chart that cannot keep up only ever wants the newest.
        async def draw(event: hw.Event[Price]) -> None:
            await asyncio.sleep(0)

        bus.subscribe("prices.#", draw, queue_size_max=1, overflow=hw.Overflow.DROP_OLDEST)

        for amount in (1990.0, 2005.5, 2010.5):
            await bus.publish("prices.metals.gold", Price("gold", amount), key="gold")
        await bus.publish("prices.metals.silver", Price("silver", 24.5), key="silver")
        await bus.drain()
        print(f"gold: {await bus.request('price-of', 'gold'):g}")

        await bus.publish("alerts", "the market closes", delay=timedelta(milliseconds=10))
        await bus.sleep(20)
        await bus.drain()

        seen: list[float] = []
        bus.subscribe("prices.metals.*", lambda event: seen.append(event.value.amount), replay=2)
        await bus.drain()
        print(f"the last two, for a late subscriber: {seen}")


if __name__ == "__main__":
    asyncio.run(main())
