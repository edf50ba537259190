"""Damaged requests thrown at the core: each is answered or refused, nothing else happens, and the broker keeps running.

Every run draws a new seed and prints it when it fails; `TEST_FUZZ_SEED` repeats a run. `TEST_FUZZ_FRAMES` says how many
frames are thrown. Every few thousand frames an hour passes, the broker is killed, and it must start again on what is there.
"""

import os
from random import Random

import pytest

from fuzz.frames import FrameMaker
from headwater.broker.connection import UNAUTHENTICATED, Connection
from headwater.broker.dispatch import dispatch
from headwater.protocol.apis import ApiKey
from headwater.protocol.errors import ProtocolError
from headwater.protocol.messages.metadata import MetadataRequest
from headwater.replay.deferred import Deferred
from tests.broker.harness import Harness

FRAMES = int(os.environ.get("TEST_FUZZ_FRAMES", "60000"))
SEED = int(os.environ.get("TEST_FUZZ_SEED", "0")) or int.from_bytes(os.urandom(4), "big")
FRAMES_PER_BROKER = 5000
HOUR_MS = 3_600_000


def new_broker() -> Harness:
    broker = Harness(pairs={"offsets.topic.num.partitions": 2, "transaction.state.log.num.partitions": 2})
    broker.create_topic("fuzz", 2)
    broker.create_topic("compacted", 1, cleanup_policy="compact")
    broker.create_topic("packed", 1, compression_type="zstd", message_timestamp_type="LogAppendTime")
    return broker


def throw(broker: Harness, connection: Connection, frame: bytes) -> Connection:
    """Returns the connection for the next frame: a refusal ends this one."""
    try:
        answer = dispatch(broker.core, connection, bytearray(frame))
    except ProtocolError:
        connection.closed()
        return Connection("/fuzz")
    assert answer is None or isinstance(answer, (list, Deferred))
    return connection


def throw_many(seed: int) -> None:
    """As many frames as one broker gets: from an ordinary client, and every fourth from one that must log in first."""
    random = Random(seed)
    broker = new_broker()
    topic_ids = tuple(topic.topic_id for topic in broker.core.metadata.topics.values())
    maker = FrameMaker(seed, topic_ids)
    client = Connection("/fuzz")
    for number in range(FRAMES_PER_BROKER):
        frame = maker.frame()
        try:
            if number % 4 == 3:
                throw(broker, Connection("/stranger", principal=UNAUTHENTICATED, is_restricted=True), frame)
            else:
                client = throw(broker, client, frame)
            broker.sync()
        except Exception as error:
            error.add_note(f"seed {seed}, frame {number}: {frame.hex()}")
            raise
    client.closed()
    broker.advance(HOUR_MS)
    if random.random() < 0.5:
        broker.kill()
    else:
        broker.restart()
    assert broker.call(ApiKey.METADATA, 9, MetadataRequest()).brokers, f"seed {seed}"


@pytest.mark.timeout(1800)
def test_every_frame_is_answered_or_refused() -> None:
    for part in range(-(-FRAMES // FRAMES_PER_BROKER)):
        throw_many(SEED + part)


def test_a_seed_makes_the_same_frames_again() -> None:
    first, second = FrameMaker(7), FrameMaker(7)
    assert [first.frame() for _ in range(1000)] == [second.frame() for _ in range(1000)]
