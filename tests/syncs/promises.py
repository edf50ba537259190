"""What an answer promises to its client: bytes that a power cut must not take back.

A batch is known by its bytes from the CRC on, which no broker changes: it is promised by the answer to an acks=all
Produce, and by a Fetch that hands it out. Other answers stand for records of the broker's own; such a record contains a
text of the request (a topic's name, a group's id), which must be in the journal after the request came.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, NamedTuple, TypeAlias

from headwater.protocol.api_classes import request_class, response_class
from headwater.protocol.apis import APIS, ApiKey
from headwater.protocol.compiled import decode
from headwater.protocol.frames import read_request_header, response_header_version
from headwater.protocol.records import LOG_OVERHEAD, read_header

CRC_AT = 17
ERROR_FIELDS = ("error_code", "partition_error_code")
LOG_STARTS = "log-start-by-topic-id-checkpoint"
METADATA_TOPIC_ID = bytes(15) + b"\x01"


class Batch(NamedTuple):
    """A batch, by its bytes from the CRC on: durable in the journal or in a segment."""

    tail: bytes


class Text(NamedTuple):
    """Bytes that were written to the journal after the request came."""

    text: bytes


class Marker(NamedTuple):
    """The end of a transaction of this producer, written to the journal after the request came."""

    producer_id: int


class Replaced(NamedTuple):
    """A file of that name that was put in place after the request came."""

    name: str


Promise: TypeAlias = Batch | Text | Marker | Replaced


@dataclass(slots=True)
class Request:
    """A request that was read whole at the line `received_at`."""

    key: int
    version: int
    correlation_id: int
    body: Any
    received_at: int

    @property
    def name(self) -> str:
        return APIS[self.key].name


def read_request(frame: bytes, received_at: int) -> Request:
    """A frame without its length."""
    header = read_request_header(frame)
    class_ = request_class(header.api_key)
    body, _ = decode(class_, header.api_version, frame, header.body_at)
    return Request(header.api_key, header.api_version, header.correlation_id, body, received_at)


def read_answer(request: Request, frame: bytes) -> Any:
    api = APIS[request.key]
    class_ = response_class(request.key)
    return decode(class_, request.version, frame, 5 if response_header_version(api, request.version) else 4)[0]


def has_error(message: Any) -> bool:
    """Whether an error code stands anywhere in the answer."""
    if isinstance(message, list):
        return any(map(has_error, message))
    if not is_dataclass(message):
        return False
    names = [field.name for field in fields(message)]
    return any(getattr(message, name) for name in names if name in ERROR_FIELDS) or any(
        has_error(getattr(message, name)) for name in names
    )


def tails(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(base offset, tail) of every whole batch; ends at the first bytes that are none."""
    position = 0
    while position + 61 <= len(data):
        header = read_header(data, position)
        end = position + header.length + LOG_OVERHEAD
        if header.magic != 2 or header.length < 49 or end > len(data):
            return
        yield header.base_offset, bytes(data[position + CRC_AT : end])
        position = end


def promises(request: Request, answer: Any) -> list[Promise]:
    """What this answer promises; nothing, where it reports an error."""
    rule = RULES.get(request.key)
    return rule(request.body, answer) if rule is not None else []


def produced(body: Any, answer: Any) -> list[Promise]:
    """The batches of the partitions that were accepted."""
    if body.acks != -1:
        return []
    accepted = {
        (topic.name or topic.topic_id, partition.index)
        for topic in answer.responses
        for partition in topic.partition_responses
        if partition.error_code == 0
    }
    return [
        Batch(tail)
        for topic in body.topic_data
        for partition in topic.partition_data
        if (topic.name or topic.topic_id, partition.index) in accepted
        for _, tail in tails(bytes(partition.records or b""))
    ]


def fetched(body: Any, answer: Any) -> list[Promise]:
    """Readers see nothing that is not durable."""
    return [
        Batch(tail)
        for topic in answer.responses
        for partition in topic.partitions
        for _, tail in tails(bytes(partition.records or b""))
    ]


Texts: TypeAlias = Callable[[Any], list[bytes]]


def said(texts: Texts) -> Callable[[Any, Any], list[Promise]]:
    """A rule for an API whose records contain texts of its request."""
    return lambda body, answer: [] if has_error(answer) else [Text(text) for text in texts(body)]


def initialized(body: Any, answer: Any) -> list[Promise]:
    if body.transactional_id is None or answer.error_code:
        return []
    return [Text(body.transactional_id.encode())]


def ended(body: Any, answer: Any) -> list[Promise]:
    """The markers are on disk as well; a transaction that has no records has none."""
    return [] if answer.error_code else [Text(body.transactional_id.encode()), Marker(body.producer_id)]


def added(body: Any, answer: Any) -> list[Promise]:
    return [] if has_error(answer) else [Text(body.v3_and_below_transactional_id.encode())]


def deleted_topics(body: Any, answer: Any) -> list[Promise]:
    return [] if has_error(answer) else [Text(topic.topic_id) for topic in answer.responses]


def metadata_changed(body: Any, answer: Any) -> list[Promise]:
    """What is removed is named in its record by an id that the request does not have."""
    return [] if has_error(answer) else [Text(METADATA_TOPIC_ID)]


def deleted_records(body: Any, answer: Any) -> list[Promise]:
    return [] if has_error(answer) else [Replaced(LOG_STARTS)]


RULES: dict[int, Callable[[Any, Any], list[Promise]]] = {
    ApiKey.PRODUCE: produced,
    ApiKey.FETCH: fetched,
    ApiKey.CREATE_TOPICS: said(lambda body: [topic.name.encode() for topic in body.topics]),
    ApiKey.DELETE_TOPICS: deleted_topics,
    ApiKey.CREATE_PARTITIONS: metadata_changed,
    ApiKey.DELETE_RECORDS: deleted_records,
    ApiKey.OFFSET_COMMIT: said(lambda body: [body.group_id.encode()]),
    ApiKey.TXN_OFFSET_COMMIT: said(lambda body: [body.group_id.encode()]),
    ApiKey.DELETE_GROUPS: said(lambda body: [name.encode() for name in body.groups_names]),
    ApiKey.INIT_PRODUCER_ID: initialized,
    ApiKey.ADD_PARTITIONS_TO_TXN: added,
    ApiKey.END_TXN: ended,
    ApiKey.INCREMENTAL_ALTER_CONFIGS: said(
        lambda body: [change.value.encode() for resource in body.resources for change in resource.configs]
    ),
    ApiKey.CREATE_ACLS: said(lambda body: [creation.principal.encode() for creation in body.creations]),
    ApiKey.DELETE_ACLS: metadata_changed,
    ApiKey.ALTER_USER_SCRAM_CREDENTIALS: said(lambda body: [user.name.encode() for user in body.upsertions]),
}
