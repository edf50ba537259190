"""The small text files of a data directory, in Kafka's formats.

*-by-topic-id-checkpoint    version 1, number of lines, then "topic-id partition offset crc32c" per line; next to it, as
                            `.copy`, the same again: a damaged line is read from the other
leader-epoch-checkpoint     version 0, number of lines, then "epoch start-offset" per line
partition.metadata          version: 0, topic_id: the id in URL-safe base64, crc32c: of the two lines before, in hexadecimal
meta.properties             version=1, cluster.id, node.id, directory.id
"""

import base64
from typing import NamedTuple

from crc32c import crc32c

from headwater.effects.files import Files, read_file, replace_file, write_file
from headwater.effects.logs import get_logger
from headwater.storage.errors import FormatError

logger = get_logger(__name__)

COPY_SUFFIX = ".copy"
RECOVERY_POINTS = "recovery-point-by-topic-id-checkpoint"
CLEAN_OFFSETS = "cleaner-offset-by-topic-id-checkpoint"
LOG_STARTS = "log-start-by-topic-id-checkpoint"
META_KEYS = ("cluster.id", "directory.id")
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


class Offsets(NamedTuple):
    """A checkpoint of offsets as {(topic id, partition): offset}. If it is not whole, missing entries are unknown."""

    offsets: dict[tuple[bytes, int], int]
    is_whole: bool


def read_lines(files: Files, path: str) -> tuple[str, list[list[str]], bool]:
    """A checkpoint file as its version, its entries as words, and whether none is missing.

    Raises FileNotFoundError. Of a damaged file, what can be read; its version is then as it may be.
    """
    version, *lines = read_file(files, path).decode(errors="replace").removesuffix("\n").split("\n")
    entries = [line.split(" ") for line in lines[1:]]
    return version, entries, bool(lines) and lines[0] == str(len(entries))


def lines_content(entries: list[str], version: int = 0) -> bytes:
    """What `read_lines` reads back."""
    return "\n".join([str(version), str(len(entries)), *entries, ""]).encode()


def read_offsets(files: Files, path: str) -> Offsets:
    """What `write_offsets` wrote. Damage is logged; damaged entries are read from the copy. Raises OSError."""
    offsets, is_whole, reason = read_offset_file(files, path)
    if is_whole:
        return Offsets(offsets, True)
    copied, copy_is_whole, _ = read_offset_file(files, path + COPY_SUFFIX)
    if not offsets and not copied and not copy_is_whole and not files.exists(path):
        return Offsets({}, False)  # a new directory, or both are lost: its owner knows
    rest = "its copy has the rest" if copy_is_whole else "its copy does not have all of the rest"
    logger.error("%s is damaged: %s; %d entries are sound, %s", path, reason, len(offsets), rest)
    return Offsets({**copied, **offsets}, copy_is_whole)


def read_offset_file(files: Files, path: str) -> tuple[dict[tuple[bytes, int], int], bool, str]:
    """The sound entries of one file, whether they are all, and why not."""
    try:
        version, entries, is_whole = read_lines(files, path)
    except FileNotFoundError:
        return {}, False, "it is missing"
    offsets, bad = {}, 0
    for words in entries:
        try:
            topic_id, partition, offset, *checksum = words
            if checksum != ([] if version == "0" else [line_checksum(words[:3])]):  # earlier versions wrote none
                raise ValueError("wrong checksum")
            offsets[uuid_bytes(topic_id), int(partition)] = int(offset)
        except ValueError:
            bad += 1
    if version not in ("0", "1"):
        return offsets, False, f"its version reads {version[:20]!r}"
    return offsets, is_whole and not bad, f"{bad} of {len(entries)} lines" if bad else "lines are missing"


def line_checksum(words: list[str]) -> str:
    return f"{crc32c(' '.join(words).encode()):08x}"


def write_offsets(files: Files, path: str, offsets: dict[tuple[bytes, int], int]) -> None:
    """Replaces a checkpoint, durably, and its copy. Raises OSError."""
    replace_file(files, path, offsets_content(offsets), copy=path + COPY_SUFFIX)


def offsets_content(offsets: dict[tuple[bytes, int], int]) -> bytes:
    """What `read_offsets` reads back."""
    lines = []
    for (topic_id, partition), offset in offsets.items():
        words = [uuid_text(topic_id), str(partition), str(offset)]
        lines.append(" ".join([*words, line_checksum(words)]))
    return lines_content(lines, version=1)


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
    """As Kafka does, and a third line, which Kafka's reader ignores. Raises OSError."""
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
            f"{path} has version {properties.get('version')!r}: it was written by a newer Headwater, or is not a data "
            "directory; use the version that wrote it, or another directory"
        )
    missing = [key for key in META_KEYS if not properties.get(key)]
    if "headwater.format" in properties and missing:
        raise FormatError(
            f"{path} is damaged: it has no {' and no '.join(missing)}; restore it from a copy, or choose another directory"
        )
    return properties


def write_meta(files: Files, directory: str, properties: dict[str, str]) -> None:
    content = "\n".join(f"{key}={value}" for key, value in properties.items()) + "\n"
    replace_file(files, f"{directory}/meta.properties", content.encode())
