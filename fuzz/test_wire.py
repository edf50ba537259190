"""Generated garbage on the wire: whole requests with flipped, cut and added bytes, thrown at the core.

Whatever comes, the answer is a response or a refusal that ends the connection; never another exception, and the broker
goes on serving.
"""

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.broker.dispatch import advertised, dispatch
from headwater.effects.waits import Deferred
from headwater.protocol.apis import APIS, ApiKey
from headwater.protocol.errors import ProtocolError
from headwater.protocol.frames import request_frame
from headwater.protocol.messages.metadata import MetadataRequest
from tests.broker.harness import Harness
from tests.interop.test_every_version import every_request

BROKER = Harness()
BROKER.create_topic("versions", 2)
MESSAGES = every_request(BROKER.core.metadata.topics["versions"].topic_id)
CASES = [(key, version) for key, low, high in advertised() for version in range(max(low, APIS[key].low), high + 1)]


def throw(frame: bytes) -> None:
    try:
        answer = dispatch(BROKER.core, BROKER.connection, bytearray(frame))
    except ProtocolError:
        return
    assert answer is None or isinstance(answer, (list, Deferred))
    BROKER.sync()


@settings(max_examples=4000, derandomize=True, database=None)
@given(st.sampled_from(CASES), st.data())
def test_damaged_requests(case: tuple[int, int], data: st.DataObject) -> None:
    key, version = case
    frame = bytearray(request_frame(APIS[key], version, 1, "fuzz", MESSAGES[key])[4:])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(4, len(frame) - 1))
        match data.draw(st.integers(0, 3)):
            case 0:
                frame[at] ^= 1 << data.draw(st.integers(0, 7))
            case 1:
                del frame[at : at + data.draw(st.integers(1, 8))]
                if len(frame) < 8:
                    return
            case 2:
                frame[at:at] = data.draw(st.binary(min_size=1, max_size=8))
            case _:
                number = data.draw(st.sampled_from([-1, 0, 2**31 - 1, -(2**31), 2**15 - 1]))
                frame[at : at + 4] = struct.pack(">i", number)
    throw(bytes(frame))


@settings(max_examples=2000, derandomize=True, database=None)
@given(st.sampled_from(CASES), st.binary(max_size=200))
def test_random_bodies(case: tuple[int, int], body: bytes) -> None:
    key, version = case
    head = struct.pack(">hhih", key, version, 1, -1)
    throw(head + body)


def test_the_broker_still_serves() -> None:
    assert BROKER.call(ApiKey.METADATA, 9, MetadataRequest()).brokers
