"""Routes: a request that is like an earlier one gets the answer that the general path would have given, byte for byte."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.broker.connection import SaslState
from headwater.broker.dispatch import dispatch
from headwater.broker.produce_routes import ROUTES_MAX
from headwater.protocol.apis import APIS, ApiKey
from headwater.protocol.compression import Compression
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ProtocolError
from headwater.protocol.frames import request_frame
from headwater.protocol.messages.delete_topics import DeleteTopicsRequest
from headwater.protocol.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from headwater.protocol.messages.produce import ProduceRequest
from headwater.protocol.records import TRANSACTIONAL, Record, build_batch
from headwater.security.acls import Operation, Permission, ResourceType
from headwater.security.sasl import PlainExchange
from tests.broker.harness import Harness, Pending
from tests.broker.test_authorization import ADMIN, ALICE, grant

ROUTED_VERSIONS = range(5, 14)
TopicData, PartitionData = ProduceRequest.TopicProduceData, ProduceRequest.PartitionProduceData
Answer = bytes | str | None


def batch_of(value: bytes = b"v", **fields: Any) -> bytes:
    return bytes(build_batch([Record(b"k", value, (), 1_000)], **fields))


class Client:
    """Produces on a connection of its own; `is_routed` says whether it may take routes."""

    def __init__(self, broker: Harness, *, is_routed: bool = True, name: str = "client") -> None:
        self.broker, self.is_routed, self.name = broker, is_routed, name
        self.correlation_id = 0

    def frame(
        self, topic: str, batch: bytes, *, partition: int = 0, acks: int = -1, version: int = 9, **body: Any
    ) -> bytes:
        self.correlation_id += 1
        known = self.broker.core.metadata.topics.get(topic)
        topic_id = known.topic_id if known is not None else bytes(16)
        topic_data = TopicData(topic_id, topic, [PartitionData(partition, batch)])
        request = ProduceRequest(body.get("transactional_id"), acks, 1000, [topic_data])
        return request_frame(APIS[ApiKey.PRODUCE], version, self.correlation_id, self.name, request)[4:]

    def send(self, frame: bytes) -> Answer:
        """The answer's bytes; None if there is none; what closes the connection as text."""
        if not self.is_routed:
            self.broker.connection.routes = None
        try:
            found = dispatch(self.broker.core, self.broker.connection, bytearray(frame))
        except ProtocolError as error:
            return str(error)
        answer = Pending(self.broker, ApiKey.PRODUCE, 9, found)
        self.broker.sync()
        assert answer.is_done
        return None if answer.buffers is None else b"".join(answer.buffers)

    def produce(self, topic: str = "orders", batch: bytes = batch_of(), **options: Any) -> Answer:
        return self.send(self.frame(topic, batch, **options))

    @property
    def routed(self) -> int:
        return self.broker.core.routed_requests


def new_client(partitions: int = 1, **pairs: object) -> Client:
    broker = Harness(pairs=pairs)
    broker.create_topic("orders", partitions)
    return Client(broker)


def code_of(answer: Answer, version: int = 9) -> int:
    """The error code of the only partition."""
    assert isinstance(answer, bytes)
    pending = Pending(Harness(), ApiKey.PRODUCE, version, [answer])
    return int(pending.message.responses[0].partition_responses[0].error_code)


@pytest.mark.parametrize("acks", [-1, 0, 1])
@pytest.mark.parametrize("version", ROUTED_VERSIONS)
def test_from_the_third_request_on_the_answers_are_the_same_bytes(version: int, acks: int) -> None:
    routed, general = new_client(), new_client()
    general.is_routed = False
    for number in range(6):
        batch = batch_of(bytes(number))
        answer = routed.produce(batch=batch, version=version, acks=acks)
        assert answer == general.produce(batch=batch, version=version, acks=acks)
    assert (routed.routed, general.routed) == (4, 0)


def test_each_size_of_a_batch_is_recognized() -> None:
    client = new_client()
    sizes = (0, 1, 40, 50, 60, 70, 16_000, 16_310, 16_320, 16_330, 65_000, 900_000)
    for size in (0, 0, *sizes):
        assert code_of(client.produce(batch=batch_of(bytes(size)))) == 0
    assert client.routed == len(sizes)


def test_versions_without_a_log_start_in_their_answers_have_no_route() -> None:
    client = new_client()
    for version in (3, 4):
        for _ in range(3):
            assert isinstance(client.produce(version=version), bytes)
    assert client.routed == 0


