"""The parts of the broker that handlers need, grouped into roles.

No handler gets the whole broker. It names a role, and a role names the parts that its handlers use. So the signature of a
handler shows what it can reach, a type checker refuses anything else, and a test builds a broker from just these parts. The
core has all parts under these names: it plays every role without knowing one.

Parts that handlers share are roles of their own, which those below inherit: `authorization` (is this allowed?), `leadership`
(does this node do it?) and `visibility` (can it be read yet?).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from headwater.broker.configs.dynamic import DynamicConfigs
from headwater.broker.configs.settings import Settings
from headwater.broker.coordination import Coordination
from headwater.broker.fetch_sessions import FetchSessions
from headwater.broker.leadership import ClusterParts, GroupCoordinationParts, LeaderParts
from headwater.broker.limited_log import LimitedLog
from headwater.broker.metadata import Metadata
from headwater.broker.occurrences import Occurrences
from headwater.broker.partitions import Partitions
from headwater.broker.producer_ids import ProducerIds
from headwater.broker.state_logs import MetadataLog
from headwater.broker.throttling import Throttling
from headwater.broker.topics import Topics
from headwater.broker.visibility import VisibilityParts
from headwater.coordinators.groups.coordinator import GroupCoordinator
from headwater.coordinators.transactions.coordinator import TransactionCoordinator
from headwater.effects.clock import Clock
from headwater.effects.entropy import Entropy
from headwater.effects.timers import Timers
from headwater.effects.work import RunElsewhere
from headwater.replay.deferred import Deferred
from headwater.replay.sync_number import SyncNumber
from headwater.security.scram import Credential, Mechanism
from headwater.storage.store import LogStore

if TYPE_CHECKING:
    from headwater.broker.bearer_logins import BearerLogins

Answer = TypeVar("Answer")


class DurabilityParts(Protocol):
    """Makes answers wait for the disk."""

    def answer_when_durable(self, sync: SyncNumber, answer: Answer) -> Deferred[Answer]: ...


# -- records


class MeteredParts(Protocol):
    """What meters how much clients use."""

    throttling: Throttling


class LogParts(ClusterParts, VisibilityParts, Protocol):
    """The logs of partitions, and where they end for readers."""

    partitions: Partitions


class FetchParts(LogParts, LeaderParts, MeteredParts, Protocol):
    """Logs read in sessions."""

    sessions: FetchSessions
    settings: Settings
    occurrences: Occurrences


class ProduceParts(LeaderParts, DurabilityParts, Protocol):
    """Appends to logs, in transactions or outside of them."""

    clock: Clock
    partitions: Partitions
    occurrences: Occurrences
    transactions: TransactionCoordinator


# -- groups and transactions


class GroupParts(GroupCoordinationParts, Protocol):
    """Groups, and the offsets that they have committed."""

    clock: Clock
    groups: GroupCoordinator


class StateTopicParts(GroupCoordinationParts, Protocol):
    """The topics that store groups and transactions."""

    coordination: Coordination


class TransactionParts(StateTopicParts, DurabilityParts, Protocol):
    """Transactions, their producers, and the partitions in which they end."""

    clock: Clock
    partitions: Partitions
    producer_ids: ProducerIds
    transactions: TransactionCoordinator


class TransactionOffsetParts(GroupParts, TransactionParts, Protocol):
    """Offsets committed in a transaction."""

    coordination: Coordination


# -- administration


class AdministrationParts(ClusterParts, DurabilityParts, Protocol):
    """Decisions about the metadata: ACLs, credentials, features, and whatever the roles below add."""

    entropy: Entropy

    def append_metadata(self, changes: list[Any]) -> SyncNumber:
        """Applies a decision; returns the sync that makes it durable. Raises OSError."""
        ...

    def append_and_answer(self, changes: list[Any], answer: Answer, not_written: Answer) -> Answer | Deferred[Answer]:
        """Carries out a decision; returns the other answer if it cannot be written."""
        ...


class TokenParts(AdministrationParts, Protocol):
    """Delegation tokens."""

    clock: Clock
    settings: Settings


class ConfigParts(ClusterParts, Protocol):
    """Reads configurations."""

    dynamic_configs: DynamicConfigs


class ConfigChangeParts(ConfigParts, AdministrationParts, Protocol):
    """Changes configurations, and puts them in force."""

    partitions: Partitions
    reload_certificates: Callable[[], None]

    def apply_configs(self) -> None: ...


class TopicParts(ConfigParts, AdministrationParts, MeteredParts, Protocol):
    """Topics created, deleted and reassigned."""

    settings: Settings
    topics: Topics


# -- clients


class DescriptionParts(LeaderParts, MeteredParts, Protocol):
    """What clients ask about the cluster first. A topic may come into being because they do."""

    clock: Clock
    metadata_log: MetadataLog
    settings: Settings
    topics: Topics


class LoginParts(Protocol):
    """Finds out who a client is."""

    bearer_listener: str
    clock: Clock
    entropy: Entropy
    metadata: Metadata
    refusals: LimitedLog
    run_elsewhere: RunElsewhere
    settings: Settings
    occurrences: Occurrences
    store: LogStore
    timers: Timers

    @property
    def bearer_logins(self) -> "BearerLogins":
        """What checks the tokens of OAUTHBEARER."""
        ...

    @property
    def private_logins(self) -> dict[tuple[str, Mechanism], Credential]:
        """The users of the private listener, in addition to all others."""
        ...
