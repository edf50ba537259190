"""The wire client for commands, for requests that librdkafka does not offer."""

from collections.abc import Iterator
from contextlib import contextmanager

from headwater.cli.connection import TIMEOUT_MS, Connection
from headwater.client.errors import answered_error
from headwater.client.wire import Wire
from headwater.client.wire_settings import Address, wire_settings
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.find_coordinator import FindCoordinatorRequest
from headwater.protocol.messages.metadata import MetadataRequest

TRANSACTION = 1  # the type of a coordinator's key
FIRST_WITH_KEYS = 4  # of FindCoordinator
FIRST_WITHOUT_CREATION = 4  # of Metadata


@contextmanager
def wire_of(connection: Connection) -> Iterator[Wire]:
    """A client of the cluster. Raises CommandError and ClientError."""
    settings = connection.settings()
    with Wire(wire_settings(settings["bootstrap.servers"], settings), timeout_ms=TIMEOUT_MS) as wire:
        yield wire


def brokers_of(any_broker: Wire) -> Iterator[Wire]:
    """A client of each broker of the cluster, one after the other. Raises ClientError."""
    for node in any_broker.ask(MetadataRequest([])).brokers:
        with any_broker.at(Address(node.host, node.port)) as broker:
            yield broker


@contextmanager
def transaction_coordinator(any_broker: Wire, transactional_id: str) -> Iterator[Wire]:
    """A client of the broker that keeps a transactional id's state. Raises ClientError."""
    request = FindCoordinatorRequest(key_type=TRANSACTION, coordinator_keys=[transactional_id])
    found = any_broker.ask(request, at_least=FIRST_WITH_KEYS).coordinators[0]
    check(found.error_code, f"looking for the coordinator of transactional id {transactional_id}", found.error_message)
    with any_broker.at(Address(found.host, found.port)) as broker:
        yield broker


@contextmanager
def partition_leader(any_broker: Wire, topic: str, partition: int) -> Iterator[Wire]:
    """A client of the broker that leads a partition. Raises ClientError."""
    wanted = [MetadataRequest.MetadataRequestTopic(name=topic)]
    answer = any_broker.ask(MetadataRequest(wanted, allow_auto_topic_creation=False), at_least=FIRST_WITHOUT_CREATION)
    (found,) = answer.topics
    what = f"looking for the leader of {topic}-{partition}"
    check(found.error_code, what)
    leaders = {each.partition_index: each for each in found.partitions}
    if partition not in leaders:
        check(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, what)
    check(leaders[partition].error_code, what)
    (node,) = (node for node in answer.brokers if node.node_id == leaders[partition].leader_id)
    with any_broker.at(Address(node.host, node.port)) as broker:
        yield broker


def check(code: int, what: str, message: str | None = None) -> None:
    """Raises ClientError for an error code; `what` says what was being done."""
    if code:
        raise answered_error(code, what, message)
