"""The records of `__consumer_offsets`, as Kafka writes them: their keys, and the versions in which Headwater writes them."""

from typing import Any, NamedTuple

from headwater.coordinators.state_records import prefix_version
from headwater.effects.buffers import Buffer
from headwater.protocol.compiled import decode, encode
from headwater.protocol.errors import ProtocolError
from headwater.protocol.messages.stored_group_metadata import GroupMetadataKey, GroupMetadataValue
from headwater.protocol.messages.stored_offset_commit import OffsetCommitKey, OffsetCommitValue
from headwater.replay.state_record import StateRecord

VALUE_VERSION = 3  # the highest version that every Kafka since 2.3 reads
EXPIRING_VERSION = 1  # of a commit: the only version with an expiry time
OFFSET_COMMITS = (0, OffsetCommitKey.RECORD_TYPE)  # the first is from before Kafka 0.9; its key is the same


class CommittedOffset(NamedTuple):
    """A group's position in a partition. Times are ms; `expire_timestamp` is -1 for the broker's retention."""

    offset: int
    leader_epoch: int = -1
    metadata: str = ""
    commit_timestamp: int = -1
    expire_timestamp: int = -1


def offset_key(group_id: str, topic: str, partition: int) -> bytes:
    return prefix_version(OffsetCommitKey.RECORD_TYPE, encode(OffsetCommitKey(group_id, topic, partition), 0))


def offset_record(group_id: str, topic: str, partition: int, committed: CommittedOffset | None) -> StateRecord:
    """A commit, or its removal."""
    key = offset_key(group_id, topic, partition)
    if committed is None:
        return StateRecord(key, None)
    value = OffsetCommitValue(
        offset=committed.offset,
        leader_epoch=committed.leader_epoch,
        metadata=committed.metadata,
        commit_timestamp=committed.commit_timestamp,
        expire_timestamp=committed.expire_timestamp,
    )
    version = VALUE_VERSION if committed.expire_timestamp < 0 else EXPIRING_VERSION  # as Kafka chooses
    return StateRecord(key, prefix_version(version, encode(value, version)))


def group_record(group_id: str, value: GroupMetadataValue | None) -> StateRecord:
    """A group's generation with its members, or its removal."""
    key = prefix_version(GroupMetadataKey.RECORD_TYPE, encode(GroupMetadataKey(group_id), 0))
    return StateRecord(key, None if value is None else prefix_version(VALUE_VERSION, encode(value, VALUE_VERSION)))


def read_record_type(key: Buffer) -> int:
    """The record's kind. Raises ProtocolError for a key that is too short to have one."""
    if len(key) < 2:
        raise ProtocolError("a record key is too short")
    return int.from_bytes(key[:2], "big")


def read_key(key: Buffer) -> OffsetCommitKey | GroupMetadataKey | None:
    """The decoded key; None for a record that is not about a classic group or an offset. Raises ProtocolError."""
    record_type = read_record_type(key)
    if record_type in OFFSET_COMMITS:
        return decode(OffsetCommitKey, 0, key, 2)[0]  # type: ignore[no-any-return]
    if record_type == GroupMetadataKey.RECORD_TYPE:
        return decode(GroupMetadataKey, 0, key, 2)[0]  # type: ignore[no-any-return]
    return None


def read_offset(value: Buffer) -> CommittedOffset:
    message: Any = decode(OffsetCommitValue, int.from_bytes(value[:2], "big"), value, 2)[0]
    return CommittedOffset(
        message.offset, message.leader_epoch, message.metadata, message.commit_timestamp, message.expire_timestamp
    )


def read_group(value: Buffer) -> GroupMetadataValue:
    return decode(GroupMetadataValue, int.from_bytes(value[:2], "big"), value, 2)[0]  # type: ignore[no-any-return]
