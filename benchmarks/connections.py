"""Many connections, each sending one record a request and waiting for its answer: requests a second and p99.

The client is ours and the same for both brokers: raw frames over uvloop, made once, so that it costs little.
"""

import asyncio
import struct
import time
from typing import cast

import uvloop

from headwater.protocol.apis import APIS
from headwater.protocol.frames import request_frame
from headwater.protocol.messages.produce import ProduceRequest
from headwater.protocol.records import Record, build_batch


class Requester(asyncio.Protocol):
    """Sends the same request again whenever an answer has come."""

    def __init__(self, frame: bytes, until_s: float, latencies_ms: list[float]) -> None:
        self.frame = frame
        self.until_s = until_s
        self.latencies_ms = latencies_ms
        self.buffer = b""
        self.sent_s = 0.0
        self.done = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.send()

    def send(self) -> None:
        assert self.transport is not None
        self.sent_s = time.perf_counter()
        self.transport.write(self.frame)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if len(self.buffer) < 4 or len(self.buffer) < 4 + struct.unpack_from(">i", self.buffer)[0]:
            return
        self.buffer = b""
        now_s = time.perf_counter()
        self.latencies_ms.append((now_s - self.sent_s) * 1000)
        if now_s < self.until_s:
            self.send()
        else:
            assert self.transport is not None
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(error)


async def drive(port: int, topic: str, connections: int, seconds: float) -> tuple[float, float]:
    batch = build_batch([Record(None, bytes(100), (), int(time.time() * 1000))])
    topic_data = ProduceRequest.TopicProduceData(
        name=topic, partition_data=[ProduceRequest.PartitionProduceData(0, batch)]
    )
    frame = request_frame(APIS[0], 9, 1, "bench", ProduceRequest(None, -1, 30_000, [topic_data]))
    latencies_ms: list[float] = []
    loop = asyncio.get_running_loop()
    start_s = time.perf_counter()
    until_s = start_s + seconds
    clients = []
    for _ in range(connections):
        _, client = await loop.create_connection(lambda: Requester(frame, until_s, latencies_ms), "127.0.0.1", port)
        clients.append(client)
    await asyncio.gather(*(client.done for client in clients))
    latencies_ms.sort()
    rate = len(latencies_ms) / (time.perf_counter() - start_s)
    return rate, latencies_ms[len(latencies_ms) * 99 // 100]


def one_record_a_request(port: int, topic: str, connections: int, seconds: float) -> tuple[float, float]:
    """Requests a second, and their p99 in ms."""
    result: tuple[float, float] = uvloop.run(drive(port, topic, connections, seconds))
    return result
