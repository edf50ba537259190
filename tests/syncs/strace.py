"""From the output of strace to calls.

    strace -f -yy -v -xx -qq -s SIZE -o FILE

`-xx` writes every string in hexadecimal, so nothing in a string can be taken for the syntax around it; `-yy` writes what
a descriptor is. A call during which another thread did something has two lines, "<unfinished ...>" and "resumed". strace
handles one stop at a time and a process runs on after it, so the lines are in an order that respects cause and effect: a
sync whose end a process has learned of ends above everything that the process did afterwards.
"""

import re
from collections.abc import Iterable, Iterator

from tests.syncs.calls import Call, Kind

DATA_BYTES_MAX = 4 << 20  # strace cuts longer strings
TRACED = (
    "accept,accept4,openat,mkdir,rename,renameat,renameat2,unlink,unlinkat,rmdir,"
    "write,writev,pwrite64,pwritev,pwritev2,ftruncate,fsync,fdatasync,"
    "read,readv,recvfrom,recvmsg,sendto,sendmsg"
)
OPTIONS = ("-f", "-yy", "-v", "-xx", "-qq", "-s", str(DATA_BYTES_MAX), "-e", f"trace={TRACED}", "-e", "signal=none")

LINE = re.compile(r"(?P<thread>\d+) +(?P<text>.*)")
UNFINISHED = " <unfinished ...>"
RESUMED = re.compile(r"<\.\.\. \w+ resumed>(?P<rest>.*)")
WHOLE = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+|\?)(<(?P<opened>[^>]*)>)?")
DESCRIPTOR = re.compile(r"(?P<number>\d+)<(?P<what>[^>]*)>")
STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
LAST_NUMBER = re.compile(r", (\d+)$")
SOCKETS = ("TCP:", "TCPv6:", "socket:")
WRITES = {"write", "writev", "pwrite64", "pwritev", "pwritev2", "sendto", "sendmsg"}
READS = {"read", "readv", "recvfrom", "recvmsg"}
NAMES = {
    "mkdir": Kind.MAKE_DIRECTORY,
    "unlink": Kind.REMOVE,
    "unlinkat": Kind.REMOVE,
    "rmdir": Kind.REMOVE,
    "rename": Kind.RENAME,
    "renameat": Kind.RENAME,
    "renameat2": Kind.RENAME,
}


class TraceError(Exception):
    """A line that cannot be understood: the trace proves nothing."""


def parse(lines: Iterable[str], directory: str, first: int = 0) -> Iterator[Call]:
    """The calls that concern clients, or files in `directory` or its parent; lines are numbered from `first` on.

    Raises TraceError.
    """
    parser = Parser(directory)
    unfinished: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines, first):
        match = LINE.match(line)
        if match is None:
            raise TraceError(f"line {number}: {line[:200]!r}")
        thread, text = match["thread"], match["text"]
        start = number
        if text.endswith(UNFINISHED):
            unfinished[thread] = number, text.removesuffix(UNFINISHED)
            continue
        if resumed := RESUMED.match(text):
            start, begun = unfinished.pop(thread)
            text = begun + resumed["rest"]
        if text.startswith(("+++", "---")):
            continue
        whole = WHOLE.match(text)
        if whole is None:
            raise TraceError(f"line {number}: {text[:200]!r}")
        if whole["result"] == "?":
            continue  # the process ended in it
        result = int(whole["result"])
        if result >= 0:
            yield from parser.call(whole["name"], whole["arguments"], result, start, number, int(thread))


class Parser:
    """Knows which descriptors are clients' connections."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.parent = directory.rpartition("/")[0]
        self.connections: dict[int, int] = {}  # by descriptor

    def call(self, name: str, arguments: str, result: int, start: int, end: int, thread: int) -> Iterator[Call]:
        if name in ("accept", "accept4"):
            self.connections[result] = end
        elif name in NAMES:
            yield from self.name_call(NAMES[name], arguments, start, end, thread)
        elif name == "openat":
            yield from self.open_call(arguments, start, end, thread)
        else:
            yield from self.descriptor_call(name, arguments, result, start, end, thread)

    def name_call(self, kind: Kind, arguments: str, start: int, end: int, thread: int) -> Iterator[Call]:
        path, *rest = (unhex(text).decode(errors="replace") for text, _ in STRING.findall(arguments))
        if self.concerns(path):
            yield Call(kind, start, end, thread, path, rest[0] if rest else "")

    def open_call(self, arguments: str, start: int, end: int, thread: int) -> Iterator[Call]:
        ((text, _),) = STRING.findall(arguments)
        path = unhex(text).decode(errors="replace")
        if "O_CREAT" in arguments and self.concerns(path):
            yield Call(Kind.CREATE, start, end, thread, path)
            if "O_TRUNC" in arguments:
                yield Call(Kind.TRUNCATE, start, end, thread, path)

    def descriptor_call(
        self, name: str, arguments: str, result: int, start: int, end: int, thread: int
    ) -> Iterator[Call]:
        found = DESCRIPTOR.match(arguments)
        if found is None:
            return  # not open
        what = found["what"]
        if what.startswith(SOCKETS):
            if name in WRITES | READS and result > 0 and int(found["number"]) in self.connections:
                kind = Kind.SEND if name in WRITES else Kind.RECEIVE
                connection = self.connections[int(found["number"])]
                yield Call(kind, start, end, thread, data=data_of(arguments, result), connection=connection)
            return
        if not what.startswith("\\x2f"):
            return
        path = unhex(what).decode(errors="replace")
        if not self.concerns(path):
            return
        if name in ("fsync", "fdatasync"):
            yield Call(Kind.SYNC, start, end, thread, path)
        elif name == "ftruncate":
            yield Call(Kind.TRUNCATE, start, end, thread, path, position=last_number(arguments))
        elif name in ("pwrite64", "pwritev", "pwritev2"):
            position = last_number(arguments.rpartition(",")[0] if name == "pwritev2" else arguments)  # then flags
            yield Call(Kind.WRITE, start, end, thread, path, position=position, data=data_of(arguments, result))
        elif name in WRITES:
            raise TraceError(f"line {end}: {name} to {path}: the position is not known")

    def concerns(self, path: str) -> bool:
        return path in (self.directory, self.parent) or path.startswith(self.directory + "/")


def last_number(arguments: str) -> int:
    match = LAST_NUMBER.search(arguments)
    if match is None:
        raise TraceError(f"no position in {arguments[-100:]!r}")
    return int(match[1])


def data_of(arguments: str, size: int) -> bytes:
    """What was written or read: the first `size` bytes of all buffers."""
    strings = STRING.findall(arguments)
    if any(cut for _, cut in strings):
        raise TraceError(f"strace has cut a string of more than {DATA_BYTES_MAX} bytes")
    return b"".join(unhex(text) for text, _ in strings)[:size]


def unhex(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
