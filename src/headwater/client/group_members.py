"""What a member of a group and its caller say to each other: settings, the embedded protocol, requests, occurrences."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from headwater.client.errors import ClientError


class MemberSettings(NamedTuple):
    """Which group, and how patient its coordinator is. With `instance_id` the membership is static (KIP-345)."""

    group: str
    protocol_type: str
    instance_id: str | None = None
    session_timeout_ms: int = 10_000
    rebalance_timeout_ms: int = 60_000
    heartbeat_interval_ms: int = 3_000
    request_timeout_ms: float = 10_000.0

    @property
    def lease_ms(self) -> float:
        return min(self.session_timeout_ms, self.rebalance_timeout_ms)


class JoinedMember(NamedTuple):
    """What the leader gets about a member."""

    member_id: str
    instance_id: str | None
    metadata: bytes


class EmbeddedProtocol(Protocol):
    """What the members of a group say to each other. An exception here ends the membership."""

    def protocols(self) -> Sequence[tuple[str, bytes]]:
        """What this member speaks, with its metadata for each, the best first; asked for whenever it joins."""
        ...

    def assign(self, protocol: str, members: Sequence[JoinedMember]) -> Mapping[str, bytes]:
        """Called for the leader: an assignment for each member id, by a protocol that all members speak."""
        ...


class Assigned(NamedTuple):
    """A generation is complete, and this is this member's part in it."""

    generation: int
    member_id: str
    leader_id: str
    protocol: str
    assignment: bytes

    @property
    def is_leader(self) -> bool:
        return self.leader_id == self.member_id


class Rebalancing(NamedTuple):
    """The generation ends, in an orderly way: this member is about to join the next. Its assignment is void."""


class Lost(NamedTuple):
    """The membership was lost: others may have this member's part already. It joins again."""

    reason: str


class Refused(NamedTuple):
    """It cannot be a member, now or later."""

    error: ClientError


class Left(NamedTuple):
    """It has left the group, as its caller wanted."""


Occurrence = Assigned | Rebalancing | Lost | Refused | Left


class Call(NamedTuple):
    """A request to make. `is_for_coordinator`: to the coordinator, not to any broker."""

    message: Any
    timeout_ms: float
    is_for_coordinator: bool = True
    at_least: int = 0  # its version


class Pause(NamedTuple):
    """Nothing to do until then."""

    until_ms: float
