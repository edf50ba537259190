"""The rules of durability, checked over all that a broker asked of the kernel.

    answer          what an answer promises is on disk before its first byte leaves (`promises.py`), and so are the names of
                    the journal's files, and the removal of the marker of a clean stop
    rename          a file is synced before it is renamed into place; before the same thread answers anybody, and before
                    the journal is written over, its name is on disk. Producers' snapshots are exempt: they are read
                    with a checksum, and a start does without
    journal         before a journal file is retired or written over, every batch in it was synced in its segment, and the
                    names of the segment and of its directories are on disk
    recovery point  the file of recovery points promises no offset whose batch is not synced in its segment, nor one whose
                    aborted transaction is not synced in its index; and a segment's sums promise no batch that is not synced
    removal         a segment goes when a compacted copy of it is on disk, with its name, or when a log start offset beyond
                    it is; but for deleted topics, whose directory was renamed
    clean stop      the marker of a clean stop is made when all logs are on disk

The order of calls is that of their lines. What a rule demands was done must have ended before the call begins that relies
on it. `Checker.run` may be called for several lives of a broker in the same directory, as long as the machine has not lost
its memory between them.
"""

import base64
import re
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from headwater.storage.index import ABORTED_ENTRY
from headwater.storage.journal_entries import ENTRY, ENTRY_MAGIC, FILE_HEADER_BYTES, GATHERED_MAGIC, LAYOUTS, MARK_ID
from headwater.storage.sums import SUMS, SUMS_SUFFIX, SegmentSums
from tests.syncs.calls import Call, Kind
from tests.syncs.disk import NEVER, Disk, Node
from tests.syncs.promises import (
    LOG_STARTS,
    Batch,
    Marker,
    Promise,
    Replaced,
    Request,
    Text,
    promises,
    read_answer,
    read_request,
    tails,
)

JOURNAL_FILE = re.compile(r"[0-9]+\.journal")
LOG_DIRECTORY = re.compile(r".+-([0-9]+)")
SEGMENT_FILE = re.compile(r"([0-9]{20})\.log")
ABORTED_SUFFIX = ".txnindex"
RECOVERY_POINTS = "recovery-point-by-topic-id-checkpoint"
CLEAN_MARKER = ".kafka_cleanshutdown"
CONTENT_BYTES_MAX = 1 << 20
PRODUCER_ID = struct.Struct(">q")
Key = tuple[bytes, int]  # topic id, partition


@dataclass(slots=True)
class SegmentBatch:
    """A batch in a segment; `synced_at` is the end of the sync that covers it."""

    node: Node
    tail: bytes
    written_at: int
    synced_at: int = NEVER


@dataclass(slots=True)
class JournalWrite:
    """A group's write. `entries`: (topic id, partition, base offset, tail)."""

    call: Call
    entries: list[tuple[bytes, int, int, bytes]]
    synced_at: int = NEVER


@dataclass(slots=True)
class Connection:
    """What has come and gone, as far as no frame is complete; and requests that wait for their answers."""

    received: bytearray = field(default_factory=bytearray)
    sent: bytearray = field(default_factory=bytearray)
    frame_began_at: int = 0  # the first byte of the answer that is being sent
    requests: dict[int, Request] = field(default_factory=dict)


