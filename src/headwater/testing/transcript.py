"""The requests that clients sent, and the events that are stored: both help to find out why a test failed."""

from collections import deque
from typing import Any

from headwater.broker.core import BrokerCore
from headwater.events.event import Event, event_maker
from headwater.events.headers import Pairs
from headwater.events.serializers import ANY, serializer_of
from headwater.protocol.records import Record, batches, records

LINES_MAX = 2000
EVENTS_MAX = 1000
READ_BYTES = 1 << 20


class Transcript:
    """The latest requests, oldest first. Repeated requests in a row are one entry with a count."""

    def __init__(self) -> None:
        self.entries: deque[list[Any]] = deque(maxlen=LINES_MAX)

    def note(self, client: str, api: str, size: int) -> None:
        if self.entries and self.entries[-1][:2] == [client, api]:
            self.entries[-1][2] += 1
            self.entries[-1][3] += size
        else:
            self.entries.append([client, api, 1, size])

    @property
    def lines(self) -> list[str]:
        return [f"  {client} {api} × {number}, {size} bytes" for client, api, number, size in self.entries]

    @property
    def apis(self) -> list[str]:
        """Kafka's names of the requests, in order."""
        return [api for _, api, _, _ in self.entries]


def stored_events(core: BrokerCore, topic: str | None) -> list[Event[Any]]:
    """The first events of one topic, or of all topics that are not internal. Call this in the broker's thread."""
    found: list[Event[Any]] = []
    for known in list(core.metadata.topics.values()):
        if known.name != topic and (topic is not None or known.name.startswith("__")):
            continue
        for partition in range(known.partitions):
            log = core.partitions.log(known, partition)
            offset = log.start_offset
            while offset < log.end_offset and len(found) < EVENTS_MAX:
                data = log.read(offset, READ_BYTES, at_least_one=True)
                for header, batch in batches(data):
                    offset = header.next_offset
                    if not header.is_control:
                        found += [
                            as_event(StoredRecord(known.name, partition, record)) for record in records(header, batch)
                        ]
                if not data:
                    break
    return found


class StoredRecord:
    """A record of a partition's log, in the form in which an event reads it."""

    def __init__(self, topic: str, partition: int, record: Record) -> None:
        self.place, self.record = (topic, partition), record

    def topic(self) -> str:
        return self.place[0]

    def partition(self) -> int:
        return self.place[1]

    def offset(self) -> int:
        return self.record.offset

    def timestamp(self) -> tuple[int, int]:
        return 0, self.record.timestamp

    def key(self) -> bytes | None:
        return self.record.key

    def value(self) -> bytes | None:
        return self.record.value

    def headers(self) -> Pairs:
        return list(self.record.headers)


as_event = event_maker(ANY, serializer_of(str))
