"""DescribeProducers, 0: a partition's known producers, and where their open transactions begin (KIP-664)."""

from collections.abc import Iterable

from headwater.broker.authorization import may_topic
from headwater.broker.connection import Request
from headwater.broker.parts import LogParts
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.describe_producers import DescribeProducersRequest, DescribeProducersResponse
from headwater.security.acls import Operation

PartitionResponse = DescribeProducersResponse.PartitionResponse


def handle(broker: LogParts, request: Request) -> Steps[DescribeProducersResponse]:
    body: DescribeProducersRequest = request.body
    response = DescribeProducersResponse()
    for name, numbers in partitions_by_topic((topic.name, topic.partition_indexes) for topic in body.topics).items():
        found = []
        for number in numbers:
            found.append(describe(broker, request, name, number))
            yield
        response.topics.append(DescribeProducersResponse.TopicResponse(name, found))
    return response


def partitions_by_topic(named: Iterable[tuple[str, list[int]]]) -> dict[str, dict[int, None]]:
    """Each partition once, however often a request names it, because its answer may be a thousand times as large as its name."""
    found: dict[str, dict[int, None]] = {}
    for name, numbers in named:
        found.setdefault(name, {}).update(dict.fromkeys(numbers))
    return found


def describe(broker: LogParts, request: Request, name: str, number: int) -> PartitionResponse:
    if not may_topic(broker, request, Operation.READ, name):
        return PartitionResponse(number, ErrorCode.TOPIC_AUTHORIZATION_FAILED)
    log, error = broker.partitions.find(
        broker.metadata.topics.get(name), number, endpoint=request.connection.endpoint, from_follower=True
    )
    if log is None:
        return PartitionResponse(number, error)
    return PartitionResponse(
        number,
        active_producers=[
            DescribeProducersResponse.ProducerState(
                producer_id,
                entry.epoch,
                entry.batches[-1].last_sequence if entry.batches else -1,
                entry.last_timestamp,
                entry.coordinator_epoch,
                log.producers.ongoing.get(producer_id, -1),
            )
            for producer_id, entry in log.producers.entries.items()
        ],
    )
