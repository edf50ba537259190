"""Attacks over real connections. Each is given an address and how much of it there is to be, and ends by itself.

A connection that the broker closes is opened again. AttackError says that it could not be, for some seconds.
"""

import asyncio
import contextlib
import struct
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Coroutine
from random import Random

from fuzz.bombs import CODECS, bomb
from fuzz.frames import FrameMaker
from headwater.protocol.apis import APIS, ApiKey
from headwater.protocol.frames import request_frame
from headwater.protocol.messages.fetch import FetchRequest
from headwater.protocol.messages.list_offsets import ListOffsetsRequest
from headwater.protocol.messages.produce import ProduceRequest
from headwater.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from headwater.protocol.messages.sasl_handshake import SaslHandshakeRequest

CONNECTIONS = 8
ANSWER_WAIT_S = 0.05  # an answer that takes longer is not waited for: the request may be one that waits
CONNECT_TRIES = 20
Attack = Callable[[str, int, int], Coroutine[None, None, None]]


class AttackError(Exception):
    """The broker could no longer be reached."""


@contextlib.asynccontextmanager
async def connection(address: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = address.rpartition(":")
    for _ in range(CONNECT_TRIES):
        try:
            reader, writer = await asyncio.open_connection(host, int(port))
            break
        except OSError:
            await asyncio.sleep(0.1)
    else:
        raise AttackError(f"{address} takes no connection")
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, frame: bytes) -> bool:
    """Sends a frame and waits a little for an answer; returns whether the connection is still good."""
    try:
        writer.write(struct.pack(">i", len(frame)) + frame)
        await writer.drain()
        async with asyncio.timeout(ANSWER_WAIT_S):
            (size,) = struct.unpack(">i", await reader.readexactly(4))
            await reader.readexactly(size)
    except TimeoutError:
        return False  # what is answered later would be read as the next answer
    except (OSError, asyncio.IncompleteReadError):
        return False
    return True


async def send_all(address: str, frames: Callable[[], bytes], count: int) -> None:
    """Sends frames over a few connections at once, one under way on each."""
    left = count

    async def attacker() -> None:
        nonlocal left
        while left > 0:
            async with connection(address) as (reader, writer):
                is_good = True
                while is_good and left > 0:
                    left -= 1
                    is_good = await exchange(reader, writer, frames())

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(attacker())


async def damaged_frames(address: str, count: int, seed: int) -> None:
    """Frames of every key and version, most of them damaged."""
    await send_all(address, FrameMaker(seed).frame, count)


async def bombs(address: str, count: int, seed: int) -> None:
    """Batches that explode, to topics that open them and topics that do not, and look-ups by time that open them later."""
    random = Random(seed)

    def request() -> bytes:
        topic = random.choice(("fuzz", "compacted", "packed"))
        if random.random() < 0.3:
            wanted = ListOffsetsRequest.ListOffsetsPartition(0, -1, random.choice((0, 5, 1_700_000_000_000, -3)))
            listing = ListOffsetsRequest(-1, 0, [ListOffsetsRequest.ListOffsetsTopic(topic, [wanted])])
            return request_frame(APIS[ApiKey.LIST_OFFSETS], 7, 1, "fuzz", listing)[4:]
        data = ProduceRequest.PartitionProduceData(0, bomb(random, random.choice(CODECS)))
        produce = ProduceRequest(None, 1, 1000, [ProduceRequest.TopicProduceData(name=topic, partition_data=[data])])
        return request_frame(APIS[ApiKey.PRODUCE], 9, 1, "fuzz", produce)[4:]

    await send_all(address, request, count)


def damaged_token(random: Random) -> bytes:
    """The first message of OAUTHBEARER with a token that is cut, changed, deep or long."""
    header = random.choice(
        ('{"alg":"RS256","kid":"key-1"}', '{"alg":"none"}', '{"alg":"RS256","kid":"?"}', "[" * 9000, "{}")
    )
    parts = [header.encode(), random.choice((b"{}", b"[" * 9000, random.randbytes(100))), random.randbytes(256)]
    text = b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in parts[: random.randint(1, 3)])
    message = b"n,,\x01auth=Bearer " + random.choice((text, text[:-1], text * 2)) + b"\x01\x01"
    return message if random.random() < 0.8 else message[: random.randrange(len(message))]


async def sasl_in_any_order(address: str, count: int, seed: int) -> None:
    """Handshakes, authentications, bare frames and requests before their time, on a listener with SASL."""
    random = Random(seed)

    def step() -> bytes:
        match random.randrange(5):
            case 0:
                mechanism = random.choice(("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI", ""))
                version = random.randint(0, 1)
                return request_frame(APIS[ApiKey.SASL_HANDSHAKE], version, 1, "x", SaslHandshakeRequest(mechanism))[4:]
            case 1:
                token = damaged_token(random)
                message = random.choice(
                    (b"", b"\0a\0b", b"n,,n=a,r=b", b"c=biws,r=b,p=AAAA", b"\x01", token, token, random.randbytes(50))
                )
                version = random.randint(0, 2)
                body = SaslAuthenticateRequest(message)
                return request_frame(APIS[ApiKey.SASL_AUTHENTICATE], version, 1, "x", body)[4:]
            case 2:
                return random.choice((b"\0a\0b", random.randbytes(random.randrange(60))))
            case 3:
                return request_frame(APIS[ApiKey.FETCH], 4, 1, "x", FetchRequest())[4:]
            case _:
                return random.randbytes(30_000)

    await send_all(address, step, count)


@contextlib.asynccontextmanager
async def held(address: str, count: int, first_bytes: Callable[[int], bytes]) -> AsyncIterator[int]:
    """Connections that send something and then neither send nor read; gives how many could be opened."""
    host, _, port = address.rpartition(":")
    writers = []
    try:
        for number in range(count):
            try:
                reader, writer = await asyncio.open_connection(host, int(port), limit=1)
            except OSError:
                continue
            reader._transport.pause_reading()  # type: ignore[attr-defined] # a reader of asyncio's reads ahead
            writer.write(first_bytes(number))
            writers.append(writer)
        yield len(writers)
    finally:
        for writer in writers:
            writer.transport.abort()


def strangers(number: int) -> bytes:
    """Nothing, half a length, half a frame, or half of a large one."""
    return (b"", b"\0\0", struct.pack(">ihh", 60_000, 18, 0), struct.pack(">i", 90_000_000) + bytes(40))[number % 4]


def slow_readers(_: int) -> bytes:
    """Ten requests for 50 MiB each."""
    wanted = FetchRequest.FetchPartition(0, fetch_offset=0, partition_max_bytes=50 << 20)
    body = FetchRequest(
        max_wait_ms=0,
        min_bytes=1,
        max_bytes=50 << 20,
        session_epoch=-1,
        topics=[FetchRequest.FetchTopic(topic="large", partitions=[wanted])],
    )
    return request_frame(APIS[ApiKey.FETCH], 12, 1, "slow", body) * 10
