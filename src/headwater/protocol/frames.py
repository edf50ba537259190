"""Frames: a 4-byte length, then a header, then a request or response.

Request header 1 has the api key, version, correlation id and client id; header 2 adds tagged fields. Response header 0
has the correlation id; header 1 adds tagged fields. Which header goes with which version is listed in `apis.py`; an
ApiVersions response always has header 0, so that a client can read it before it knows anything (KIP-511).
"""

import struct
from typing import Any, NamedTuple

from headwater.effects.buffers import Buffer
from headwater.effects.work import Steps
from headwater.protocol.apis import APIS, Api
from headwater.protocol.compiled import encode_parts, encode_parts_in_steps, skip_tagged
from headwater.protocol.errors import ProtocolError, UnsupportedVersionError

LENGTH_BYTES = 4
CORRELATION_ID = slice(4, 8)  # in a request without its length, and in a response with it
unpack_length = struct.Struct(">i").unpack_from
unpack_start = struct.Struct(">hhih").unpack_from
pack_response_0 = struct.Struct(">ii").pack
pack_response_1 = struct.Struct(">iix").pack
REQUEST_HEADER_BYTES_MIN = 10
SMALLEST_FRAME_BYTES = LENGTH_BYTES + REQUEST_HEADER_BYTES_MIN
PARTS_JOINED = 4096


class RequestHeader(NamedTuple):
    """A request's header; `body_at` is the position of the body in the frame."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None
    body_at: int


def read_request_header(frame: Buffer) -> RequestHeader:
    """The header of a request frame (without its length). A version that is too high or too low is read as the nearest known
    one. Raises ProtocolError, and UnsupportedVersionError for an API key that Kafka does not have.
    """
    try:
        key, version, correlation_id, size = unpack_start(frame)
        position = REQUEST_HEADER_BYTES_MIN + max(size, 0)
        if position > len(frame):
            raise ProtocolError("a request header is longer than its frame")
        client_id = str(frame[REQUEST_HEADER_BYTES_MIN:position], "utf-8") if size >= 0 else None
        api = APIS.get(key)
        if api is None:
            raise UnsupportedVersionError(f"unknown API key {key}")
        if request_header_version(api, version) >= 2:
            if frame[position] == 0:
                position += 1
            else:
                position = skip_tagged(frame, position, len(frame))
    except (struct.error, IndexError, ValueError) as error:
        raise ProtocolError(f"a request header cannot be read: {error}") from error
    return RequestHeader(key, version, correlation_id, client_id, position)


def request_header_version(api: Api, version: int) -> int:
    headers, at = api.request_headers, version - api.low
    return headers[at] if 0 <= at < len(headers) else headers[0 if at < 0 else -1]


def response_header_version(api: Api, version: int) -> int:
    headers, at = api.response_headers, version - api.low
    return headers[at] if 0 <= at < len(headers) else headers[0 if at < 0 else -1]


def response_frame(api: Api, version: int, correlation_id: int, message: Any) -> list[Buffer]:
    """A whole response, as buffers to be written one after another. Records are not copied."""
    parts: list[Buffer] = [b""]
    encode_parts(message, version, parts)
    return with_header(api, version, correlation_id, parts)


def response_frame_in_steps(api: Api, version: int, correlation_id: int, message: Any) -> Steps[list[Buffer]]:
    """As `response_frame`, in steps, and joined to few buffers: there may be millions of small ones."""
    parts: list[Buffer] = []
    joined: list[Buffer] = [b""]
    for _ in encode_parts_in_steps(message, version, parts):
        if len(parts) > PARTS_JOINED:
            joined.append(b"".join(parts))
            parts.clear()
        yield
    joined.append(b"".join(parts))
    return with_header(api, version, correlation_id, joined)


def with_header(api: Api, version: int, correlation_id: int, parts: list[Buffer]) -> list[Buffer]:
    """The response's buffers, with the length and header in the first, which was reserved for them."""
    size = sum(map(len, parts))
    if response_header_version(api, version) == 0:
        parts[0] = pack_response_0(size + 4, correlation_id)
    else:
        parts[0] = pack_response_1(size + 5, correlation_id)
    return parts


def request_frame(api: Api, version: int, correlation_id: int, client_id: str | None, message: Any) -> bytes:
    """A whole request, with its length."""
    name = client_id.encode() if client_id is not None else b""
    head = struct.pack(">hhih", API_KEYS[api.name], version, correlation_id, -1 if client_id is None else len(name))
    parts: list[Buffer] = [head, name]
    if request_header_version(api, version) >= 2:
        parts.append(b"\x00")
    encode_parts(message, version, parts)
    return struct.pack(">i", sum(map(len, parts))) + b"".join(parts)


API_KEYS = {api.name: key for key, api in APIS.items()}
