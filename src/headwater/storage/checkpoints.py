"""The small text files of a data directory, in Kafka's formats.

*-offset-checkpoint         version 0, number of lines, then "topic partition offset" a line
leader-epoch-checkpoint     version 0, number of lines, then "epoch start-offset" a line
partition.metadata          version: 0, topic_id: the id in URL-safe base64, crc32c: of the two lines before, in hexadecimal
meta.properties             version=1, cluster.id, node.id, directory.id
"""

import base64

from crc32c import crc32c

from headwater.effects.files import Files, read_file, replace_file, write_file
from headwater.storage.errors import FormatError

RECOVERY_POINTS = "recovery-point-by-topic-id-checkpoint"
CLEAN_OFFSETS = "cleaner-offset-by-topic-id-checkpoint"
LOG_STARTS = "log-start-by-topic-id-checkpoint"
CLEAN_SHUTDOWN = ".kafka_cleanshutdown"
PARTITION_METADATA = "partition.metadata"
CHECKSUM_KEY = "crc32c"


def uuid_text(value: bytes) -> str:
    """16 bytes as Kafka writes a topic or cluster id."""
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def uuid_bytes(text: str) -> bytes:
    """Raises ValueError for text that is not an id."""
    value = base64.urlsafe_b64decode(text + "==")
    if len(value) != 16:
        raise ValueError(f"{text!r} is not a 16-byte id")
    return value


def read_lines(files: Files, path: str) -> list[list[str]]:
    """The entries of a checkpoint file as words; empty when it is missing or damaged: it only saves work."""
    try:
        lines = read_file(files, path).decode().splitlines()
        count = int(lines[1])
        entries = [line.split(" ") for line in lines[2:]]
    except (FileNotFoundError, ValueError, IndexError):
        return []
    return entries if lines[0] == "0" and len(entries) == count else []


def lines_content(entries: list[str]) -> bytes:
    """What `read_lines` reads back."""
    return "\n".join(["0", str(len(entries)), *entries, ""]).encode()


def read_offsets(files: Files, path: str) -> dict[tuple[bytes, int], int]:
    """A checkpoint of offsets as {(topic id, partition): offset}."""
    offsets = {}
    for words in read_lines(files, path):
        try:
            topic_id, partition, offset = words
            offsets[uuid_bytes(topic_id), int(partition)] = int(offset)
        except ValueError:
            return {}
    return offsets


def write_offsets(files: Files, path: str, offsets: dict[tuple[bytes, int], int]) -> None:
    lines = [f"{uuid_text(topic_id)} {partition} {offset}" for (topic_id, partition), offset in offsets.items()]
    replace_file(files, path, lines_content(lines))


def read_topic_id(files: Files, directory: str) -> tuple[bytes | None, bool]:
    """The topic id in a log directory's `partition.metadata`, and whether a checksum vouches for it.

    None when there is no such file, or it is damaged. Files that an earlier version or Kafka wrote have no checksum.
    """
    try:
        text = read_file(files, f"{directory}/{PARTITION_METADATA}").decode()
        content, separator, checksum = text.partition(f"\n{CHECKSUM_KEY}: ")
        if separator and int(checksum, 16) != crc32c(content.encode()):
            return None, False
        fields = dict(line.split(": ", 1) for line in content.splitlines())
        return uuid_bytes(fields["topic_id"]), bool(separator)
    except (FileNotFoundError, ValueError, KeyError):
        return None, False


def write_topic_id(files: Files, directory: str, topic_id: bytes) -> None:
    """As Kafka does, and a third line that its reader does not look at. Raises OSError."""
    content = f"version: 0\ntopic_id: {uuid_text(topic_id)}"
    summed = f"{content}\n{CHECKSUM_KEY}: {crc32c(content.encode()):08x}"
    write_file(files, f"{directory}/{PARTITION_METADATA}", summed.encode())


def read_properties(content: str) -> dict[str, str]:
    """Java properties, as far as they are `key=value` lines."""
    lines = (line.strip() for line in content.splitlines())
    pairs = (line.split("=", 1) for line in lines if line and line[0] not in "#!")
    return {pair[0].strip(): pair[1].strip() if len(pair) > 1 else "" for pair in pairs}


def read_meta(files: Files, directory: str) -> dict[str, str] | None:
    """`meta.properties`; None in a new directory. Raises FormatError for a version that this code does not know."""
    path = f"{directory}/meta.properties"
    try:
        properties = read_properties(read_file(files, path).decode())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise FormatError(f"{path} cannot be read: {error}") from error
    if properties.get("version") != "1":
        raise FormatError(
            f"{path} has version {properties.get('version')!r}: it was written by a newer Headwater, or is no data "
            "directory; use the version that wrote it, or another directory"
        )
    return properties


def write_meta(files: Files, directory: str, properties: dict[str, str]) -> None:
    content = "\n".join(f"{key}={value}" for key, value in properties.items()) + "\n"
    replace_file(files, f"{directory}/meta.properties", content.encode())
