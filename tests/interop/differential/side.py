"""The same requests to two brokers, and what of their answers may be compared.

A step is a request in every version that both brokers have. Answers become plain data in which what is a broker's own
business (ids, times, addresses, words) is replaced or left out; the rest must be equal, field by field.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

from headwater.protocol.apis import APIS, ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.api_versions import ApiVersionsRequest
from headwater.protocol.messages.metadata import MetadataRequest
from headwater.protocol.records import batches, records
from tests.broker.wire import Wire
from tests.security.matrix import error_codes, message

# Words for people, times, addresses, and what a broker makes up.
LEFT_OUT = frozenset(
    {
        "throttle_time_ms",
        "error_message",
        "batch_index_error_message",
        "host",
        "port",
        "cluster_id",
        "rack",
        "log_dir",
        "total_bytes",
        "usable_bytes",
        "is_cordoned",
        "partition_size",
        "last_timestamp",
        "transaction_start_time_ms",
        "last_fetch_timestamp",
        "last_caught_up_timestamp",
        "log_end_offset",
        "high_watermark_of_quorum",
        "client_host",
        "broker_epoch",
        "current_leader",
        "node_endpoints",
        "finalized_features_epoch",
        "replica_directory_id",
        "session_id",
    }
)
UNORDERED = {"subscribed_topic_names"}
TRIES_MAX = 20_000
# While a coordinator loads; a Kafka that makes its topic says NOT_COORDINATOR.
NOT_YET = {
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_COORDINATOR,
}
NAMED = {"producer_id": "producer", "member_id": "member", "leader": "member", "topic_id": "topic"}


class Step(NamedTuple):
    """A request, by name; `make` gives its body from what the broker has answered so far.

    Where one request is not enough, `perform` sends them and gives their answers.
    """

    name: str
    key: ApiKey
    make: Callable[["Side"], Any]
    versions: tuple[int, ...] = ()
    remember: Callable[["Side", Any], None] | None = None
    perform: Callable[["Side"], Any] | None = None


class Side:
    """One of the brokers, and what is known of it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.wires = {"": Wire(address, 60)}
        self.wire = self.wires[""]
        self.known: dict[str, Any] = {}
        self.names: dict[str, dict[Any, str]] = {}
        answer = self.wire.call(ApiKey.API_VERSIONS, 3, ApiVersionsRequest("differential", "1"))
        self.versions = {row.api_key: (row.min_version, row.max_version) for row in answer.api_keys}

    def wire_of(self, client: str) -> Wire:
        """A client's own connection, for requests that are answered later."""
        if client not in self.wires:
            self.wires[client] = Wire(self.address, 60)
        return self.wires[client]

    def close(self) -> None:
        for wire in self.wires.values():
            wire.socket.close()

    def ask_until(self, done: Callable[[Any], bool], key: ApiKey, version: int, body: Any) -> Any:
        """The first answer that is as wanted: a new Kafka, and one that ends a transaction, need a moment."""
        for _ in range(TRIES_MAX):
            answer = self.wire.call(key, version, body)
            if done(answer):
                return answer
        raise AssertionError(f"{key.name} is still answered with {answer}")

    def wait_for_coordinators(self) -> None:
        """Returns when groups and transactions can be used: a new Kafka makes their topics first."""
        key, m = ApiKey.FIND_COORDINATOR, message(ApiKey.FIND_COORDINATOR)
        for kind, name in ((0, "g"), (0, "h"), (1, "tx"), (0, "c"), (0, "tg")):
            self.ask_until(lambda answer: answer.error_code == ErrorCode.NONE, key, 3, m(name, kind))
        key, m = ApiKey.DELETE_GROUPS, message(ApiKey.DELETE_GROUPS)
        for group in ("g", "none", "c", "tg"):
            self.ask_until(lambda answer: answer.results[0].error_code not in NOT_YET, key, 2, m([group]))
        key, m = ApiKey.DESCRIBE_TRANSACTIONS, message(ApiKey.DESCRIBE_TRANSACTIONS)
        self.ask_until(lambda answer: answer.transaction_states[0].error_code not in NOT_YET, key, 0, m(["tx"]))
        key, m = ApiKey.INIT_PRODUCER_ID, message(ApiKey.INIT_PRODUCER_ID)  # it fetches its first block of producer ids
        self.ask_until(lambda answer: answer.error_code == ErrorCode.NONE, key, 4, m(None, 60_000))

    def topic(self, name: str, partitions: int = 2) -> None:
        """Creates a topic and remembers its id. Its records have old timestamps, and neither side may let them expire."""
        self.wire.create_topic(name, partitions, retention_ms="-1")
        wanted = MetadataRequest([MetadataRequest.MetadataRequestTopic(name=name)], False)
        answer = self.ask_until(lambda a: is_there(a.topics[0], partitions), ApiKey.METADATA, 12, wanted)
        topic_id = answer.topics[0].topic_id
        self.names.setdefault("topic", {})[topic_id] = name
        self.known[name] = topic_id
        key, m = ApiKey.LIST_OFFSETS, message(ApiKey.LIST_OFFSETS)
        body = m(-1, 0, [m.ListOffsetsTopic(name, [m.ListOffsetsPartition(n, -1, -1) for n in range(partitions)])])
        self.ask_until(lambda answer: not any(error_codes(answer)), key, 7, body)

    def named(self, kind: str, value: Any) -> Any:
        """A stable name for an id that the broker made up; the same for the same."""
        if value in (-1, "", None, bytes(16)):
            return value
        known = self.names.setdefault(kind, {})
        return known.setdefault(value, f"{kind}-{len(known)}")

    def plain(self, value: Any, field: str = "") -> Any:
        """An answer as data that can be compared."""
        if is_dataclass(value):
            pairs = ((f.name, getattr(value, f.name)) for f in fields(value) if f.name not in LEFT_OUT)
            return {name: self.plain(content, name) for name, content in pairs}
        if isinstance(value, list):
            items = [self.plain(item, field) for item in value]
            return (
                sorted(items, key=str)
                if field in UNORDERED or all(isinstance(item, dict | int) for item in items)
                else items
            )
        if field in NAMED:
            return self.named(NAMED[field], value)
        if field == "records":
            return self.plain_records(value)
        if isinstance(value, memoryview | bytearray):
            return bytes(value)
        return value

    def plain_records(self, data: Any) -> list[Any]:
        return [
            (h.base_offset, h.last_offset, h.is_control, h.is_transactional, [(r.key, r.value) for r in records(h, b)])
            for h, b in batches(data or b"")
        ]


