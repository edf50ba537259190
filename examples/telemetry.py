"""IoT: devices send readings in batches to the log; a bridge brings them to a bus, where alarms are made, and back.

`python -m examples.telemetry HOST:PORT` runs it on a broker or a Kafka cluster.
"""

import asyncio
import sys
from contextlib import AsyncExitStack

import msgspec

import headwater as hw
from headwater.client.connections import BrokerLike


class Reading(msgspec.Struct):
    """What a device measures."""

    device: str
    celsius: float


async def main(address: str | None = None) -> None:
    async with AsyncExitStack() as stack:
        broker: BrokerLike = address if address else await stack.enter_async_context(hw.Broker())
        async with hw.Admin(broker) as admin:
            await admin.create_topic("telemetry.greenhouse", exist_ok=True)
            await admin.create_topic("telemetry-alarms", exist_ok=True)
        bus = await stack.enter_async_context(hw.Bus())
        last: dict[str, float] = {}
        all_here = asyncio.Event()

        @bus.subscribe("telemetry.*", workers=4)  # a device's readings stay in order
        async def watch(event: hw.Event[Reading]) -> None:
            reading = event.value
            last[reading.device] = reading.celsius
            if reading.celsius > 40:
                await bus.publish("alarms", f"{reading.device} is at {reading.celsius:g}", key=reading.device)
            if len(last) == 10 and min(last.values()) >= 29:
                all_here.set()

        async with hw.bridge(bus, broker, "telemetry.*", value=Reading) as bridge:
            await bridge.wait_ready()
            alarms: list[str] = []
            bus.subscribe("alarms", lambda event: alarms.append(event.value))
            async with hw.Producer[Reading](broker, source="/greenhouse") as producer:
                readings = [Reading(f"d{n % 10}", 20 + n / 10) for n in range(95)] + [
                    Reading(f"d{n}", 29 + (12 if n == 7 else 0)) for n in range(10)
                ]
                batch = await producer.send_batch("telemetry.greenhouse", readings, key=lambda reading: reading.device)
                print(f"{batch.delivered} readings are in the log")
            await all_here.wait()
            await bus.drain()
        print(f"{len(last)} devices, the hottest is {max(last, key=lambda device: last[device])}")
        print(alarms[-1])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:2]))
