"""Frames and headers, and what is refused of them."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.protocol.apis import APIS, ApiKey
from headwater.protocol.errors import ProtocolError, UnsupportedVersionError
from headwater.protocol.frames import read_request_header, request_frame, response_frame
from headwater.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from headwater.protocol.varint import VarintError, read_uvarint, read_varint, uvarint, varint


@pytest.mark.parametrize("client_id", [None, "", "client", "é" * 100])
@pytest.mark.parametrize("version", range(6))
def test_a_request_header_is_read_back(version: int, client_id: str | None) -> None:
    frame = request_frame(APIS[ApiKey.API_VERSIONS], version, 77, client_id, ApiVersionsRequest("a", "1"))
    header = read_request_header(frame[4:])
    assert header[:4] == (18, version, 77, client_id)


def test_an_api_versions_response_has_header_0() -> None:
    frame = b"".join(response_frame(APIS[18], 4, 5, ApiVersionsResponse()))
    assert frame[4:8] == b"\x00\x00\x00\x05"
    assert frame[8:10] == b"\x00\x00"


@given(st.binary(max_size=60))
def test_garbage_is_refused_or_read(garbage: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        read_request_header(garbage)


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(UnsupportedVersionError, match="999"):
        read_request_header(b"\x03\xe7\x00\x00\x00\x00\x00\x01\xff\xff")


@given(st.integers(0, 2**63 - 1))
def test_unsigned_varints(value: int) -> None:
    assert read_uvarint(uvarint(value), 0) == (value, len(uvarint(value)))


@given(st.integers(-(2**63), 2**63 - 1))
def test_varints(value: int) -> None:
    assert read_varint(varint(value), 0) == (value, len(varint(value)))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 11])
def test_bad_varints(data: bytes) -> None:
    with pytest.raises(VarintError):
        read_uvarint(data, 0)
