"""Heartbeats that say the same as the ones before: the same answers, without being decoded, for as long as they are right."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from headwater.broker.dispatch import dispatch
from headwater.protocol.apis import APIS, ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.frames import request_frame
from headwater.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from headwater.protocol.messages.heartbeat import HeartbeatRequest
from headwater.security.acls import Operation, Permission, ResourceType
from tests.broker.harness import Harness, Pending
from tests.broker.test_authorization import ADMIN, ALICE, grant
from tests.coordinators.test_consumer_groups import GROUP, Member, new_broker, settle
from tests.coordinators.test_membership import join, stable_group

Begin = Callable[[Harness], "Beating"]


class Beating:
    """A member's client on a connection of its own: the same heartbeat again and again, with another correlation id."""

    def __init__(self, broker: Harness, key: ApiKey, version: int, message: Any) -> None:
        self.broker, self.key, self.version, self.message = broker, key, version, message
        self.correlation_id = 0

    def answer(self) -> Any:
        self.correlation_id += 1
        frame = bytearray(request_frame(APIS[self.key], self.version, self.correlation_id, "client", self.message)[4:])
        answer = Pending(self.broker, self.key, self.version, dispatch(self.broker.core, self.broker.connection, frame))
        self.broker.sync()
        assert b"".join(answer.buffers)[4:8] == self.correlation_id.to_bytes(4)
        return answer.message

    def beat(self) -> int:
        """Returns the error code."""
        return int(self.answer().error_code)

    @property
    def is_repeated(self) -> bool:
        repeat = self.broker.connection.repeat
        return repeat is not None and repeat.api[:2] == int(self.key).to_bytes(2)


def classic(broker: Harness) -> Beating:
    member_id = stable_group(broker, 1)[0]
    return Beating(broker, ApiKey.HEARTBEAT, 4, HeartbeatRequest("g", 1, member_id))


def new_member(broker: Harness) -> Beating:
    member = Member(broker, "m")
    member.join()
    settle(member)
    request = ConsumerGroupHeartbeatRequest(GROUP, "m", member.epoch)
    return Beating(broker, ApiKey.CONSUMER_GROUP_HEARTBEAT, 1, request)


both = pytest.mark.parametrize("begin", [classic, new_member])


@both
def test_a_member_lives_by_repeated_heartbeats_and_dies_without(begin: Begin) -> None:
    broker = new_broker()
    member = begin(broker)
    for _ in range(20):
        broker.advance(9_000)
        assert member.beat() == 0
        assert member.is_repeated
    assert broker.counters.requests[member.key] >= 20
    broker.advance(50_000)
    assert member.beat() != 0


def test_a_classic_member_learns_of_a_rebalance() -> None:
    broker = new_broker()
    member = classic(broker)
    assert [member.beat(), member.beat()] == [0, 0]
    join(broker, version=3)
    assert member.beat() == ErrorCode.REBALANCE_IN_PROGRESS


def test_a_new_member_learns_of_its_assignment() -> None:
    broker = new_broker()
    member = new_member(broker)
    assert [member.beat(), member.beat()] == [0, 0]
    Member(broker, "n").join()
    assert member.answer().assignment is not None


@both
def test_another_version_client_or_body_is_read_again(begin: Begin) -> None:
    broker = new_broker()
    member = begin(broker)
    assert [member.beat(), member.beat()] == [0, 0]
    before = member.message
    member.message = replace(before, member_id="x" * len(before.member_id))
    assert member.beat() != 0
    member.message, member.version = before, member.version - 1
    assert member.beat() == 0


@both
def test_a_right_that_is_taken_away_counts_at_once(begin: Begin) -> None:
    broker = Harness(pairs={"super.users": ADMIN})
    broker.connection.principal = ADMIN
    broker.create_topic("t")
    needs = [(Operation.READ, ResourceType.GROUP, "g"), (Operation.DESCRIBE, ResourceType.TOPIC, "t")]
    grant(broker, ALICE, *needs)
    broker.connection.principal = ALICE
    member = begin(broker)
    assert [member.beat(), member.beat()] == [0, 0]
    grant(broker, ALICE, needs[0], permission=Permission.DENY)
    broker.connection.principal = ALICE
    assert member.beat() == ErrorCode.GROUP_AUTHORIZATION_FAILED


@both
def test_a_connection_that_has_to_authenticate_again_is_not_answered_from_before(begin: Begin) -> None:
    broker = new_broker()
    member = begin(broker)
    assert [member.beat(), member.beat()] == [0, 0]
    broker.connection.is_restricted = True
    with pytest.raises(Exception, match="SASL"):
        member.beat()
