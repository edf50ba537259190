"""A bus and a broker as one: the bridge both ways, and a bus whose events are kept in a topic."""

import asyncio
from typing import Any

import headwater as hw

TIMEOUT_S = 20


async def until(events: list[Any], number: int) -> None:
    """Returns when that many events are there."""
    async with asyncio.timeout(TIMEOUT_S):
        while len(events) < number:
            await asyncio.sleep(0.005)


async def bridged(address: str, topic: str, bus: hw.Bus, group: str | None = None) -> Any:
    async with hw.Admin(address) as admin:
        await admin.create_topic(topic, exist_ok=True)
    return hw.bridge(bus, address, f"{topic.partition('.')[0]}.#", group=group)


async def test_events_go_both_ways_and_each_once(address: str, name: str) -> None:
    bus, topic = hw.Bus(), f"{name}.eu"
    async with await bridged(address, topic, bus) as bridge:
        await bridge.wait_ready()
        with bus.watch(f"{name}.#") as seen:
            sent = await bus.publish(topic, {"from": "bus"}, key="k", headers={"origin": "here"})
            async with hw.Producer(address) as producer:
                await producer.send(topic, {"from": "broker"})
            await until(seen.events, 2)
            async with hw.Consumer(address, topic, group=f"{name}-check") as consumer:
                stored = await consumer.take(2, 20_000)
        # What came from the bus is in the log once, and did not come back; what came from the broker was not sent again.
        assert sorted(event.value["from"] for event in stored) == ["broker", "bus"]
        from_bus = next(event for event in stored if event.value["from"] == "bus")
        assert (from_bus.id, from_bus.key, from_bus.headers["origin"]) == (sent.id, "k", "here")
        await bus.drain()
        assert len(seen.events) == 2
    async with hw.Admin(address) as admin:
        assert sum((await admin.end_offsets(topic)).values()) == 2


async def test_two_processes_worth_of_buses_meet_over_the_broker(address: str, name: str) -> None:
    one, two, topic = hw.Bus(), hw.Bus(), f"{name}.x"
    async with await bridged(address, topic, one) as first, await bridged(address, topic, two) as second:
        await first.wait_ready()
        await second.wait_ready()
        with two.watch(topic) as seen:
            cause = await one.publish(topic, 1)
            await until(seen.events, 1)
            assert seen.events[0].value == 1
            assert seen.events[0].correlation_id == cause.id


async def test_a_bridge_with_a_group_gets_what_it_missed(address: str, name: str) -> None:
    topic = f"{name}.late"
    async with hw.Producer(address) as producer:
        await producer.send(topic, "early")
    bus = hw.Bus()
    with bus.watch(topic) as seen:
        async with await bridged(address, topic, bus, group=name):
            await until(seen.events, 1)
    assert seen.values == ["early"]


async def test_a_bus_keeps_its_events_in_a_topic(address: str, name: str) -> None:
    store = hw.TopicStore(address, name)
    async with hw.Bus(store=store) as bus:
        events = [await bus.publish(f"orders.{n}", {"n": n}, key=n) for n in range(3)]
    again, seen = hw.Bus(store=store), []
    again.subscribe("orders.#", seen.append)
    assert await again.replay_store("orders.#") == 3
    await again.drain()
    assert [(e.topic, e.value, e.key, e.id) for e in seen] == [(e.topic, e.value, str(e.key), e.id) for e in events]
    await store.close()
