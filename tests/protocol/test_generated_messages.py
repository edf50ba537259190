"""Every message in every version, with generated content, and with damaged bytes: the two codecs do the same."""

from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.effects.buffers import Buffer
from headwater.effects.work import at_once
from headwater.protocol import compiled, reference
from headwater.protocol.errors import ProtocolError

from .messages import message_classes, values

CASES = [
    (name, version)
    for name, class_ in sorted(message_classes().items())
    for version in range(class_.VERSIONS[0], class_.VERSIONS[1] + 1)
]


@pytest.mark.parametrize("name", sorted(message_classes()))
def test_round_trip_and_damage(name: str) -> None:
    class_ = message_classes()[name]
    low, high = class_.VERSIONS
    for version in range(low, high + 1):
        check_version(class_, version)


def check_version(class_: type, version: int) -> None:
    @settings(max_examples=8, derandomize=True, database=None)
    @given(values(class_, class_, version), st.data())
    def check(message: object, data: st.DataObject) -> None:
        encoded = reference.encode(message, version)
        assert compiled.encode(message, version) == encoded
        parts: list[Buffer] = []
        at_once(compiled.encode_parts_in_steps(message, version, parts))
        assert b"".join(parts) == encoded
        decoded, end = reference.decode(class_, version, encoded)
        assert end == len(encoded)
        steps = compiled.decode_in_steps(class_, version, encoded, 0, compiled.ELEMENTS_UNLIMITED)
        assert compiled.encode(at_once(steps)[0], version) == encoded
        assert compiled.decode(class_, version, encoded) == (decoded, end)
        assert reference.encode(decoded, version) == encoded
        if not encoded:
            return
        cut = encoded[: data.draw(st.integers(0, len(encoded) - 1))]
        assert outcome(compiled, class_, version, cut) == outcome(reference, class_, version, cut)
        at = data.draw(st.integers(0, len(encoded) - 1))
        flipped = bytearray(encoded)
        flipped[at] ^= 1 << data.draw(st.integers(0, 7))
        outcome(compiled, class_, version, bytes(flipped))

    check()


def outcome(codec: ModuleType, class_: type, version: int, data: bytes) -> object:
    """What decoding gives: the message, or that it is refused. Nothing else may come of any bytes."""
    try:
        return codec.decode(class_, version, data)
    except ProtocolError:
        return "refused"


def test_a_length_that_lies_allocates_nothing() -> None:
    from headwater.protocol.messages.metadata import MetadataRequest

    for codec in (reference, compiled):
        with pytest.raises(ProtocolError):
            codec.decode(MetadataRequest, 4, b"\x7f\xff\xff\xff\x01")
