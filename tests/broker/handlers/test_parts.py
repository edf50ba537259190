"""Handlers with a broker of just the parts that they ask for: no core, no dispatch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from logging import getLogger
from typing import Any, TypeVar

from headwater.broker.bearer_logins import BearerLogins
from headwater.broker.cluster import Cluster, Endpoint
from headwater.broker.configs.settings import Settings
from headwater.broker.connection import Connection, Repeatable, Request, SaslState
from headwater.broker.handlers import create_acls, heartbeat, sasl_authenticate
from headwater.broker.limited_log import LimitedLog
from headwater.broker.metadata import Metadata
from headwater.broker.occurrences import Occurrences
from headwater.coordinators.groups.classic.membership import GroupLimits, JoinRequest
from headwater.coordinators.groups.consumer.subscriptions import ConsumerGroupLimits
from headwater.coordinators.groups.coordinator import GroupCoordinator
from headwater.effects.clock import Clock, ManualClock
from headwater.effects.entropy import Entropy, SeededEntropy
from headwater.effects.memory_files import MemoryFiles
from headwater.effects.timers import Timers
from headwater.effects.work import RunElsewhere, at_once
from headwater.observability.counters import Counters
from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.create_acls import CreateAclsRequest
from headwater.protocol.messages.heartbeat import HeartbeatRequest
from headwater.protocol.messages.sasl_authenticate import SaslAuthenticateRequest, SaslAuthenticateResponse
from headwater.replay.deferred import Deferred
from headwater.replay.state_record import StateRecord
from headwater.replay.sync_number import SyncNumber
from headwater.security.acls import Acls
from headwater.security.sasl import PLAIN, new_exchange
from headwater.security.scram import ITERATIONS_MIN, Credential, Mechanism, credential_of, salt_password
from headwater.storage.store import LogStore
from tests.replay.state_log import MemoryStateLog

Answer = TypeVar("Answer")


def request(key: ApiKey, version: int, body: Any, connection: Connection | None = None) -> Request:
    return Request(key, version, "client", connection or Connection("/192.0.2.1"), body)


@dataclass
class Damaged:
    """The groups whose state is damaged."""

    group_ids: set[str] = field(default_factory=set)

    def is_known(self, group_id: str) -> bool:
        return group_id not in self.group_ids


class BrokerOfGroups:
    """`GroupParts`."""

    def __init__(self) -> None:
        self.acls: Acls | None = None
        self.cluster = Cluster(1)
        self.metadata = Metadata(self.cluster)
        self.coordination = Damaged()
        self.clock: Clock = ManualClock()
        limits = ConsumerGroupLimits()
        self.groups = GroupCoordinator(
            self.clock,
            Timers(self.clock),
            SeededEntropy(7),
            GroupLimits(),
            MemoryStateLog[StateRecord](),
            topics=self.metadata,
            consumer_limits=limits,
            configs_of=lambda group_id: limits,
            assignment_interval_of=lambda group_id: 0,
        )


class TestHeartbeat:
    def beat(self, broker: BrokerOfGroups, member_id: str) -> Any:
        answer = heartbeat.handle(broker, request(ApiKey.HEARTBEAT, 4, HeartbeatRequest("g", 0, member_id)))
        return answer.message if isinstance(answer, Repeatable) else answer

    def join(self, broker: BrokerOfGroups) -> str:
        wanted = JoinRequest(
            "g", "", None, "client", "host", 10_000, 10_000, "consumer", [("range", b"")], False, False
        )
        broker.groups.join(wanted)
        (member_id,) = broker.groups.groups["g"].members
        return str(member_id)

    def test_a_member_has_to_join_again(self) -> None:
        broker = BrokerOfGroups()
        member_id = self.join(broker)
        assert self.beat(broker, member_id).error_code == ErrorCode.REBALANCE_IN_PROGRESS
        assert self.beat(broker, "stranger").error_code == ErrorCode.UNKNOWN_MEMBER_ID

    def test_a_group_is_refused_for_its_first_reason(self) -> None:
        broker = BrokerOfGroups()
        member_id = self.join(broker)
        broker.coordination.group_ids.add("g")
        assert self.beat(broker, member_id).error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
        broker.acls = Acls()
        assert self.beat(broker, member_id).error_code == ErrorCode.GROUP_AUTHORIZATION_FAILED


class BrokerOfAdministrators:
    """`AdministrationParts`. Changes of the metadata are kept, and answered with the other answer when `is_full`."""

    def __init__(self) -> None:
        self.cluster = Cluster(1)
        self.metadata = Metadata(self.cluster)
        self.acls: Acls | None = Acls(["User:ANONYMOUS"])
        self.entropy: Entropy = SeededEntropy(7)
        self.changes: list[Any] = []
        self.is_full = False

    def append_metadata(self, changes: list[Any]) -> SyncNumber:
        raise AssertionError("nothing but `append_and_answer` is needed")

    def append_and_answer(self, changes: list[Any], answer: Answer, not_written: Answer) -> Answer | Deferred[Answer]:
        if self.is_full:
            return not_written
        self.changes += changes
        return answer

    def answer_when_durable(self, sync: SyncNumber, answer: Answer) -> Deferred[Answer]:
        raise AssertionError("nothing but `append_and_answer` is needed")


class TestCreateAcls:
    def create(self, broker: BrokerOfAdministrators, *names: str) -> list[int]:
        read, topic, literal, allow = 3, 2, 3, 3
        creations = [
            CreateAclsRequest.AclCreation(topic, name, literal, "User:alice", "*", read, allow) for name in names
        ]
        answer: Any = at_once(create_acls.handle(broker, request(ApiKey.CREATE_ACLS, 3, CreateAclsRequest(creations))))
        return [result.error_code for result in answer.results]

    def test_what_is_asked_for_twice_is_decided_once(self) -> None:
        broker = BrokerOfAdministrators()
        assert self.create(broker, "t", "t", "u") == [0, 0, 0]
        assert [change.resource_name for change in broker.changes] == ["t", "u"]

    def test_what_cannot_be_written_is_not_acknowledged(self) -> None:
        broker = BrokerOfAdministrators()
        broker.is_full = True
        assert self.create(broker, "t") == [ErrorCode.KAFKA_STORAGE_ERROR]

    def test_without_an_authorizer_there_is_nothing_to_decide(self) -> None:
        broker = BrokerOfAdministrators()
        broker.acls = None
        assert self.create(broker, "t") == [ErrorCode.SECURITY_DISABLED]
        assert broker.changes == []


class BrokerOfLogins:
    """`LoginParts`. What takes long is done when the test says so."""

    def __init__(self) -> None:
        self.clock: Clock = ManualClock()
        self.entropy: Entropy = SeededEntropy(7)
        self.timers = Timers(self.clock)
        self.metadata = Metadata(Cluster(1))
        self.refusals = LimitedLog(getLogger("test"), self.clock.steady_ms)
        self.settings = Settings.from_pairs({"connection.failed.authentication.delay.ms": "0"})
        self.occurrences = Occurrences()
        self.totals = Counters(self.occurrences).totals
        self.private_logins: dict[tuple[str, Mechanism], Credential] = {}
        self.store = LogStore(MemoryFiles(), "data", self.clock, self.entropy)
        self.bearer_listener = ""
        self.bearer_logins = BearerLogins(self.settings, self.clock, self.timers, self.remember)
        self.elsewhere: list[Callable[[], None]] = []
        self.run_elsewhere: RunElsewhere = self.remember
        salted = salt_password(Mechanism.SCRAM_SHA_256, "secret", b"salt", ITERATIONS_MIN)
        credential = credential_of(Mechanism.SCRAM_SHA_256, salted, b"salt", ITERATIONS_MIN)
        self.metadata.credentials["alice", Mechanism.SCRAM_SHA_256] = credential

    def remember(self, function: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self.elsewhere.append(lambda: done(function()))


class TestSaslAuthenticate:
    def log_in(self, broker: BrokerOfLogins, password: bytes) -> tuple[Connection, list[SaslAuthenticateResponse]]:
        connection = Connection("/192.0.2.1", Endpoint("SASL", "SASL_PLAINTEXT"), principal="", is_restricted=True)
        connection.sasl = SaslState(PLAIN, new_exchange(PLAIN, broker.metadata.credentials, lambda: ""))
        body = SaslAuthenticateRequest(b"\0alice\0" + password)
        answer = sasl_authenticate.handle(broker, request(ApiKey.SASL_AUTHENTICATE, 1, body, connection))
        assert isinstance(answer, Deferred)
        answers: list[SaslAuthenticateResponse] = []
        answer.when_done(answers.append)
        was_busy, early = connection.is_busy, len(answers)
        for check in broker.elsewhere:
            check()
        assert (was_busy, early, connection.is_busy) == (True, 0, False)
        return connection, answers

    def test_a_password_is_checked_elsewhere(self) -> None:
        broker = BrokerOfLogins()
        connection, answers = self.log_in(broker, b"secret")
        assert [answer.error_code for answer in answers] == [0]
        assert connection.principal == "User:alice"
        assert broker.totals["successful_authentication"] == 1

    def test_a_wrong_password_leaves_the_client_a_stranger(self) -> None:
        broker = BrokerOfLogins()
        connection, answers = self.log_in(broker, b"guess")
        assert [answer.error_code for answer in answers] == [ErrorCode.SASL_AUTHENTICATION_FAILED]
        assert connection.principal == ""
        assert connection.must_close
        assert broker.totals["failed_authentication"] == 1
