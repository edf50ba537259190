"""How an Admin asks and waits, without a broker: librdkafka's client is a double that reports what a test says."""

import time
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from headwater.client.admin import Admin
from headwater.client.admin_calls import AdminCalls
from headwater.client.errors import (
    AuthenticationError,
    AuthorizationError,
    BrokerUnavailableError,
    ClientError,
    ClientTimeoutError,
    ConfigurationError,
    TopicExistsError,
)
from headwater.client.positions import Partition
from headwater.effects.clock import ManualClock

REFUSED = KafkaError(KafkaError._AUTHENTICATION, "SASL authentication error: wrong")
DOWN = KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down")
LOST = KafkaError(KafkaError._TRANSPORT, "Connection refused")
LATE = KafkaException(KafkaError(KafkaError._TIMED_OUT, "late"))


class Librdkafka:
    """Reports one error per poll, and answers a call of `list_topics` with each of `answers`."""

    def __init__(self, calls: AdminCalls, reports: list[KafkaError], answers: list[object]) -> None:
        self.calls, self.reports, self.answers = calls, reports, answers
        self.asked = 0

    def poll(self, timeout_s: float) -> None:
        if self.reports:
            self.calls._notes(self.reports.pop(0))

    def list_topics(self, timeout: float) -> object:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def calls(*reports: KafkaError, answers: list[object] | None = None, **options: Any) -> tuple[AdminCalls, Librdkafka]:
    made = AdminCalls("127.0.0.1:1", **options)
    made._raw = double = Librdkafka(made, list(reports), answers or [])
    return made, double


def pending(client: Any) -> Future[str]:
    return Future()


def done(client: Any) -> dict[str, Future[str]]:
    future: Future[str] = Future()
    future.set_result("made")
    return {"t": future}


def test_several_results_come_by_their_keys() -> None:
    admin, _ = calls()
    assert admin.call(done, "creating topic t") == {"t": "made"}


def test_a_refusal_ends_the_wait_at_once_and_names_the_address() -> None:
    admin, _ = calls(LOST, REFUSED, DOWN)
    with pytest.raises(
        AuthenticationError, match=r"creating topic t: 127\.0\.0\.1:1: SASL authentication error: wrong"
    ):
        admin.call(pending, "creating topic t")


def test_a_broker_that_is_down_is_waited_for_or_not() -> None:
    hasty, _ = calls(LOST, DOWN, fail_fast=True)
    with pytest.raises(BrokerUnavailableError, match=r"no answer from 127\.0\.0\.1:1 \(Connection refused\)"):
        hasty.call(pending, "creating topic t")
    patient, _ = calls(LOST, DOWN, timeout_ms=250)
    with pytest.raises(BrokerUnavailableError, match=r"\(Connection refused\)"):
        patient.call(pending, "creating topic t")


def test_a_broker_that_closes_connections_may_want_a_login() -> None:
    admin, _ = calls(DOWN, fail_fast=True)
    with pytest.raises(BrokerUnavailableError, match=r"security\.protocol"):
        admin.call(pending, "creating topic t")


def test_no_answer_in_time_is_a_timeout() -> None:
    admin, _ = calls(timeout_ms=0)
    with pytest.raises(ClientTimeoutError, match=r"no answer from 127\.0\.0\.1:1 \(it took too long\)"):
        admin.call(pending, "creating topic t")


def test_an_answer_ends_what_was_reported_before() -> None:
    admin, _ = calls(REFUSED, DOWN)
    admin._raw.poll(0)
    admin._raw.poll(0)
    admin.call(done, "creating topic t")
    assert (admin._notes.refusal, admin._notes.is_down, admin._notes.failure) == (None, False, "")


def test_asking_for_topics_continues_until_there_is_an_answer() -> None:
    admin, double = calls(answers=[LATE, LATE, "topics"])
    assert admin._metadata("listing topics") == "topics"
    assert double.asked == 3