def test_a_client_that_writes_to_few_partitions_has_a_route_for_each() -> None:
    client = new_client(ROUTES_MAX + 1)
    for _ in range(4):
        for partition in range(ROUTES_MAX):
            assert code_of(client.produce(partition=partition)) == 0
    assert client.routed == 2 * ROUTES_MAX
    for _ in range(4):
        for partition in range(ROUTES_MAX + 1):
            assert code_of(client.produce(partition=partition)) == 0
    routes = client.broker.connection.routes
    assert routes is not None
    assert len(routes.routes) <= ROUTES_MAX


def test_names_of_other_lengths_have_routes_beside_each_other() -> None:
    client = new_client()
    client.broker.create_topic("a-much-longer-name")
    for number in range(8):
        client.name = "c" * (1 + number % 2)
        client.produce("orders")
        client.produce("a-much-longer-name")
    assert client.routed == 8


def test_the_answer_waits_for_the_disk() -> None:
    client = new_client()
    for _ in range(2):
        client.produce()
    client.broker.hold_syncs = True
    answers = [
        Pending(
            client.broker, ApiKey.PRODUCE, 9, dispatch(client.broker.core, client.broker.connection, bytearray(frame))
        )
        for frame in (client.frame("orders", batch_of()), client.frame("orders", batch_of(), acks=-1))
    ]
    assert client.routed == 2
    assert [answer.is_done for answer in answers] == [False, False]
    client.broker.sync()
    assert [answer.is_done for answer in answers] == [True, True]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda frame: frame + b"\0", id="bytes after the body"),
        pytest.param(lambda frame: frame[:-1] + b"\1\0\0", id="a tag at the end"),
        pytest.param(lambda frame: frame[:-1], id="cut"),
        pytest.param(lambda frame: frame[:60], id="cut in the batch"),
        pytest.param(lambda frame: frame[:-20] + bytes([frame[-20] ^ 1]) + frame[-19:], id="a bit flipped"),
    ],
)
def test_a_frame_that_is_not_plain_is_answered_by_the_general_path(spoil: Callable[[bytes], bytes]) -> None:
    routed, general = new_client(), new_client()
    general.is_routed = False
    for _ in range(3):
        assert routed.produce() == general.produce()
    assert routed.send(spoil(routed.frame("orders", batch_of()))) == general.send(
        spoil(general.frame("orders", batch_of()))
    )
    assert routed.routed == 1
    assert routed.produce() == general.produce()
    assert routed.routed == 2


def delete(broker: Harness) -> None:
    (answer,) = broker.call(ApiKey.DELETE_TOPICS, 5, DeleteTopicsRequest(topic_names=["orders"])).responses
    assert answer.error_code == 0


def configure(broker: Harness, name: str, value: str) -> None:
    change = IncrementalAlterConfigsRequest.AlterableConfig(name, 0, value)
    resource = IncrementalAlterConfigsRequest.AlterConfigsResource(2, "orders", [change])
    (answer,) = broker.call(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, IncrementalAlterConfigsRequest([resource])).responses
    assert answer.error_code == 0


def test_a_route_does_not_outlive_its_topic() -> None:
    client = new_client()
    for _ in range(3):
        client.produce()
    delete(client.broker)
    assert code_of(client.produce()) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    client.broker.create_topic("orders")
    assert code_of(client.produce()) == 0
    assert client.routed == 1


def test_a_route_does_not_outlive_its_log() -> None:
    client = new_client()
    for _ in range(3):
        client.produce()
    store = client.broker.core.store
    (key, log), *_ = [(key, log) for key, log in store.logs.items() if log.topic == "orders"]
    del store.logs[key]
    log.close()
    client.broker.core.store.checkpoint()
    assert code_of(client.produce()) == 0
    assert client.routed == 1


def test_a_new_configuration_is_obeyed_at_once() -> None:
    client = new_client()
    for _ in range(3):
        client.produce()
    configure(client.broker, "max.message.bytes", "70")
    assert code_of(client.produce(batch=batch_of(bytes(100)))) == ErrorCode.MESSAGE_TOO_LARGE
    assert client.routed == 1


def test_the_time_of_the_append_is_in_the_answer() -> None:
    routed, general = new_client(), new_client()
    general.is_routed = False
    for client in (routed, general):
        configure(client.broker, "message.timestamp.type", "LogAppendTime")
    for _ in range(4):
        assert routed.produce() == general.produce()
        for client in (routed, general):
            client.broker.advance(1_000)
    assert routed.routed == 2


def test_a_permission_that_is_taken_away_ends_the_route() -> None:
    broker = Harness(pairs={"super.users": ADMIN})
    broker.connection.principal = ADMIN
    broker.create_topic("orders")
    client = Client(broker)
    need = (Operation.WRITE, ResourceType.TOPIC, "orders")
    grant(broker, ALICE, need)
    broker.connection.principal = ALICE
    for _ in range(3):
        assert code_of(client.produce()) == 0
    assert client.routed == 1
    grant(broker, ALICE, need, permission=Permission.DENY)
    broker.connection.principal = ALICE
    assert code_of(client.produce()) == ErrorCode.TOPIC_AUTHORIZATION_FAILED


