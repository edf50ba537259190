"""The small text files of a data directory, in Kafka's formats.

*-by-topic-id-checkpoint    version 1, number of lines, then "topic-id partition offset crc32c" per line. A file next to it,
                            which ends in `.copy`, has the same content: damaged lines are read from the other file
leader-epoch-checkpoint     version 0, number of lines, then "epoch start-offset" per line
partition.metadata          version: 0, topic_id: the id in URL-safe base64, crc32c: of the two lines before, in hexadecimal
*.snapshot                  the states of a log's producers (`producers.py`); only the newest files are kept
meta.properties             version=1, cluster.id, node.id, directory.id, headwater.crc32c: of the other lines; and its `.copy`
"""

import base64
import contextlib
from typing import NamedTuple

from crc32c import crc32c

from headwater.effects.files import Files, read_file, replace_file, write_file
from headwater.effects.logs import REBUILT, get_logger
from headwater.storage.errors import FormatError

logger = get_logger(__name__)

COPY_SUFFIX = ".copy"
SNAPSHOTS_KEPT = 2
RECOVERY_POINTS = "recovery-point-by-topic-id-checkpoint"
CLEAN_OFFSETS = "cleaner-offset-by-topic-id-checkpoint"
LOG_STARTS = "log-start-by-topic-id-checkpoint"
META_KEYS = ("cluster.id", "directory.id")
META_CHECKSUM, MISSING = "headwater.crc32c", "missing"
CLEAN_SHUTDOWN = ".kafka_cleanshutdown"
PARTITION_METADATA = "partition.metadata"
CHECKSUM_KEY = "crc32c"


def uuid_text(value: bytes) -> str:
    """16 bytes as Kafka writes a topic or cluster id."""
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def uuid_bytes(text: str) -> bytes:
    """Raises ValueError if the text is not an id."""
    value = base64.urlsafe_b64decode(text + "==")
    if len(value) != 16:
        raise ValueError(f"{text!r} is not a 16-byte id")
    return value


class Offsets(NamedTuple):
    """A checkpoint of offsets as {(topic id, partition): offset}. If it is not whole, entries that are missing are unknown."""

    offsets: dict[tuple[bytes, int], int]
    is_whole: bool


def read_lines(files: Files, path: str) -> tuple[str, list[list[str]], bool]:
    """Reads a checkpoint file: its version, its entries as words, and whether none is missing.

    If the file is damaged, returns what can be read, and whatever its version line says. Raises FileNotFoundError.
    """
    version, *lines = read_file(files, path).decode(errors="replace").removesuffix("\n").split("\n")
    entries = [line.split(" ") for line in lines[1:]]
    return version, entries, bool(lines) and lines[0] == str(len(entries))


def lines_content(entries: list[str], version: int = 0) -> bytes:
    """The content that `read_lines` reads."""
    return "\n".join([str(version), str(len(entries)), *entries, ""]).encode()


def read_offsets(files: Files, path: str) -> Offsets:
    """Reads what `write_offsets` wrote. Damage is logged; damaged entries are read from the copy. Raises OSError."""
    offsets, is_whole, reason = read_offset_file(files, path)
    if is_whole:
        return Offsets(offsets, True)
    copied, copy_is_whole, _ = read_offset_file(files, path + COPY_SUFFIX)
    if not offsets and not copied and not copy_is_whole and not files.exists(path):
        return Offsets({}, False)  # a new directory, or both are lost: the owner knows which
    rest = "the copy has the others" if copy_is_whole else "the copy does not have all others"
    extra = REBUILT if copy_is_whole else None
    logger.error("%s is damaged: %s; %d entries are sound, %s", path, reason, len(offsets), rest, extra=extra)
    return Offsets({**copied, **offsets}, copy_is_whole)


def read_offset_file(files: Files, path: str) -> tuple[dict[tuple[bytes, int], int], bool, str]:
    """The sound entries of one file, whether they are all, and the reason if not."""
    try:
        version, entries, is_whole = read_lines(files, path)
    except FileNotFoundError:
        return {}, False, "it is missing"
    offsets, bad = {}, 0
    for words in entries:
        try:
            topic_id, partition, offset, *checksum = words
            if checksum != (
                [] if version == "0" else [line_checksum(words[:3])]
            ):  # earlier versions wrote no checksums
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
    """Replaces a checkpoint and its copy, durably. Raises OSError."""
    replace_file(files, path, offsets_content(offsets), copy=path + COPY_SUFFIX)


def offsets_content(offsets: dict[tuple[bytes, int], int]) -> bytes:
    """The content that `read_offsets` reads."""
    lines = []
    for (topic_id, partition), offset in offsets.items():
        words = [uuid_text(topic_id), str(partition), str(offset)]
        lines.append(" ".join([*words, line_checksum(words)]))
    return lines_content(lines, version=1)