def test_asking_for_topics_ends_where_nobody_is_let_in() -> None:
    admin, double = calls(REFUSED, answers=[LATE, "topics"])
    with pytest.raises(AuthenticationError, match="wrong"):
        admin._metadata("listing topics")
    assert double.asked == 1


def test_an_answer_that_is_an_error_is_typed() -> None:
    def refuse(client: Any) -> Future[str]:
        future: Future[str] = Future()
        future.set_exception(KafkaException(KafkaError(KafkaError.TOPIC_ALREADY_EXISTS)))
        return future

    def misuse(client: Any) -> Future[str]:
        raise TypeError("expected a list")

    admin, _ = calls()
    with pytest.raises(TopicExistsError, match="creating topic t"):
        admin.call(refuse, "creating topic t")
    with pytest.raises(ConfigurationError, match="creating topic t: expected a list"):
        admin.call(misuse, "creating topic t")


def test_a_node_that_cannot_list_its_groups_is_an_error_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """librdkafka has the node's error in the result, as a KafkaError and not as an exception."""
    loading = KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS, "Broker: Coordinator load in progress")
    monkeypatch.setattr(Admin, "call", lambda *_: SimpleNamespace(errors=[loading], valid=[]))
    with pytest.raises(ClientError, match="listing groups: ") as raised:
        Admin("127.0.0.1:1").list_groups()
    assert raised.value.code == "COORDINATOR_LOAD_IN_PROGRESS"


class Group:
    """librdkafka's admin client for a group: `descriptions` are its answers, in order; then it may be asked for offsets."""

    def __init__(self, *descriptions: Exception | None) -> None:
        self.descriptions = list(descriptions)

    def poll(self, timeout_s: float) -> None:
        pass

    def describe_consumer_groups(self, groups: list[str]) -> dict[str, Future[None]]:
        future: Future[None] = Future()
        if (refusal := self.descriptions.pop(0)) is None:
            future.set_result(None)
        else:
            future.set_exception(refusal)
        return {groups[0]: future}

    def list_consumer_group_offsets(self, request: Any) -> dict[str, Future[SimpleNamespace]]:
        assert self.descriptions == [], "librdkafka would end the process now"
        future: Future[SimpleNamespace] = Future()
        future.set_result(SimpleNamespace(topic_partitions=[SimpleNamespace(topic="t", partition=0, offset=7)]))
        return {request[0].group_id: future}


def admin_of_group(monkeypatch: pytest.MonkeyPatch, group: Group) -> Admin:
    made, clock = Admin("127.0.0.1:1", timeout_ms=1000), ManualClock()
    monkeypatch.setattr(made, "_clock", clock)
    monkeypatch.setattr(made, "_raw", group)
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.advance(seconds * 1000))
    return made


def refusal(code: int) -> KafkaException:
    return KafkaException(KafkaError(code))


def test_offsets_are_asked_for_only_when_the_groups_coordinator_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(refusal(KafkaError.NOT_COORDINATOR), refusal(KafkaError.COORDINATOR_LOAD_IN_PROGRESS), None)
    assert admin_of_group(monkeypatch, group).committed("g") == {Partition("t", 0): 7}


def test_a_coordinator_that_never_answers_is_an_error_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(*[refusal(KafkaError.NOT_COORDINATOR)] * 100)
    with pytest.raises(ClientError, match=r"offsets of group g: .*[Nn]ot coordinator"):
        admin_of_group(monkeypatch, group).committed("g")


def test_a_group_that_may_not_be_described_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(refusal(KafkaError.GROUP_AUTHORIZATION_FAILED), None)
    with pytest.raises(AuthorizationError):
        admin_of_group(monkeypatch, group).committed("g")


def test_a_group_that_cannot_be_found_may_have_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(refusal(KafkaError.GROUP_ID_NOT_FOUND))
    assert admin_of_group(monkeypatch, group).committed("g") == {Partition("t", 0): 7}
