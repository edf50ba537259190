"""WriteTxnMarkers, 1 to 2: ends a producer's transaction in the partitions named; answers when that is on disk.

Brokers send it to each other. Here an administration tool sends it (`kafka-transactions abort`, for hanging transactions).
"""

from headwater.broker.authorization import may_cluster
from headwater.broker.connection import Request
from headwater.broker.parts import TransactionParts
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.write_txn_markers import WriteTxnMarkersRequest, WriteTxnMarkersResponse
from headwater.replay.deferred import Deferred
from headwater.replay.sync_number import NO_SYNC, SyncNumber
from headwater.security.acls import Operation
from headwater.storage.producers import FencedMarkerError

Marker = WriteTxnMarkersRequest.WritableTxnMarker
MarkerResult = WriteTxnMarkersResponse.WritableTxnMarkerResult
TopicResult = WriteTxnMarkersResponse.WritableTxnMarkerTopicResult
PartitionResult = WriteTxnMarkersResponse.WritableTxnMarkerPartitionResult


def handle(broker: TransactionParts, request: Request) -> Steps[Deferred[WriteTxnMarkersResponse]]:
    body: WriteTxnMarkersRequest = request.body
    is_allowed = may_cluster(broker, request, Operation.ALTER) or may_cluster(broker, request, Operation.CLUSTER_ACTION)
    response, last_sync = WriteTxnMarkersResponse(), NO_SYNC
    for marker in body.markers:
        result = MarkerResult(marker.producer_id)
        response.markers.append(result)
        for topic in marker.topics:
            partitions = []
            for number in topic.partition_indexes:
                yield
                error, sync = ErrorCode.CLUSTER_AUTHORIZATION_FAILED, NO_SYNC
                if is_allowed:
                    error, sync = write(broker, request, marker, topic.name, number)
                partitions.append(PartitionResult(number, error))
                last_sync = max(last_sync, sync)
            result.topics.append(TopicResult(topic.name, partitions))
    return broker.answer_when_durable(last_sync, response)


def write(
    broker: TransactionParts, request: Request, marker: Marker, name: str, number: int
) -> tuple[ErrorCode, SyncNumber]:
    log, error = broker.partitions.find(broker.metadata.topics.get(name), number, endpoint=request.connection.endpoint)
    if log is None:
        return error, NO_SYNC
    try:
        sync = broker.coordination.markers.write(
            log,
            marker.producer_id,
            marker.producer_epoch,
            commit=marker.transaction_result,
            coordinator_epoch=marker.coordinator_epoch,
        )
    except FencedMarkerError as fenced:
        is_coordinator = fenced.coordinator
        return ErrorCode.TRANSACTION_COORDINATOR_FENCED if is_coordinator else ErrorCode.INVALID_PRODUCER_EPOCH, NO_SYNC
    except OSError:
        return ErrorCode.KAFKA_STORAGE_ERROR, NO_SYNC
    return ErrorCode.NONE, sync
