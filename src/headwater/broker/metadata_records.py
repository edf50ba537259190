"""The records of `__cluster_metadata-0`: Kafka's own, in Kafka's own frame.

    version 1 | record type | record version | message         the first three are varints

So `kafka-dump-log --cluster-metadata-decoder` reads the log.
"""

from collections.abc import Iterator
from enum import IntEnum
from functools import cache
from importlib import import_module
from typing import Any

from headwater.effects.buffers import Buffer
from headwater.protocol.compiled import decode, encode
from headwater.protocol.varint import read_uvarint, uvarint
from headwater.security.acls import Acl, Operation, PatternType, Permission, ResourceType
from headwater.security.delegation_tokens import DelegationTokens, Token
from headwater.security.quotas import Entity, Quotas

FRAME_VERSION = 1


class MetadataRecordType(IntEnum):
    """The kinds of records that this broker reads and writes."""

    REGISTER_BROKER = 0
    TOPIC = 2
    PARTITION = 3
    CONFIG = 4
    PARTITION_CHANGE = 5
    REMOVE_TOPIC = 9
    DELEGATION_TOKEN = 10
    USER_SCRAM_CREDENTIAL = 11
    FEATURE_LEVEL = 12
    CLIENT_QUOTA = 14
    PRODUCER_IDS = 15
    ACCESS_CONTROL_ENTRY = 18
    REMOVE_ACCESS_CONTROL_ENTRY = 19
    REMOVE_USER_SCRAM_CREDENTIAL = 22
    REMOVE_DELEGATION_TOKEN = 26


TOPIC_RECORDS = frozenset(
    {
        MetadataRecordType.TOPIC,
        MetadataRecordType.PARTITION,
        MetadataRecordType.PARTITION_CHANGE,
        MetadataRecordType.REMOVE_TOPIC,
    }
)
RECORD_MODULES: dict[int, tuple[str, str, int]] = {
    MetadataRecordType.REGISTER_BROKER: ("register_broker_record", "RegisterBrokerRecord", 3),
    MetadataRecordType.TOPIC: ("topic_record", "TopicRecord", 0),
    MetadataRecordType.PARTITION: ("partition_record", "PartitionRecord", 1),
    MetadataRecordType.PARTITION_CHANGE: ("partition_change_record", "PartitionChangeRecord", 1),
    MetadataRecordType.CONFIG: ("config_record", "ConfigRecord", 0),
    MetadataRecordType.REMOVE_TOPIC: ("remove_topic_record", "RemoveTopicRecord", 0),
    MetadataRecordType.USER_SCRAM_CREDENTIAL: ("user_scram_credential_record", "UserScramCredentialRecord", 0),
    MetadataRecordType.REMOVE_USER_SCRAM_CREDENTIAL: (
        "remove_user_scram_credential_record",
        "RemoveUserScramCredentialRecord",
        0,
    ),
    MetadataRecordType.ACCESS_CONTROL_ENTRY: ("access_control_entry_record", "AccessControlEntryRecord", 0),
    MetadataRecordType.REMOVE_ACCESS_CONTROL_ENTRY: (
        "remove_access_control_entry_record",
        "RemoveAccessControlEntryRecord",
        0,
    ),
    MetadataRecordType.FEATURE_LEVEL: ("feature_level_record", "FeatureLevelRecord", 0),
    MetadataRecordType.DELEGATION_TOKEN: ("delegation_token_record", "DelegationTokenRecord", 0),
    MetadataRecordType.REMOVE_DELEGATION_TOKEN: ("remove_delegation_token_record", "RemoveDelegationTokenRecord", 0),
    MetadataRecordType.CLIENT_QUOTA: ("client_quota_record", "ClientQuotaRecord", 0),
    MetadataRecordType.PRODUCER_IDS: ("producer_ids_record", "ProducerIdsRecord", 0),
}


@cache
def record_class(record_type: int) -> tuple[Any, int]:
    """The class of a metadata record, and the version in which it is written."""
    module, name, version = RECORD_MODULES[record_type]
    return getattr(import_module(f"headwater.protocol.messages.{module}"), name), version


def new_record(record_type: int, **values: Any) -> Any:
    return record_class(record_type)[0](**values)


def encode_record(record: Any) -> bytes:
    """Encodes a record as the value of a log record."""
    _, version = record_class(record.RECORD_TYPE)
    return uvarint(FRAME_VERSION) + uvarint(record.RECORD_TYPE) + uvarint(version) + encode(record, version)


def decode_record(value: Buffer) -> Any:
    """Decodes a record. Raises ProtocolError or KeyError if this version does not know it."""
    _, position = read_uvarint(value, 0)
    record_type, position = read_uvarint(value, position)
    version, position = read_uvarint(value, position)
    return decode(record_class(record_type)[0], version, value, position)[0]


def acl_of(record: Any) -> Acl:
    """The ACL entry that a record describes."""
    return Acl(
        ResourceType(record.resource_type),
        record.resource_name,
        PatternType(record.pattern_type),
        record.principal,
        record.host,
        Operation(record.operation),
        Permission(record.permission_type),
    )


def token_record(token: Token) -> Any:
    """Adds a delegation token, or changes its expiry."""
    return new_record(
        MetadataRecordType.DELEGATION_TOKEN,
        owner=token.owner,
        requester=token.requester,
        renewers=list(token.renewers),
        issue_timestamp=token.issued_ms,
        max_timestamp=token.max_ms,
        expiration_timestamp=token.expires_ms,
        token_id=token.token_id,
    )


def token_removal(token: Token) -> Any:
    return new_record(MetadataRecordType.REMOVE_DELEGATION_TOKEN, token_id=token.token_id)


def replay_token(tokens: DelegationTokens, record: Any) -> None:
    if record.RECORD_TYPE == MetadataRecordType.REMOVE_DELEGATION_TOKEN:
        tokens.remove(record.token_id)
        return
    token = Token(
        record.token_id,
        record.owner,
        record.requester,
        tuple(record.renewers),
        record.issue_timestamp,
        record.max_timestamp,
        record.expiration_timestamp,
    )
    tokens.put(token)


def quota_record(entity: Entity, key: str, value: float | None) -> Any:
    """Sets a quota; None removes it."""
    record = new_record(MetadataRecordType.CLIENT_QUOTA, key=key, value=value or 0.0, remove=value is None)
    record.entity = [record.EntityData(entity_type, name) for entity_type, name in entity]
    return record


def quota_records(quotas: Quotas) -> Iterator[Any]:
    """Records that set all of these."""
    for entity, values in quotas.entities.items():
        for key, value in values.items():
            yield quota_record(entity, key, value)


def replay_quota(quotas: Quotas, record: Any) -> None:
    entity = tuple(sorted((part.entity_type, part.entity_name) for part in record.entity))
    if record.remove:
        quotas.remove(entity, record.key)
    else:
        quotas.set(entity, record.key, record.value)