class Checker:
    """See the module's docstring. `problems` are the breaches, `answers` counts the promises that were checked by API."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.disk = Disk(directory.rpartition("/")[0])
        self.problems: list[str] = []
        self.answers: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()  # what else was checked
        self.connections: dict[int, Connection] = defaultdict(Connection)
        self.journal: dict[Node, list[JournalWrite]] = defaultdict(list)  # not written over
        self.journal_writes: list[JournalWrite] = []
        self.batches: dict[Node, list[SegmentBatch]] = defaultdict(list)
        self.logs: dict[Key, dict[int, SegmentBatch]] = defaultdict(dict)
        self.aborted: dict[Key, dict[int, SegmentBatch]] = defaultdict(dict)  # by the offset of the marker
        self.deleted: set[Key] = set()
        self.durable: dict[bytes, int] = {}  # tails, and when they were on disk for the first time
        self.renames: list[tuple[Call, Node]] = []  # whose name may not be on disk
        self.marker_removed_at = NEVER
        self.next_line = 0

    # -- the order of things

    def run(self, calls: Iterable[Call]) -> None:
        """Checks the calls of one life. The next life's lines must be numbered from `next_line` on."""
        edges = []
        for call in calls:
            edges += [(call.start, 0, call), (call.end, 1, call)]
        edges.sort(key=lambda edge: edge[:2])
        for _, is_end, call in edges:
            if is_end:
                self.end(call)
            else:
                self.begin(call)
        if edges:
            self.next_line = edges[-1][0] + 1
        self.connections.clear()

    def begin(self, call: Call) -> None:
        """The rules: what has to be done before this call."""
        match call.kind:
            case Kind.WRITE | Kind.TRUNCATE if call.position < FILE_HEADER_BYTES and self.is_journal(call.path):
                self.check_journal(call)
            case Kind.WRITE if call.path.endswith(SUMS_SUFFIX):
                self.check_sums(call)
            case Kind.RENAME:
                self.check_rename(call)
            case Kind.REMOVE:
                self.check_removal(call)
            case Kind.SEND:
                self.send(call)

    def end(self, call: Call) -> None:
        """What has changed with this call."""
        match call.kind:
            case Kind.CREATE:
                self.disk.make(call.path, call.end, is_directory=False)
            case Kind.MAKE_DIRECTORY:
                self.disk.make(call.path, call.end, is_directory=True)
            case Kind.WRITE:
                self.written(call)
            case Kind.TRUNCATE:
                node = self.disk.make(call.path, call.end, is_directory=False)
                node.changed_at = call.end
                del node.content[call.position :]
            case Kind.SYNC:
                self.synced(call)
            case Kind.RENAME:
                self.renamed(call)
            case Kind.REMOVE:
                if self.disk.find(call.path) is not None:
                    self.disk.remove(call.path, call.end)
                if call.path == f"{self.directory}/{CLEAN_MARKER}":
                    self.marker_removed_at = call.end
            case Kind.RECEIVE:
                self.receive(call)

    def problem(self, call: Call, text: str) -> None:
        self.problems.append(f"line {call.start + 1}: {text}")

    # -- files

    def is_journal(self, path: str) -> bool:
        directory, _, name = path.rpartition("/")
        return directory == f"{self.directory}/journal" and JOURNAL_FILE.fullmatch(name) is not None

    def written(self, call: Call) -> None:
        node = self.disk.make(call.path, call.end, is_directory=False)
        node.changed_at = call.end
        if self.is_journal(call.path):
            write = JournalWrite(call, list(entries_of(call.data)))
            if write.entries:
                self.journal[node].append(write)
                self.journal_writes.append(write)
        elif SEGMENT_FILE.fullmatch(node.name):
            self.segment_written(node, call)
        elif node.name.endswith(ABORTED_SUFFIX):
            self.aborted_written(node, call)
        elif call.position + len(call.data) <= CONTENT_BYTES_MAX:
            node.content[call.position : call.position + len(call.data)] = call.data

    def segment_written(self, node: Node, call: Call) -> None:
        assert node.parent is not None
        key = self.key_of(node.parent)
        for base_offset, tail in tails(call.data):
            batch = SegmentBatch(node, tail, call.end)
            self.batches[node].append(batch)
            if key is not None:
                self.logs[key][base_offset] = batch

    def aborted_written(self, node: Node, call: Call) -> None:
        assert node.parent is not None
        key = self.key_of(node.parent)
        for _, _, _, last_offset, _ in ABORTED_ENTRY.iter_unpack(call.data):
            entry = SegmentBatch(node, call.data, call.end)
            self.batches[node].append(entry)
            if key is not None:
                self.aborted[key][last_offset] = entry

    def key_of(self, directory: Node) -> Key | None:
        """Whose log a directory is, by what it says itself."""
        match = LOG_DIRECTORY.fullmatch(directory.name)
        metadata = directory.children.get("partition.metadata")
        if match is None or metadata is None:
            return None
        found = re.search(rb"topic_id: (\S{22})", metadata.content)
        return (base64.urlsafe_b64decode(found[1] + b"=="), int(match[1])) if found is not None else None

    def synced(self, call: Call) -> None:
        node = self.disk.find(call.path)
        if node is None:
            return  # removed meanwhile
        node.synced_from = max(node.synced_from, call.start)
        for write in self.journal.get(node, ()):
            if write.synced_at == NEVER and write.call.end < call.start:
                write.synced_at = call.end
                for _, _, _, tail in write.entries:
                    self.durable.setdefault(tail, call.end)
        for batch in self.batches.get(node, ()):
            if batch.synced_at == NEVER and batch.written_at < call.start:
                batch.synced_at = call.end
                self.durable.setdefault(batch.tail, call.end)
        if node.is_directory:
            self.renames = [(made, target) for made, target in self.renames if not self.is_settled(target)]

    @staticmethod
    def is_settled(node: Node) -> bool:
        return node.is_removed or (node.parent is not None and node.named_at <= node.parent.synced_from)

    def renamed(self, call: Call) -> None:
        node = self.disk.find(call.path)
        if node is None:
            return
        node = self.disk.rename(call.path, call.target, call.end)
        if not node.is_directory and not is_aid(call.target):
            self.renames.append((call, node))

    # -- the rules of files

    def check_rename(self, call: Call) -> None:
        node = self.disk.find(call.path)
        if node is None:
            self.problem(call, f"{call.path} is renamed, but nobody made it")
            return
        if node.is_directory:
            key = self.key_of(node)
            if key is not None and call.target.endswith("-delete"):
                self.deleted.add(key)
            return
        if is_aid(call.target):
            return
        self.seen["renames"] += 1
        if not node.has_durable_content:
            self.problem(call, f"{call.path} is renamed to {call.target} before it is synced")
        name = call.target.removeprefix(f"{self.directory}/")
        if name == RECOVERY_POINTS:
            self.check_points(call, node)
        elif name == CLEAN_MARKER:
            self.check_clean_stop(call)

    def check_points(self, call: Call, node: Node) -> None:
        for key, point in offsets_in(node.content).items():
            for base_offset, batch in [*self.logs.get(key, {}).items(), *self.aborted.get(key, {}).items()]:
                if base_offset < point and not self.is_safe(key, batch):
                    text = f"the recovery point {point} is above offset {base_offset} of {batch.node.path}"
                    self.problem(call, f"{text}, which is not on disk")
                    break
            self.seen["recovery points"] += 1

    def check_sums(self, call: Call) -> None:
        directory = self.disk.find(call.path.rpartition("/")[0])
        key = self.key_of(directory) if directory is not None else None
        sums = SegmentSums(*SUMS.unpack_from(call.data)[1:])
        if key is None:
            return  # a copy that compaction makes
        self.seen["sums"] += 1
        log = call.path.removesuffix(SUMS_SUFFIX) + ".log"
        for base_offset, batch in self.logs[key].items():
            if base_offset < sums.end_offset and batch.node.path == log and not self.is_safe(key, batch):
                self.problem(call, f"{call.path} is written before offset {base_offset} of its segment is on disk")
                return

    def is_safe(self, key: Key, batch: SegmentBatch) -> bool:
        """Whether a batch is in its segment on disk; what has replaced a removed segment was checked then."""
        if key in self.deleted:
            return True
        return batch.synced_at != NEVER and (batch.node.is_removed or batch.node.has_durable_name)

    def check_journal(self, call: Call) -> None:
        """The file is retired, or written over from its beginning."""
        node = self.disk.find(call.path)
        writes = self.journal.pop(node, []) if node is not None else []
        if not writes:
            return
        self.seen["journal files written over"] += 1
        for write in writes:
            for topic_id, partition, base_offset, tail in write.entries:
                batch = self.logs.get((topic_id, partition), {}).get(base_offset)
                if (topic_id, partition) in self.deleted:
                    continue
                self.seen["batches written over"] += 1
                if batch is None or batch.tail != tail:
                    text = "which no segment has"
                elif not self.is_safe((topic_id, partition), batch):
                    text = f"before {batch.node.path} is synced, with its name"
                else:
                    continue
                where = f"offset {base_offset} of partition {partition} of {topic_id.hex()}"
                self.problem(call, f"{call.path} is written over, where it has {where}, {text}")
        for made, target in self.renames:
            self.problem(call, f"{call.path} is written over before the name {target.path} is on disk ({made.path})")

    def check_removal(self, call: Call) -> None:
        node = self.disk.find(call.path)
        match = SEGMENT_FILE.fullmatch(call.path.rpartition("/")[2])
        if node is None or node.parent is None or match is None:
            return
        key = self.key_of(node.parent)
        if key is None or not self.batches.get(node):
            return
        self.seen["removed segments"] += 1
        own = (offset for offset, batch in self.logs[key].items() if batch.node is node)
        last = max(own, default=int(match[1]))
        if self.durable_start(key) > last:
            return
        for name, copy in node.parent.children.items():
            is_copy = name.endswith(".log.swap") and name < match[0] + ".swap~"
            if is_copy and copy.has_durable_content and copy.has_durable_name:
                return
        self.problem(call, f"{call.path} is removed, but nothing on disk stands for it")

    def durable_start(self, key: Key) -> int:
        node = self.disk.find(f"{self.directory}/{LOG_STARTS}")
        if node is None or not (node.has_durable_content and node.has_durable_name):
            return NEVER
        return offsets_in(node.content).get(key, NEVER)

    def check_clean_stop(self, call: Call) -> None:
        self.seen["clean stops"] += 1
        for key, log in self.logs.items():
            for base_offset, batch in log.items():
                if not self.is_safe(key, batch):
                    self.problem(
                        call, f"a clean stop is marked, but offset {base_offset} of {batch.node.path} is not synced"
                    )
                    break

    # -- clients

    def receive(self, call: Call) -> None:
        connection = self.connections[call.connection]
        connection.received += call.data
        for frame in take_frames(connection.received):
            request = read_request(frame, call.end)
            connection.requests[request.correlation_id] = request

    def send(self, call: Call) -> None:
        connection = self.connections[call.connection]
        if not connection.sent:
            connection.frame_began_at = call.start
        connection.sent += call.data
        for frame in take_frames(connection.sent):
            request = connection.requests.pop(int.from_bytes(frame[:4], "big"), None)
            if request is None:
                self.problem(call, "an answer to no request")
            else:
                self.check_answer(call, request, frame, connection.frame_began_at)
            connection.frame_began_at = call.start  # of the next one: its bytes came with this call

    def check_answer(self, call: Call, request: Request, frame: bytes, began_at: int) -> None:
        found = promises(request, read_answer(request, frame))
        if not found:
            return
        self.answers[request.name] += 1
        for promise in found:
            if not self.is_kept(promise, request, began_at):
                self.problem(call, f"the answer to {request.name} leaves before {shown(promise)} is on disk")
        for node in self.journal:
            if not node.has_durable_name:
                self.problem(call, f"{request.name} is answered before the name {node.path} is on disk")
        for made, target in self.renames:
            if made.thread == call.thread:
                self.problem(call, f"{request.name} is answered before the name {target.path} is on disk")
        top = self.disk.find(self.directory)
        if top is not None and self.marker_removed_at > top.synced_from:
            self.problem(call, f"{request.name} is answered, but the marker of the last clean stop may come back")

    def is_kept(self, promise: Promise, request: Request, began_at: int) -> bool:
        match promise:
            case Batch(tail):
                return self.durable.get(tail, began_at) < began_at
            case Replaced(name):
                node = self.disk.find(f"{self.directory}/{name}")
                return (
                    node is not None
                    and node.named_at > request.received_at
                    and node.has_durable_content
                    and node.has_durable_name
                )
        return any(
            fulfills(promise, write) and NEVER < write.synced_at < began_at
            for write in reversed(self.journal_writes)
            if write.call.start > request.received_at
        )


