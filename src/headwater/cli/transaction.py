"""`headwater transaction`: lists and describes transactions, and aborts one that hangs."""

from typing import Annotated, Any

from headwater.cli.command import Commands
from headwater.cli.connection import NO_OPTIONS, Connection
from headwater.cli.errors import CommandError
from headwater.cli.markers import Argument, Option
from headwater.cli.options import Output, OutputOption, show
from headwater.cli.wire import brokers_of, check, partition_leader, transaction_coordinator, wire_of
from headwater.protocol.messages.describe_producers import DescribeProducersRequest
from headwater.protocol.messages.describe_transactions import DescribeTransactionsRequest
from headwater.protocol.messages.list_transactions import ListTransactionsRequest
from headwater.protocol.messages.write_txn_markers import WriteTxnMarkersRequest

app = Commands()
TransactionalId = Annotated[str, Argument("ID")]


@app.command("list", help="List transactional ids.")
def list_transactions(
    state: Annotated[
        list[str] | None, Option(help="Only transactions in this state, such as Ongoing; repeatable.")
    ] = None,
    output: OutputOption = Output.TABLE,
    connection: Connection = NO_OPTIONS,
) -> None:
    listed = []  # each broker lists those that it coordinates
    with wire_of(connection) as any_broker:
        for broker in brokers_of(any_broker):
            answer = broker.ask(ListTransactionsRequest(list(state or ())))
            check(answer.error_code, f"listing transactions of {broker.named}")
            if answer.unknown_state_filters:
                raise CommandError(f"unknown state {', '.join(answer.unknown_state_filters)}; Ongoing is one")
            listed += answer.transaction_states
    rows = [
        {"id": found.transactional_id, "producer id": found.producer_id, "state": found.transaction_state}
        for found in sorted(listed, key=lambda found: str(found.transactional_id))
    ]
    show(rows, output)


@app.command(help="Show a transactional id: its producer, state, age and partitions.")
def describe(
    name: TransactionalId,
    output: OutputOption = Output.TABLE,
    connection: Connection = NO_OPTIONS,
) -> None:
    with wire_of(connection) as any_broker, transaction_coordinator(any_broker, name) as broker:
        answer = broker.ask(DescribeTransactionsRequest([name]))
    found = answer.transaction_states[0]
    check(found.error_code, f"describing transactional id {name}")
    partitions = [f"{topic.topic}-{number}" for topic in found.topics for number in topic.partitions]
    row: dict[str, Any] = {
        "id": found.transactional_id,
        "state": found.transaction_state,
        "producer id": found.producer_id,
        "epoch": found.producer_epoch,
        "timeout ms": found.transaction_timeout_ms,
        "started ms": found.transaction_start_time_ms if found.transaction_start_time_ms >= 0 else None,
        "partitions": ", ".join(partitions),
    }
    show([row], output)


@app.command(help="Abort the transaction that a producer has left open in a partition.")
def abort(
    topic: Annotated[str, Argument("TOPIC")],
    partition: Annotated[int, Argument("PARTITION")],
    start_offset: Annotated[int, Option(help="The offset at which the transaction begins: the last stable offset.")],
    connection: Connection = NO_OPTIONS,
) -> None:
    with wire_of(connection) as any_broker, partition_leader(any_broker, topic, partition) as broker:
        wanted = DescribeProducersRequest([DescribeProducersRequest.TopicRequest(topic, [partition])])
        described = broker.ask(wanted).topics[0].partitions[0]
        check(described.error_code, f"describing the producers of {topic}-{partition}", described.error_message)
        open_ones = [p for p in described.active_producers if p.current_txn_start_offset == start_offset]
        if not open_ones:
            raise CommandError(f"{topic}-{partition} has no open transaction that begins at offset {start_offset}")
        producer = open_ones[0]
        marker = WriteTxnMarkersRequest.WritableTxnMarker(
            producer.producer_id,
            producer.producer_epoch,
            False,
            [WriteTxnMarkersRequest.WritableTxnMarkerTopic(topic, [partition])],
            max(0, producer.coordinator_epoch),
        )
        answer = broker.ask(WriteTxnMarkersRequest([marker]))
        check(answer.markers[0].topics[0].partitions[0].error_code, f"aborting in {topic}-{partition}")
