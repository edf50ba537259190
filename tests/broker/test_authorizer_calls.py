"""Every question that a handler asks the authorizer matters: were its answer always yes, some client would get more.

The calls are found in the handlers' source. Each is answered with yes, one at a time, while the requests of the matrix and
those below are sent by a client that lacks one of the things that it needs. One of them must then be answered otherwise.
"""

import ast
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import headwater.broker.handlers
from headwater.broker import authorization
from headwater.coordinators.groups.consumer.group import JOIN_EPOCH
from headwater.protocol.api_classes import request_class
from headwater.protocol.apis import ApiKey
from headwater.protocol.records import TRANSACTIONAL, Record, build_batch
from headwater.security.acls import CLUSTER_NAME, Operation, ResourceType
from tests.broker.harness import Harness
from tests.broker.test_authorization import ADMIN, grant, secured_broker
from tests.broker.transactional import Producer
from tests.security.matrix import Need, rows

MALLORY = "User:mallory"
HANDLERS = Path(headwater.broker.handlers.__file__).parent
QUESTIONS = {
    "may_cluster",
    "may_create_topic",
    "may_group",
    "may_topic",
    "may_transaction",
    "may_write_something",
    "config_refusal",
}


class Site(NamedTuple):
    """Where a question stands: the module, the line and the column."""

    module: str
    line: int
    column: int


class Scenario(NamedTuple):
    """What a broker is prepared with by its administrator, what Mallory may do, and what she asks for."""

    name: str
    needs: tuple[Need, ...]
    ask: Callable[[Harness], Any]
    prepare: Callable[[Harness], Any] = lambda broker: None


