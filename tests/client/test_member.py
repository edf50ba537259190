"""Members in threads, over sockets: they come, lead, leave, and outlive their broker."""

import queue
from pathlib import Path
from typing import Any

import pytest

import headwater as hw
from headwater.client.errors import ClientTimeoutError, ConfigurationError
from headwater.client.group_members import Assigned, Left, MemberSettings, Rebalancing, Refused
from headwater.client.member import Member
from headwater.protocol.apis import ApiKey
from headwater.protocol.messages.describe_groups import DescribeGroupsRequest
from headwater.testing import TestBroker
from tests.broker.wire import Wire
from tests.client.test_membership import Names

WAIT_S = 30.0
SETTINGS = MemberSettings("registry", "sr", heartbeat_interval_ms=100)


class Watched:
    """A member, and the occurrences that it reported."""

    def __init__(self, address: str, name: bytes, settings: MemberSettings = SETTINGS) -> None:
        self.told: queue.Queue[Any] = queue.Queue()
        self.embedded = Names(name)
        self.member = Member(address, settings, self.embedded, self.told.put)

    def wait(self, kind: type[Any] = Assigned, names: bytes | None = None) -> Any:
        """The next occurrence of a kind; of assignments the next one with these names."""
        while True:
            told = self.told.get(timeout=WAIT_S)
            if isinstance(told, kind) and (names is None or set(told.assignment.split(b",")) == set(names.split(b","))):
                return told


def members_of(address: str) -> list[str]:
    with Wire(address) as wire:
        (group,) = wire.call(ApiKey.DESCRIBE_GROUPS, 5, DescribeGroupsRequest(["registry"])).groups
    return [member.member_id for member in group.members]


def test_one_of_several_leads_and_when_it_leaves_another_does() -> None:
    with TestBroker() as broker:
        first = Watched(broker.address, b"a")
        with first.member:
            assert first.wait(names=b"a").is_leader
            assert first.member.holding() is not None
            second = Watched(broker.address, b"b")
            with second.member:
                assert first.wait(names=b"a,b").is_leader
                assert not second.wait(names=b"a,b").is_leader
                first.member.close()
                assert isinstance(first.told.get(timeout=WAIT_S), Left)
                assert first.member.holding() is None
                assert second.wait(names=b"b").is_leader
        assert isinstance(second.wait(Left), Left)
        assert members_of(broker.address) == []


def test_changed_metadata_reaches_the_leader() -> None:
    with TestBroker() as broker:
        watched = Watched(broker.address, b"a")
        with watched.member:
            watched.wait(names=b"a")
            watched.embedded.name = b"moved"
            watched.member.join_again("it has moved")
            assert isinstance(watched.wait(Rebalancing), Rebalancing)
            assert watched.wait(names=b"moved").generation == 2


def test_closing_does_not_wait_for_a_join_that_is_under_way() -> None:
    with TestBroker(settings={"group.initial.rebalance.delay.ms": 60_000}) as broker:
        watched = Watched(broker.address, b"a")
        watched.member.start()
        while not members_of(broker.address):
            continue  # the request is on its way
        watched.member.close()
        assert isinstance(watched.wait(Left), Left)
        assert members_of(broker.address) == []


def test_a_callback_that_raises_ends_the_membership_and_the_others_continue_at_once() -> None:
    with TestBroker() as broker:
        other = Watched(broker.address, b"b")
        failing = Watched(broker.address, b"a")

        def assign(*_: object) -> dict[str, bytes]:
            raise ValueError("no idea")

        failing.embedded.assign = assign  # type: ignore[method-assign,assignment]
        failing.member.start()
        refused = failing.wait(Refused)
        assert "group registry: a callback raised ValueError('no idea')" in str(refused.error)
        with other.member:
            assert other.wait(names=b"b").is_leader
        with pytest.raises(ValueError, match="no idea"):
            failing.member.close()
        failing.member.close()


def test_a_callback_that_does_not_return_is_named() -> None:
    with TestBroker() as broker:
        is_held, released = queue.Queue[None](), queue.Queue[None]()

        def hold(occurrence: object) -> None:
            if isinstance(occurrence, Assigned):
                is_held.put(None)
                released.get(timeout=WAIT_S)

        member = Member(broker.address, SETTINGS, Names(), hold).start()
        is_held.get(timeout=WAIT_S)
        with pytest.raises(ClientTimeoutError, match="leaving group registry: its thread is held up by a callback"):
            member.close(timeout_ms=1)
        released.put(None)
        member.close()


def test_a_refusal_by_the_coordinator_is_reported() -> None:
    with TestBroker() as broker:
        watched = Watched(broker.address, b"a", SETTINGS._replace(session_timeout_ms=1))
        watched.member.start()
        assert "INVALID_SESSION_TIMEOUT" in str(watched.wait(Refused).error)
        watched.member.close()


def test_a_group_of_another_type_is_not_joined() -> None:
    with TestBroker() as broker:
        first = Watched(broker.address, b"a")
        other = Watched(broker.address, b"b", SETTINGS._replace(protocol_type="connect"))
        with first.member:
            first.wait()
            other.member.start()
            assert "INCONSISTENT_GROUP_PROTOCOL" in str(other.wait(Refused).error)
            other.member.close()


def test_a_broker_that_restarts_finds_its_members_again(tmp_path: Path) -> None:
    with hw.Broker(tmp_path) as broker:
        port = broker.address.rpartition(":")[2]
        watched = Watched(broker.address, b"a", SETTINGS._replace(session_timeout_ms=30_000))
        watched.member.start()
        before = watched.wait(names=b"a")
    with hw.Broker(tmp_path, port=int(port)) as broker:
        heard_ms = watched.member.core.lease_until_ms
        while watched.member.core.lease_until_ms == heard_ms:
            assert members_of(broker.address) == [before.member_id]
        assert watched.member.holding() == before
        watched.member.close()
        assert isinstance(watched.told.get(timeout=WAIT_S), Left)


def test_names_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="the group is empty"):
        Member("localhost", SETTINGS._replace(group=""), Names(), print)
