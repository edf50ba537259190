"""CloudEvents 1.0 over Kafka, both ways: binary mode (attributes in `ce_` headers) and structured mode (JSON envelope).

Sources: CloudEvents 1.0.2, its Kafka protocol binding and JSON format, the correlation and distributed-tracing
extensions. The record's key is the `partitionkey` extension; a null value is an event without data.
"""

import base64
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from headwater.events.errors import CloudEventError
from headwater.events.headers import Headers, Pairs
from headwater.events.serializers import CONTENT_TYPE, JSON_TYPE

Attributes: TypeAlias = dict[str, str]
PREFIX = "ce_"
STRUCTURED_TYPE = "application/cloudevents"
STRUCTURED_JSON_TYPE = "application/cloudevents+json; charset=utf-8"
REQUIRED = ("specversion", "id", "source", "type")


def attributes_of(headers: Headers, raw: bytes | None) -> Attributes:
    """The attributes of a record in either mode, without the data. Empty if the record is not a CloudEvent."""
    if (headers.get(CONTENT_TYPE) or "").startswith(STRUCTURED_TYPE) and raw is not None:
        return {k: as_text(v) for k, v in envelope(raw).items() if k not in ("data", "data_base64") and v is not None}
    return {
        name[len(PREFIX) :]: value.decode(errors="replace")
        for name, value in headers
        if name.startswith(PREFIX) and value is not None
    }


def as_text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def envelope(raw: bytes) -> dict[str, Any]:
    """The JSON object of structured mode. Raises CloudEventError for anything else."""
    try:
        found = msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise CloudEventError(f"a structured CloudEvent is not a JSON object: {error}") from error
    check_required(found)
    return found


def check_required(attributes: Mapping[str, Any]) -> None:
    missing = [name for name in REQUIRED if name not in attributes]
    if missing:
        raise CloudEventError(f"a CloudEvent lacks {', '.join(missing)}")


def structured_data(raw: bytes) -> tuple[bytes, str]:
    """The data of structured mode as bytes, with its content type."""
    found = envelope(raw)
    content_type = str(found.get("datacontenttype") or JSON_TYPE)
    if "data_base64" in found:
        try:
            return base64.b64decode(found["data_base64"], validate=True), content_type
        except (ValueError, TypeError) as error:
            raise CloudEventError(f"data_base64 of a CloudEvent is not base64: {error}") from error
    data = found.get("data")
    if isinstance(data, str) and not is_json(content_type):
        return data.encode(), content_type
    return msgspec.json.encode(data), content_type


def is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip()
    return kind.endswith(("/json", "+json"))


def to_structured(
    attributes: Mapping[str, str], data: bytes | None, content_type: str = JSON_TYPE
) -> tuple[bytes, Pairs]:
    """A record in structured mode: its value and headers. Raises CloudEventError for a missing attribute."""
    check_required(attributes)
    body: dict[str, Any] = dict(attributes)
    if data is not None:
        body["datacontenttype"] = content_type
        if is_json(content_type):
            body["data"] = msgspec.Raw(data)
        else:
            body["data_base64"] = base64.b64encode(data).decode()
    return msgspec.json.encode(body), [(CONTENT_TYPE, STRUCTURED_JSON_TYPE.encode())]


def structured_record(pairs: Pairs, data: bytes | None) -> tuple[bytes, Pairs]:
    """Changes a record from binary mode, as `stamps.stamp` makes it, to structured mode. Other headers stay headers."""
    attributes = {name[len(PREFIX) :]: (text or b"").decode() for name, text in pairs if name.startswith(PREFIX)}
    content_type = next((text.decode() for name, text in pairs if name == CONTENT_TYPE and text), JSON_TYPE)
    others = [pair for pair in pairs if not pair[0].startswith(PREFIX) and pair[0] != CONTENT_TYPE]
    value, headers = to_structured(attributes, data, content_type)
    return value, [*others, *headers]


def to_binary(
    attributes: Mapping[str, str], data: bytes | None, content_type: str = JSON_TYPE
) -> tuple[bytes | None, Pairs]:
    """A record in binary mode: its value and headers. Raises CloudEventError for a missing attribute."""
    check_required(attributes)
    headers: Pairs = [(PREFIX + name, text.encode()) for name, text in attributes.items() if name != "datacontenttype"]
    if data is not None:
        headers.append((CONTENT_TYPE, content_type.encode()))
    return data, headers