def test_another_user_does_not_take_over_the_routes_of_the_connection() -> None:
    broker = Harness(pairs={"super.users": ADMIN})
    broker.connection.principal = ADMIN
    broker.create_topic("orders")
    client = Client(broker)
    for _ in range(3):
        assert code_of(client.produce()) == 0
    broker.connection.principal = ALICE
    assert code_of(client.produce()) == ErrorCode.TOPIC_AUTHORIZATION_FAILED


def test_a_session_that_is_over_is_over_for_routes() -> None:
    client = new_client()
    for _ in range(3):
        client.produce()
    connection, clock = client.broker.connection, client.broker.clock
    connection.sasl = SaslState("PLAIN", PlainExchange({}), clock.steady_ms() + 1_000)
    connection.is_restricted = True
    assert code_of(client.produce()) == 0
    client.broker.advance(1_001)
    assert "after the session's end" in str(client.produce())
    assert client.routed == 2


def test_a_full_disk_is_named_as_on_the_general_path() -> None:
    routed, general = new_client(), new_client()
    general.is_routed = False
    for _ in range(3):
        assert routed.produce() == general.produce()
    room_bytes = routed.broker.files.free_bytes
    for client in (routed, general):
        client.broker.files.free_bytes = 0
    gathered = routed.produce()
    assert gathered == general.produce()
    assert code_of(gathered) == ErrorCode.NONE  # it is in the journal, which has blocks on disk
    refused = routed.produce()
    assert refused == general.produce()
    assert code_of(refused) == ErrorCode.KAFKA_STORAGE_ERROR
    for client in (routed, general):
        client.broker.files.free_bytes = room_bytes
    assert routed.produce() == general.produce()


class Step(NamedTuple):
    """One request, or what happens between two."""

    topic: str
    partition: int
    acks: int
    version: int
    producer_id: int
    epoch: int
    sequence: int
    attributes: int
    compression: Compression
    size: int
    is_corrupt: bool
    transactional_id: str | None


steps = st.builds(
    Step,
    st.sampled_from(["orders", "orders", "keyed", "missing"]),
    st.sampled_from([0, 0, 1, 7]),
    st.sampled_from([-1, -1, 1, 0]),
    st.sampled_from([3, 9, 9, 12, 13]),
    st.sampled_from([-1, -1, 5, 6]),
    st.integers(0, 1),
    st.integers(0, 3),
    st.sampled_from([0, 0, 0, TRANSACTIONAL]),
    st.sampled_from([Compression.NONE, Compression.GZIP]),
    st.sampled_from([1, 1, 200, 20_000]),
    st.sampled_from([False, False, False, True]),
    st.sampled_from([None, None, None, "t"]),
)


def twin(*, is_routed: bool) -> Client:
    broker = Harness()
    broker.create_topic("orders", 2)
    broker.create_topic("keyed", cleanup_policy="compact")
    return Client(broker, is_routed=is_routed)


def frame_of(client: Client, step: Step) -> bytes:
    fields = {"attributes": step.attributes, "compression": step.compression}
    if step.producer_id >= 0:
        fields |= {"producer_id": step.producer_id, "producer_epoch": step.epoch, "base_sequence": step.sequence}
    batch = bytearray(batch_of(bytes(step.size), **fields))
    if step.is_corrupt:
        batch[-1] ^= 1
    places = {"partition": step.partition, "acks": step.acks, "version": step.version}
    return client.frame(step.topic, bytes(batch), transactional_id=step.transactional_id, **places)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(steps, st.integers(1, 4)), max_size=12), st.sampled_from(["", "delete", "configure"]))
def test_twins_with_and_without_routes_answer_and_store_the_same(runs: list[tuple[Step, int]], change: str) -> None:
    routed, general = twin(is_routed=True), twin(is_routed=False)
    for number, (step, times) in enumerate(runs):
        for _ in range(times):
            assert routed.send(frame_of(routed, step)) == general.send(frame_of(general, step))
        if number == len(runs) // 2 and change:
            for client in (routed, general):
                delete(client.broker) if change == "delete" else configure(client.broker, "max.message.bytes", "300")
            change = ""
    assert contents(routed.broker) == contents(general.broker)


def contents(broker: Harness) -> dict[tuple[str, int], bytes]:
    logs = broker.core.store.logs.values()
    return {
        (log.topic, log.partition): bytes(log.read(log.start_offset, 1 << 20, at_least_one=True))
        for log in logs
        if not log.topic.startswith("__")
    }
