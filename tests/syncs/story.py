"""Small traces, written by hand: what a broker does in one call after the other."""

import base64
from dataclasses import replace
from typing import Any

from headwater.protocol.apis import APIS, ApiKey
from headwater.protocol.frames import request_frame, response_frame
from headwater.protocol.messages.produce import ProduceRequest, ProduceResponse
from headwater.protocol.records import Record, build_batch, patch_base_offset
from headwater.storage.journal_entries import FILE_HEADER_BYTES, entry_header, sync_mark
from tests.syncs.calls import Call, Kind
from tests.syncs.rules import RECOVERY_POINTS, Checker

DATA = "/disk/data"
JOURNAL = f"{DATA}/journal/0.journal"
LOG = f"{DATA}/t-0"
SEGMENT = f"{LOG}/{0:020d}.log"
TOPIC_ID = b"0123456789abcdef"
TOPIC_TEXT = base64.urlsafe_b64encode(TOPIC_ID).decode().rstrip("=")
GENERATION = 7
LOOP, CHECKPOINT = 1, 2  # threads


def batch(value: bytes, offset: int = 0, **fields: Any) -> bytes:
    made = build_batch([Record(None, value, (), 1)], **fields)
    patch_base_offset(made, 0, offset)
    return bytes(made)


def points(offset: int) -> bytes:
    """A file of recovery points, or of log start offsets."""
    return f"1\n1\n{TOPIC_TEXT} 0 {offset} 00000000\n".encode()


class Story:
    """Each method is a call, which ends before the next one begins but for `start` and `finish`."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.line = 0
        self.thread = LOOP
        self.position = FILE_HEADER_BYTES
        for path in (DATA, f"{DATA}/journal"):
            self.make(path)
        self.create(JOURNAL)
        for path in (f"{DATA}/journal", DATA, "/disk"):
            self.sync(path)

    def add(self, kind: Kind, path: str = "", **fields: Any) -> None:
        self.line += 2
        self.calls.append(Call(kind, self.line - 1, self.line, self.thread, path, **fields))

    def start(self, kind: Kind, path: str) -> int:
        """A call that lasts until `finish` is called with what this returns."""
        self.line += 1
        self.calls.append(Call(kind, self.line, 0, self.thread, path))
        return len(self.calls) - 1

    def finish(self, number: int) -> None:
        self.line += 1
        self.calls[number] = replace(self.calls[number], end=self.line)

    def make(self, path: str) -> None:
        self.add(Kind.MAKE_DIRECTORY, path)

    def create(self, path: str) -> None:
        self.add(Kind.CREATE, path)

    def write(self, path: str, data: bytes, position: int = 0) -> None:
        self.add(Kind.WRITE, path, data=data, position=position)

    def sync(self, *paths: str) -> None:
        for path in paths:
            self.add(Kind.SYNC, path)

    def rename(self, path: str, target: str) -> None:
        self.add(Kind.RENAME, path, target=target)

    def remove(self, path: str) -> None:
        self.add(Kind.REMOVE, path)

    # -- what is always done together

    def make_log(self, *, sync_names: bool = True) -> None:
        self.make(LOG)
        self.create(f"{LOG}/partition.metadata")
        self.write(f"{LOG}/partition.metadata", f"version: 0\ntopic_id: {TOPIC_TEXT}\n".encode())
        self.create(SEGMENT)
        if sync_names:
            self.sync(LOG, DATA)

    def append(self, data: bytes, offset: int = 0, *, segment: bool = True, position: int = 0) -> None:
        """A batch goes into its segment and, as a group, into the journal."""
        if segment:
            self.write(SEGMENT, data, position)
        group = entry_header(GENERATION, 0, TOPIC_ID, offset, data) + data
        self.write(JOURNAL, sync_mark(GENERATION, 1, len(group)) + group, self.position)
        self.position += 1000

    def replace(self, name: str, content: bytes, *, sync: bool = True, sync_directory: bool = True) -> None:
        path = f"{DATA}/{name}"
        self.create(path + ".tmp")
        self.write(path + ".tmp", content)
        if sync:
            self.sync(path + ".tmp")
        self.rename(path + ".tmp", path)
        if sync_directory:
            self.sync(DATA)

    def checkpoint(self, offset: int, *paths: str) -> None:
        self.sync(*paths)
        self.replace(RECOVERY_POINTS, points(offset))

    def retire(self) -> None:
        self.write(JOURNAL, bytes(20))

    # -- clients

    def ask(self, key: int, version: int, body: Any, connection: int = 1) -> None:
        self.add(Kind.RECEIVE, data=request_frame(APIS[key], version, 5, "c", body), connection=connection)

    def answer(self, key: int, version: int, body: Any, connection: int = 1) -> None:
        frame = b"".join(bytes(part) for part in response_frame(APIS[key], version, 5, body))
        self.add(Kind.SEND, data=frame, connection=connection)

    def ask_produce(self, data: bytes, acks: int = -1) -> None:
        partition = ProduceRequest.PartitionProduceData(0, data)
        topics = [ProduceRequest.TopicProduceData(name="t", partition_data=[partition])]
        self.ask(ApiKey.PRODUCE, 9, ProduceRequest(None, acks, 1000, topics))

    def answer_produce(self, error: int = 0) -> None:
        partition = ProduceResponse.PartitionProduceResponse(0, error, 0)
        topics = [ProduceResponse.TopicProduceResponse(name="t", partition_responses=[partition])]
        self.answer(ApiKey.PRODUCE, 9, ProduceResponse(topics))

    def problems(self) -> list[str]:
        checker = Checker(DATA)
        checker.run(self.calls)
        return checker.problems
