"""Both codecs decode and encode Kafka's own bytes, every line of golden.jsonl, to the byte."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from headwater.protocol import compiled, reference
from headwater.protocol.schema import in_version

from .messages import message_classes

GOLDEN = Path(__file__).parents[1] / "golden" / "golden.jsonl"
LINES = [json.loads(line) for line in GOLDEN.read_text().splitlines()]


def camel(name: str) -> str:
    first, *rest = name.rstrip("_").split("_")
    return first + "".join(word.capitalize() for word in rest)


def plain(value: Any, type_: str) -> Any:
    """A field's value as Kafka's JSON has it."""
    if type_ in ("bytes", "records"):
        return base64.b64encode(value).decode()
    if type_ == "uuid":
        return base64.urlsafe_b64encode(value).decode().rstrip("=")
    return value


def check_json(root: Any, message: Any, expected: dict[str, Any], version: int) -> None:
    """Every field that Kafka's JSON form names has that value in the decoded message."""
    by_json = {camel(f.name).lower(): f for f in message.SCHEMA if in_version(f, version)}
    for key, wanted in expected.items():
        field = by_json[key.lower()]
        found = getattr(message, field.name)
        type_ = field.element if field.is_array else field.type
        if wanted is None:
            assert found is None
        elif hasattr(root, type_):
            pairs = zip(found, wanted, strict=True) if field.is_array else [(found, wanted)]
            for item, wanted_item in pairs:
                check_json(root, item if item is not None else getattr(root, type_)(), wanted_item, version)
        elif field.is_array:
            assert [plain(item, type_) for item in found] == wanted
        elif type_ == "float64":
            assert found == pytest.approx(float(wanted))
        else:
            assert plain(found, type_) == wanted


def test_all_of_the_golden_lines_are_here() -> None:
    assert len(LINES) == 2190
    covered = {line["name"] for line in LINES}
    assert set(message_classes()) - covered == {"UpdateRaftVoterRequest"}


@pytest.mark.parametrize("name", sorted({line["name"] for line in LINES}))
def test_both_codecs_agree_with_kafka(name: str) -> None:
    class_ = message_classes()[name]
    for line in (line for line in LINES if line["name"] == name):
        version, data = line["version"], bytes.fromhex(line["hex"])
        for codec in (reference, compiled):
            message, end = codec.decode(class_, version, data)
            assert end == len(data)
            assert codec.encode(message, version) == data
            check_json(class_, message, line["json"], version)
        assert compiled.decode(class_, version, data)[0] == reference.decode(class_, version, data)[0]
