"""Request frames made from the message data: any field of any key and version, then flipped, cut, spliced and lying.

A `FrameMaker` draws everything from one seed. It builds a few messages of every served key and version, with names that
exist, names that do not, and the numbers at which code breaks (-1, 0, the ends of each type). A frame that it gives is
one of those, usually with one to four mutations. What it makes depends on the seed only, so a failure can be repeated.
"""

import struct
from collections.abc import Iterator
from random import Random
from typing import Any

from headwater.broker.dispatch import advertised_versions
from headwater.protocol.api_classes import request_class
from headwater.protocol.apis import APIS
from headwater.protocol.compression import Compression
from headwater.protocol.errors import ProtocolError
from headwater.protocol.frames import request_frame
from headwater.protocol.records import Record, build_batch
from headwater.protocol.schema import Field, in_version

BITS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}
UNSIGNED_BITS = {"uint16": 16, "uint32": 32}
NAMES = (
    "fuzz", "compacted", "packed", "unknown", "g", "member", "tx", "alice", "kafka-cluster", "1", "", ".", "a/b", "ü\n",
    "range", "consumer", "PLAIN", "SCRAM-SHA-256", "retention.ms", "cleanup.policy", "__consumer_offsets", "x" * 300,
)  # fmt: skip
MESSAGES_PER_VERSION = 24
DEPTH_MAX = 4
NOW_MS = 1_700_000_000_000
LYING_LENGTHS = (-1, 0, 1, 127, 2**15 - 1, 2**24, 2**31 - 1, -(2**31))


class FrameMaker:
    """Frames from a seed. `topic_ids` are ids that exist."""

    def __init__(self, seed: int, topic_ids: tuple[bytes, ...] = ()) -> None:
        self.random = Random(seed)
        self.topic_ids = topic_ids
        self.whole: list[bytes] = []
        for key, low, high in advertised_versions():
            self.whole += self.frames_of(key, low, high)

    def frame(self) -> bytes:
        """A frame without its length: whole, with changed values, or with changed lengths, in equal parts."""
        random = self.random
        frame = bytearray(random.choice(self.whole))
        match random.randrange(3):
            case 0:
                pass
            case 1:
                self.change_value(frame)
            case _:
                for _ in range(random.randint(1, 4)):
                    self.mutate(frame)
        return bytes(frame)

    # -- whole messages

    def frames_of(self, key: int, low: int, high: int) -> Iterator[bytes]:
        api = APIS[key]
        class_ = request_class(key)
        for version in range(max(low, api.low), high + 1):
            for _ in range(MESSAGES_PER_VERSION):
                message = self.message(class_, class_, version, 0)
                try:
                    yield request_frame(api, version, self.random.randrange(1 << 31), "fuzz", message)[4:]
                except ProtocolError as error:
                    raise AssertionError(f"{api.name} {version}: the fuzzer made what cannot be encoded") from error

    def message(self, root: Any, class_: Any, version: int, depth: int) -> Any:
        values = {
            field.name: self.value(root, field, version, depth) for field in class_.SCHEMA if in_version(field, version)
        }
        return class_(**values)

    def value(self, root: Any, field: Field, version: int, depth: int) -> Any:
        nested = getattr(root, field.element if field.is_array else field.type, None)
        may_be_null = field.nullable <= version or (field.tag >= 0 and nested is not None and not field.is_array)
        if may_be_null and self.random.random() < 0.15:
            return None
        if not field.is_array:
            return self.element(root, field.type, nested, field.name, version, depth)
        count = 0 if depth >= DEPTH_MAX else self.random.choice((0, 1, 1, 1, 2, 3, 8))
        return [self.element(root, field.element, nested, field.name, version, depth) for _ in range(count)]

    def element(self, root: Any, type_: str, nested: Any, name: str, version: int, depth: int) -> Any:
        if nested is not None:
            return self.message(root, nested, version, depth + 1)
        if type_ in BITS:
            return self.integer(BITS[type_])
        if type_ in UNSIGNED_BITS:
            return self.integer(UNSIGNED_BITS[type_]) & ((1 << UNSIGNED_BITS[type_]) - 1)
        match type_:
            case "boolean":
                return self.random.random() < 0.5
            case "float64":
                return self.random.choice((0.0, -1.0, 1e308, float("inf"), float("nan")))
            case "uuid":
                return self.random.choice((*self.topic_ids, bytes(16), self.random.randbytes(16)))
            case "string":
                return self.random.choice(NAMES)
            case "records":
                return self.records()
            case _:
                return self.random.randbytes(self.random.choice((0, 1, 20, 300)))

    def integer(self, bits: int) -> int:
        high = (1 << bits - 1) - 1
        return self.random.choice((0, 0, 0, 1, 1, 2, 3, 5, -1, -2, high, -high - 1, self.random.randint(-high, high)))

    def records(self) -> bytes:
        """A batch of any compression, or several, or one that is cut or flipped."""
        random = self.random
        made = [
            Record(random.choice((None, b"k")), random.choice((None, b"", b"v" * 50)), (("h", None),), NOW_MS + n)
            for n in range(random.randint(1, 5))
        ]
        keywords: dict[str, Any] = {"compression": random.choice(list(Compression))}
        if random.random() < 0.3:
            keywords |= {"producer_id": random.choice((0, 1, 7, 2**63 - 1)), "producer_epoch": 0, "base_sequence": 0}
        batch = bytearray(build_batch(made, **keywords))
        if random.random() < 0.3:
            self.mutate(batch)
        return bytes(batch) * random.choice((1, 1, 1, 2))

    # -- damage

    def change_value(self, data: bytearray) -> None:
        """Changes bytes in place, after the header: most such frames can still be decoded."""
        random = self.random
        at = random.randrange(min(16, len(data) - 1), len(data))
        match random.randrange(3):
            case 0:
                data[at] ^= 1 << random.randrange(8)
            case 1:
                data[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF))
            case _:
                data[at : at + 4] = struct.pack(">i", random.choice(LYING_LENGTHS))[: len(data) - at]

    def mutate(self, data: bytearray) -> None:
        """Changes a value or a length, cuts, adds or splices, anywhere after the API key and version."""
        random = self.random
        if len(data) < 12:
            return
        at = random.randrange(4, len(data) - 3)
        match random.randrange(5):
            case 0:
                self.change_value(data)
            case 1:
                del data[at : at + random.randint(1, 8)]
            case 2:
                data[at:at] = random.randbytes(random.randint(1, 8))
            case 3:
                struct.pack_into(">h", data, at, random.choice((-1, 0, 2**15 - 1, -(2**15))))
            case _:
                data[at:] = random.choice(self.whole)[at:] if self.whole else b""