@cache
def sites() -> list[Site]:
    found = []
    for path in sorted(HANDLERS.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in QUESTIONS:
                found.append(Site(path.stem, node.lineno, node.col_offset))
    return found


def message(key: ApiKey) -> Any:
    return request_class(key)


def scenarios() -> Iterator[Scenario]:
    for row in rows():
        ask = partial(Harness.call, key=row.key, version=row.version, message=row.body)
        for missing in range(len(row.needs)):
            needs = tuple(need for number, need in enumerate(row.needs) if number != missing)
            yield Scenario(f"{row.name} without {missing}", needs, ask)
    yield from topic_scenarios()
    yield from group_scenarios()
    yield from transaction_scenarios()


def topic_scenarios() -> Iterator[Scenario]:
    op, topic = Operation, ResourceType.TOPIC
    m = message(ApiKey.METADATA)

    def metadata(broker: Harness, **more: Any) -> Any:
        return broker.call(ApiKey.METADATA, 12, m(**more))

    yield Scenario("metadata of all", (), partial(metadata, topics=None))
    yield Scenario(
        "cluster operations",
        ((op.CREATE, ResourceType.CLUSTER, CLUSTER_NAME),),
        lambda b: b.call(ApiKey.METADATA, 9, m([], False, include_cluster_authorized_operations=True)),
    )
    new = [m.MetadataRequestTopic(name="new")]
    yield Scenario(
        "metadata that creates",
        ((op.DESCRIBE, topic, "new"),),
        partial(metadata, topics=new, allow_auto_topic_creation=True),
    )

    def by_id(broker: Harness) -> Any:
        return metadata(broker, topics=[m.MetadataRequestTopic(topic_id=broker.core.metadata.topics["t"].topic_id)])

    yield Scenario("metadata by id", (), by_id)
    create, delete = message(ApiKey.CREATE_TOPICS), message(ApiKey.DELETE_TOPICS)
    creation = create([create.CreatableTopic("new", 1, 1)], 1000)
    yield Scenario(
        "the configurations of a new topic",
        ((op.CREATE, topic, "new"),),
        lambda b: b.call(ApiKey.CREATE_TOPICS, 7, creation),
    )
    yield Scenario("deleting a topic", (), lambda b: b.call(ApiKey.DELETE_TOPICS, 5, delete(topic_names=["t"])))
    produce = message(ApiKey.PRODUCE)

    def produce_by_id(broker: Harness) -> Any:
        data = [produce.PartitionProduceData(0, bytes(build_batch([Record(b"k", b"v", (), 1_700_000_000_000)])))]
        wanted = produce.TopicProduceData(topic_id=broker.core.metadata.topics["t"].topic_id, partition_data=data)
        return broker.call(ApiKey.PRODUCE, 13, produce(None, -1, 1000, [wanted]))

    yield Scenario("producing by id", (), produce_by_id)


def group_scenarios() -> Iterator[Scenario]:
    op, topic, group = Operation, ResourceType.TOPIC, ResourceType.GROUP
    commit, fetch = message(ApiKey.OFFSET_COMMIT), message(ApiKey.OFFSET_FETCH)
    partitions = [commit.OffsetCommitRequestPartition(0, 1)]
    committed = commit("g", topics=[commit.OffsetCommitRequestTopic(name="t", partitions=partitions)])

    def with_offsets(broker: Harness) -> None:
        broker.call(ApiKey.OFFSET_COMMIT, 8, committed)

    yield Scenario(
        "all offsets of a group",
        ((op.DESCRIBE, group, "g"),),
        lambda b: b.call(ApiKey.OFFSET_FETCH, 8, fetch(groups=[fetch.OffsetFetchRequestGroup("g", topics=None)])),
        with_offsets,
    )
    yield Scenario("groups", (), lambda b: b.call(ApiKey.LIST_GROUPS, 4, message(ApiKey.LIST_GROUPS)()), with_offsets)
    m = message(ApiKey.CONSUMER_GROUP_HEARTBEAT)

    def with_member(broker: Harness) -> None:
        join = m("g", "m", JOIN_EPOCH, None, None, 10_000, ["t"], None, None, [])
        broker.call(ApiKey.CONSUMER_GROUP_HEARTBEAT, 1, join)

    # CVE-2026-41115: who may describe a group sees the topics that its members read.
    describe = message(ApiKey.CONSUMER_GROUP_DESCRIBE)(["g"])
    yield Scenario(
        "a group's topics",
        ((op.DESCRIBE, group, "g"),),
        lambda b: b.call(ApiKey.CONSUMER_GROUP_DESCRIBE, 0, describe),
        with_member,
    )
    join = m("g", "m", JOIN_EPOCH, None, None, 10_000, None, ".*", None, [])
    yield Scenario(
        "a subscription by a pattern",
        ((op.READ, group, "g"),),
        lambda b: b.call(ApiKey.CONSUMER_GROUP_HEARTBEAT, 1, join),
    )
    delete = message(ApiKey.OFFSET_DELETE)
    topics = [delete.OffsetDeleteRequestTopic("t", [delete.OffsetDeleteRequestPartition(0)])]
    yield Scenario(
        "deleting offsets of a topic",
        ((op.DELETE, group, "g"), (op.DESCRIBE, topic, "t")),
        lambda b: b.call(ApiKey.OFFSET_DELETE, 0, delete("g", topics)),
        with_offsets,
    )


def transaction_scenarios() -> Iterator[Scenario]:
    op, topic, transaction = Operation, ResourceType.TOPIC, ResourceType.TRANSACTIONAL_ID

    def with_transaction(broker: Harness) -> Producer:
        producer = Producer(broker, "tx")
        assert producer.init().error_code == 0
        assert producer.produce("t", b"v") == 0
        return producer

    listing = message(ApiKey.LIST_TRANSACTIONS)()
    yield Scenario("transactions", (), lambda b: b.call(ApiKey.LIST_TRANSACTIONS, 1, listing), with_transaction)
    describe = message(ApiKey.DESCRIBE_TRANSACTIONS)(["tx"])
    yield Scenario(
        "a transaction's topics",
        ((op.DESCRIBE, transaction, "tx"),),
        lambda b: b.call(ApiKey.DESCRIBE_TRANSACTIONS, 0, describe),
        with_transaction,
    )
    produce = message(ApiKey.PRODUCE)

    def with_the_others_id(broker: Harness) -> Any:
        known = broker.core.transactions.transactions["tx"]
        batch = build_batch(
            [Record(b"k", b"v", (), 1_700_000_000_000)],
            attributes=TRANSACTIONAL,
            producer_id=known.producer_id,
            producer_epoch=known.producer_epoch,
            base_sequence=1,
        )
        data = [produce.TopicProduceData(name="t", partition_data=[produce.PartitionProduceData(0, bytes(batch))])]
        return broker.call(ApiKey.PRODUCE, 9, produce("own", -1, 1000, data))

    yield Scenario(
        "another's producer id",
        ((op.WRITE, topic, "t"), (op.WRITE, transaction, "own")),
        with_the_others_id,
        with_transaction,
    )


class Asked:
    """The authorizer's questions: which were asked, and the one that is answered with yes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, always: Site | None = None) -> None:
        self.sites: set[Site] = set()
        self.always = always
        self.may, self.allows_any = authorization.may, authorization.may_write_something
        monkeypatch.setattr(authorization, "may", self.answer)
        handler = import_module("headwater.broker.handlers.init_producer_id")
        monkeypatch.setattr(handler, "may_write_something", self.answer_any)

    def answer(self, *question: Any) -> bool:
        return self.is_forced() or self.may(*question)

    def answer_any(self, *question: Any) -> bool:
        return self.is_forced() or self.allows_any(*question)

    def is_forced(self) -> bool:
        site = asking_site()
        if site is None:
            return False
        self.sites.add(site)
        return site == self.always


def asking_site() -> Site | None:
    """Where in a handler the question that is being asked stands."""
    frame = sys._getframe(2)
    while frame.f_back is not None:
        path = Path(frame.f_code.co_filename)
        if path.parent == HANDLERS:
            line, _, column, _ = list(frame.f_code.co_positions())[frame.f_lasti // 2]
            return Site(path.stem, line or 0, column or 0)
        frame = frame.f_back
    return None


def outcome(scenario: Scenario, always: Site | None = None) -> tuple[str, set[Site]]:
    """Mallory's answer, and the questions that were asked about her."""
    broker = secured_broker()
    grant(broker, MALLORY, *scenario.needs)
    broker.connection.principal = ADMIN
    scenario.prepare(broker)
    broker.connection.principal = MALLORY
    with pytest.MonkeyPatch.context() as monkeypatch:
        asked = Asked(monkeypatch, always)
        return repr(scenario.ask(broker)), asked.sites


@cache
def usual_outcomes() -> list[tuple[Scenario, str, set[Site]]]:
    return [(scenario, *outcome(scenario)) for scenario in scenarios()]


@pytest.mark.parametrize("site", sites(), ids=lambda site: f"{site.module}:{site.line}:{site.column}")
def test_a_question_that_is_not_asked_is_noticed(site: Site) -> None:
    asking = [(scenario, usual) for scenario, usual, asked in usual_outcomes() if site in asked]
    assert asking, "no request here asks this"
    assert any(outcome(scenario, site)[0] != usual for scenario, usual in asking)
