"""Every API, for each kind of client: with just the rights that it needs, without one of them, and as a super user."""

import pytest

from headwater.broker.dispatch import SERVED
from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from headwater.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from headwater.protocol.messages.create_acls import CreateAclsRequest
from headwater.protocol.messages.list_groups import ListGroupsRequest
from headwater.protocol.messages.list_transactions import ListTransactionsRequest
from headwater.protocol.messages.metadata import MetadataRequest
from headwater.security.acls import Operation, PatternType, Permission, ResourceType
from tests.broker.harness import Harness
from tests.security.matrix import Need, Row, refusals, rows

ADMIN, ALICE = "User:admin", "User:alice"
# What is answered to everybody, with what they may see in it.
OPEN_TO_ALL = {
    ApiKey.API_VERSIONS,
    ApiKey.SASL_HANDSHAKE,
    ApiKey.SASL_AUTHENTICATE,
    ApiKey.DESCRIBE_CLUSTER,
    ApiKey.LIST_GROUPS,
    ApiKey.LIST_TRANSACTIONS,
    # What else a token request may see and do is decided with the tokens (handlers/test_delegation_tokens.py).
    ApiKey.CREATE_DELEGATION_TOKEN,
    ApiKey.RENEW_DELEGATION_TOKEN,
    ApiKey.EXPIRE_DELEGATION_TOKEN,
    ApiKey.DESCRIBE_DELEGATION_TOKEN,
}


def secured_broker() -> Harness:
    broker = Harness(pairs={"super.users": ADMIN})
    broker.connection.principal = ADMIN
    broker.create_topic("t")
    return broker


def grant(broker: Harness, principal: str, *needs: Need, permission: Permission = Permission.ALLOW) -> None:
    broker.connection.principal = ADMIN
    creations = [
        CreateAclsRequest.AclCreation(kind, name, PatternType.LITERAL, principal, "*", operation, permission)
        for operation, kind, name in needs
    ]
    answer = broker.call(ApiKey.CREATE_ACLS, 3, CreateAclsRequest(creations))
    assert {result.error_code for result in answer.results} <= {0}


def verdict(broker: Harness, row: Row, principal: str) -> set[int]:
    broker.connection.principal = principal
    return refusals(broker.call(row.key, row.version, row.body))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_only_a_client_with_the_rights_that_an_api_needs_may_use_it(row: Row) -> None:
    broker = secured_broker()
    assert verdict(broker, row, "User:stranger")
    grant(broker, ALICE, *row.needs[:-1])
    assert verdict(broker, row, ALICE) == {row.refusal}
    grant(broker, ALICE, row.needs[-1])
    assert verdict(broker, row, ALICE) == set()
    assert verdict(broker, row, ADMIN) == set()
    grant(broker, ALICE, row.needs[-1], permission=Permission.DENY)
    assert verdict(broker, row, ALICE) == {row.refusal}


def test_every_served_api_is_in_the_matrix_or_open_to_all() -> None:
    assert {row.key for row in rows()} | OPEN_TO_ALL == set(SERVED)


def test_a_group_is_described_only_with_its_topics() -> None:
    """CVE-2026-41115: without a right to the topics, members and assignments are not shown."""
    broker = secured_broker()
    joins = ConsumerGroupHeartbeatRequest("g", "m", 0, rebalance_timeout_ms=1000, subscribed_topic_names=["t"])
    joins.topic_partitions = []
    assert broker.call(ApiKey.CONSUMER_GROUP_HEARTBEAT, 1, joins).error_code == 0
    grant(broker, ALICE, (Operation.DESCRIBE, ResourceType.GROUP, "g"))
    broker.connection.principal = ALICE
    (group,) = broker.call(ApiKey.CONSUMER_GROUP_DESCRIBE, 1, ConsumerGroupDescribeRequest(["g"])).groups
    assert (group.error_code, group.members) == (ErrorCode.TOPIC_AUTHORIZATION_FAILED, [])
    grant(broker, ALICE, (Operation.DESCRIBE, ResourceType.TOPIC, "t"))
    broker.connection.principal = ALICE
    (group,) = broker.call(ApiKey.CONSUMER_GROUP_DESCRIBE, 1, ConsumerGroupDescribeRequest(["g"])).groups
    assert (group.error_code, len(group.members)) == (0, 1)


def test_lists_show_what_one_may_describe() -> None:
    broker = secured_broker()
    broker.create_topic("hidden")
    grant(broker, ALICE, (Operation.READ, ResourceType.TOPIC, "t"))
    broker.connection.principal = ALICE
    assert [topic.name for topic in broker.call(ApiKey.METADATA, 9, MetadataRequest(None)).topics] == ["t"]
    assert broker.call(ApiKey.LIST_GROUPS, 4, ListGroupsRequest()).groups == []
    assert broker.call(ApiKey.LIST_TRANSACTIONS, 1, ListTransactionsRequest()).transaction_states == []


def test_operations_that_are_allowed_are_listed() -> None:
    broker = secured_broker()
    grant(broker, ALICE, (Operation.WRITE, ResourceType.TOPIC, "t"))
    broker.connection.principal = ALICE
    wanted = MetadataRequest(
        [MetadataRequest.MetadataRequestTopic(name="t")], False, True, include_topic_authorized_operations=True
    )
    answer = broker.call(ApiKey.METADATA, 8, wanted)
    assert answer.topics[0].topic_authorized_operations == 1 << Operation.WRITE | 1 << Operation.DESCRIBE
    assert answer.cluster_authorized_operations == 0


def test_without_an_authorizer_all_may_do_everything() -> None:
    broker = Harness()
    broker.create_topic("t")
    for row in rows():
        assert verdict(broker, row, "User:stranger") == set(), row.name


def test_entries_outlive_restarts() -> None:
    broker = secured_broker()
    row = rows()[0]
    grant(broker, ALICE, *row.needs)
    broker.kill()
    assert verdict(broker, row, ALICE) == set()
    assert verdict(broker, row, "User:stranger") == {row.refusal}