def read_topic_id(files: Files, directory: str) -> tuple[bytes | None, bool]:
    """The topic id in a log directory's `partition.metadata`, and whether a checksum vouches for it.

    None if there is no such file, or it is damaged. Files that an earlier version or Kafka wrote have no checksum.
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
    """Writes the file as Kafka does, with a third line, which Kafka's reader ignores. Raises OSError."""
    content = f"version: 0\ntopic_id: {uuid_text(topic_id)}"
    summed = f"{content}\n{CHECKSUM_KEY}: {crc32c(content.encode()):08x}"
    write_file(files, f"{directory}/{PARTITION_METADATA}", summed.encode())


def read_properties(content: str) -> dict[str, str]:
    """Reads Java properties, as far as they are `key=value` lines."""
    lines = (line.strip() for line in content.splitlines())
    pairs = (line.split("=", 1) for line in lines if line and line[0] not in "#!")
    return {pair[0].strip(): pair[1].strip() if len(pair) > 1 else "" for pair in pairs}


def meta_content(properties: dict[str, str]) -> bytes:
    lines = [f"{key}={value}" for key, value in properties.items() if key != META_CHECKSUM]
    content = "\n".join(lines)
    return f"{content}\n{META_CHECKSUM}={crc32c(content.encode()):08x}\n".encode()


def read_meta(files: Files, directory: str) -> dict[str, str] | None:
    """Reads `meta.properties`, or its copy if it is damaged; None in a new directory.

    Raises FormatError if this code does not know its version, or if both are damaged.
    """
    path = f"{directory}/meta.properties"
    properties, reason = read_meta_file(files, path)
    is_other = not reason and META_CHECKSUM not in properties and properties.get("version", "1") != "1"
    if reason or (META_CHECKSUM not in properties and not is_other):
        copied, copy_reason = read_meta_file(files, path + COPY_SUFFIX)
        if not copy_reason and META_CHECKSUM in copied:
            logger.warning(
                "%s is %s: restoring it from its copy. To edit the file yourself, remove the copy and the line %s",
                path,
                reason or "without its checksum",
                META_CHECKSUM,
                extra=REBUILT,
            )
            properties, reason = copied, ""
    if reason == MISSING:
        return None
    if reason:
        raise FormatError(
            f"{path} is {reason}: restore it from a copy, or choose another directory. If you edited it yourself, "
            f"remove its line {META_CHECKSUM}"
        )
    properties.pop(META_CHECKSUM, None)
    if properties.get("version") != "1":
        raise FormatError(
            f"{path} has version {properties.get('version')!r}: it was written by a newer Headwater, or this is not a data "
            "directory; use the version that wrote it, or another directory"
        )
    missing = [key for key in META_KEYS if not properties.get(key)]
    if "headwater.format" in properties and missing:
        raise FormatError(
            f"{path} is damaged: it has no {' and no '.join(missing)}. Restore it from a copy, or choose another directory"
        )
    return properties


def read_meta_file(files: Files, path: str) -> tuple[dict[str, str], str]:
    """The properties in one of the files, and what is wrong with it. An earlier version wrote no checksum."""
    try:
        content = read_file(files, path)
        properties = read_properties(content.decode())
    except FileNotFoundError:
        return {}, MISSING
    except ValueError as error:
        return {}, f"damaged ({error})"
    if META_CHECKSUM in properties and content != meta_content(properties):
        return {}, "damaged (its checksum does not match)"
    return properties, ""


def keep_meta(files: Files, directory: str, properties: dict[str, str]) -> None:
    """Writes `meta.properties` and its copy, unless both are as `write_meta` leaves them. Raises OSError."""
    path = f"{directory}/meta.properties"
    for name in (path, path + COPY_SUFFIX):
        if not files.exists(name) or read_file(files, name) != meta_content(properties):
            write_meta(files, directory, properties)
            return


def write_meta(files: Files, directory: str, properties: dict[str, str]) -> None:
    path = f"{directory}/meta.properties"
    replace_file(files, path, meta_content(properties), copy=path + COPY_SUFFIX)


def remove_old_snapshots(files: Files, directory: str) -> None:
    """Removes all but the newest producer snapshots of a log."""
    snapshots = [name for name in files.list_directory(directory) if name.endswith(".snapshot")]
    for name in snapshots[:-SNAPSHOTS_KEPT]:
        with contextlib.suppress(FileNotFoundError):  # a roll and a checkpoint may run at the same time
            files.remove(f"{directory}/{name}")
