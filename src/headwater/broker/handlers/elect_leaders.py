"""ElectLeaders, 0 to 2: the node already leads every partition, so no election is needed (KIP-460)."""

from headwater.broker.authorization import may_cluster
from headwater.broker.connection import Request
from headwater.broker.leadership import ClusterParts
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.elect_leaders import ElectLeadersRequest, ElectLeadersResponse
from headwater.security.acls import Operation

PREFERRED, UNCLEAN = 0, 1
PartitionResult = ElectLeadersResponse.PartitionResult
TopicResult = ElectLeadersResponse.ReplicaElectionResult


def handle(broker: ClusterParts, request: Request) -> Steps[ElectLeadersResponse]:
    body: ElectLeadersRequest = request.body
    wanted = body.topic_partitions
    if not may_cluster(broker, request, Operation.ALTER):
        failed = ErrorCode.CLUSTER_AUTHORIZATION_FAILED
        topics = [
            TopicResult(topic.topic, [PartitionResult(number, failed, None) for number in topic.partitions])
            for topic in wanted or ()
        ]
        return ElectLeadersResponse(error_code=failed, replica_election_results=topics)
    if request.api_version >= 1 and body.election_type not in (PREFERRED, UNCLEAN):
        return ElectLeadersResponse(error_code=ErrorCode.INVALID_REQUEST)
    if wanted is None:  # all partitions: those that need no election are left out
        topics = [TopicResult(name) for name in broker.metadata.topics]
        return ElectLeadersResponse(replica_election_results=topics)
    topics = []
    for topic in wanted:
        results = []
        for number in topic.partitions:
            results.append(elect(broker, topic.topic, number))
            yield
        topics.append(TopicResult(topic.topic, results))
    return ElectLeadersResponse(replica_election_results=topics)


def elect(broker: ClusterParts, name: str, number: int) -> PartitionResult:
    topic = broker.metadata.topics.get(name)
    if topic is None:
        return PartitionResult(number, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"No such topic as {name}")
    if not 0 <= number < topic.partitions:
        message = f"No such partition as {name}-{number}"
        return PartitionResult(number, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, message)
    message = "Leader election not needed for topic partition."
    return PartitionResult(number, ErrorCode.ELECTION_NOT_NEEDED, message)