def is_there(topic: Any, partitions: int) -> bool:
    return topic.error_code == ErrorCode.NONE and len(topic.partitions) == partitions


def has_ended(answer: Any) -> bool:
    """Whether nothing in an answer says that a transaction is still ending."""
    return ErrorCode.CONCURRENT_TRANSACTIONS not in error_codes(answer)


def run_step(step: Step, sides: tuple[Side, Side]) -> Iterator[tuple[int, Any, Any]]:
    """(version, answer of the first, answer of the second) in every version that both have."""
    low = max(side.versions[step.key][0] for side in sides)
    high = min(side.versions[step.key][1] for side in sides)
    low = max(low, APIS[step.key].low)
    for version in step.versions or range(low, high + 1):
        answers = []
        for side in sides:
            if step.perform is not None:
                answer = step.perform(side)
            else:  # Kafka answers EndTxn before the transaction has ended; Headwater does not
                answer = side.ask_until(has_ended, step.key, version, step.make(side))
            if step.remember is not None:
                step.remember(side, answer)
            answers.append(side.plain(answer))
        yield version, answers[0], answers[1]


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Where two answers differ, as `path: this != that`."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one:
            yield from differences(one[key], other.get(key), f"{path}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            yield from differences(a, b, f"{path}[{number}]")
    elif one != other:
        yield f"{path.lstrip('.')}: {one!r} != {other!r}"