def is_aid(path: str) -> bool:
    """A start does without it."""
    return path.endswith(".snapshot")


def fulfills(promise: Promise, write: JournalWrite) -> bool:
    match promise:
        case Text(text):
            return text in write.call.data
        case Marker(producer_id):
            number = PRODUCER_ID.pack(producer_id)
            return any(tail[26:34] == number and tail[5] & 0x20 for _, _, _, tail in write.entries)
    raise AssertionError(promise)


def shown(promise: Promise) -> str:
    """Of bytes the first ones."""
    return f"{type(promise).__name__} {str(promise[0])[:60]}"


def take_frames(data: bytearray) -> Iterator[bytes]:
    """Removes the whole frames from the front of a stream."""
    while len(data) >= 4:
        size = int.from_bytes(data[:4], "big")
        if len(data) < 4 + size:
            return
        frame = bytes(data[4 : 4 + size])
        del data[: 4 + size]
        yield frame


def entries_of(data: bytes) -> Iterator[tuple[bytes, int, int, bytes]]:
    """(topic id, partition, base offset, tail) of each batch in a group."""
    position = 0
    while position + ENTRY.size <= len(data):
        magic, _, _, size, partition, topic_id, *_ = ENTRY.unpack_from(data, position)
        if magic not in (ENTRY_MAGIC, GATHERED_MAGIC):
            return
        position += LAYOUTS[magic].size
        if topic_id != MARK_ID:
            for base_offset, tail in tails(data[position : position + size]):
                yield topic_id, partition, base_offset, tail
        position += size


def offsets_in(content: bytes | bytearray) -> dict[Key, int]:
    """A checkpoint of offsets, as its text says."""
    found = {}
    for line in content.decode().splitlines()[2:]:
        topic_id, partition, offset, *_ = line.split(" ")
        found[base64.urlsafe_b64decode(topic_id + "=="), int(partition)] = int(offset)
    return found
