"""ListOffsets: the newest record by its timestamp, for readers of all records and of committed ones."""

import pytest

from headwater.protocol.apis import ApiKey
from headwater.protocol.messages.list_offsets import ListOffsetsRequest
from tests.broker.harness import Harness
from tests.broker.transactional import Producer

MAX_TIMESTAMP = -3


def newest(broker: Harness, isolation: int) -> int:
    wanted = ListOffsetsRequest.ListOffsetsTopic("t", [ListOffsetsRequest.ListOffsetsPartition(0, -1, MAX_TIMESTAMP)])
    found = broker.call(ApiKey.LIST_OFFSETS, 10, ListOffsetsRequest(-1, isolation, [wanted])).topics[0].partitions[0]
    assert found.error_code == 0
    assert (found.timestamp == -1) == (found.offset == -1)
    return int(found.offset)


@pytest.mark.parametrize("commit", [True, False])
def test_what_an_open_transaction_wrote_is_not_the_newest_that_is_committed(commit: bool) -> None:
    broker = Harness()
    broker.create_topic("t")
    broker.produce("t", b"first")
    broker.clock.advance(10)
    producer = Producer(broker, "tx")
    assert producer.init().error_code == 0
    assert producer.produce("t", b"second") == 0
    assert (newest(broker, 0), newest(broker, 1)) == (1, -1)
    broker.clock.advance(10)
    assert producer.end(commit=commit) == 0
    assert (newest(broker, 0), newest(broker, 1)) == (2, 2)  # the marker's own offset, as in Kafka
