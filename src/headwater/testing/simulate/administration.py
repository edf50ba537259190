"""Simulated administrators: they create, delete and recreate topics, remove records, change settings, and look up times."""

from headwater.protocol.apis import ApiKey
from headwater.protocol.config_resources import AlterConfigOp, ConfigResourceType
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.create_topics import CreateTopicsRequest
from headwater.protocol.messages.delete_records import DeleteRecordsRequest
from headwater.protocol.messages.delete_topics import DeleteTopicsRequest
from headwater.protocol.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from headwater.protocol.messages.list_offsets import ListOffsetsRequest
from headwater.protocol.messages.metadata import MetadataRequest
from headwater.protocol.messages.produce import ProduceRequest
from headwater.testing.simulate.client import RETRIABLE, Call, Client
from headwater.testing.simulate.history import DeleteRecords, DeleteTopic, LookUp, Outcome
from headwater.testing.simulate.producers import PRODUCE_BY_ID, Producing, produce_request
from headwater.testing.simulate.records import Identity, batch_of
from headwater.testing.simulate.scene import Scene, TopicLife
from headwater.testing.simulate.world import Process


class Administrator(Client):
    """Creates topics, and occasionally does other administrative work."""

    def __init__(self, scene: Scene, name: str, topics: list[TopicLife]) -> None:
        super().__init__(scene, name)
        self.topics = topics

    def create(self, topic: TopicLife, configs: dict[str, str]) -> Call:
        """Tries to create a topic until it exists; sets its id."""
        own = [CreateTopicsRequest.CreatableTopicConfig(key, value) for key, value in configs.items()]
        wanted = CreateTopicsRequest.CreatableTopic(topic.name, topic.partitions, 1, configs=own)
        while not self.scene.is_over:
            answer = yield from self.call(ApiKey.CREATE_TOPICS, 7, CreateTopicsRequest([wanted]))
            error = answer.topics[0].error_code if answer is not None else None
            if error == ErrorCode.NONE:
                topic.topic_id = answer.topics[0].topic_id
                return True
            if error == ErrorCode.TOPIC_ALREADY_EXISTS:  # an earlier attempt was carried out
                topic.topic_id = yield from self.topic_id(topic.name)
                if topic.topic_id:
                    return True
            elif error is not None and error not in RETRIABLE:
                self.unexpected(f"the creation of {topic.name}", error)
                return False
            yield from self.back_off()
        return False

    def topic_id(self, name: str) -> Call:
        """The id of a topic, if it exists; empty if that is not known."""
        request = MetadataRequest([MetadataRequest.MetadataRequestTopic(name=name)], allow_auto_topic_creation=False)
        answer = yield from self.call(ApiKey.METADATA, 12, request)
        if answer is None or answer.topics[0].error_code:
            return b""
        return answer.topics[0].topic_id

    def run(self) -> Process:
        while not self.scene.is_ending:
            topic = self.random.choice(self.topics)
            if topic.is_trimmed and self.world.chance(0.4):
                yield from self.delete_records(topic)
            elif self.world.chance(0.15):
                yield from self.change_config(topic)
            else:
                yield from self.look_up(topic)
            yield from self.sleep(self.random.random() * 1500)

    def delete_records(self, topic: TopicLife) -> Call:
        partition = self.random.randrange(topic.partitions)
        end = yield from self.offset_at(topic, partition, -1)
        if end is None:
            return
        before = self.random.randrange(end[0] + 1)
        deletion = DeleteRecords(process=self.name, topic=topic.label, partition=partition, before=before)
        self.history.begin(deletion)
        wanted = DeleteRecordsRequest.DeleteRecordsPartition(partition, before)
        request = DeleteRecordsRequest([DeleteRecordsRequest.DeleteRecordsTopic(topic.name, [wanted])], 1000)
        answer = yield from self.call(ApiKey.DELETE_RECORDS, 2, request)
        if answer is None:
            return
        result = answer.topics[0].partitions[0]
        if result.error_code == ErrorCode.NONE:
            deletion.low_watermark = result.low_watermark
            self.history.end(deletion, Outcome.OK)
        elif result.error_code not in RETRIABLE:
            self.unexpected("a removal of records", result.error_code)

    def change_config(self, topic: TopicLife) -> Call:
        change = IncrementalAlterConfigsRequest.AlterableConfig
        size = self.random.choice(("1048576", "2097152"))
        resource = IncrementalAlterConfigsRequest.AlterConfigsResource(
            ConfigResourceType.TOPIC, topic.name, [change("segment.bytes", AlterConfigOp.SET, size)]
        )
        answer = yield from self.call(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, IncrementalAlterConfigsRequest([resource]))
        if answer is not None and answer.responses[0].error_code not in (ErrorCode.NONE, *RETRIABLE):
            self.unexpected("a change of a setting", answer.responses[0].error_code)

    def look_up(self, topic: TopicLife) -> Call:
        """Looks up a time near now, or some seconds ago."""
        partition = self.random.randrange(topic.partitions)
        timestamp = self.world.clock.wall_ms() - self.random.randrange(20_000)
        look_up = LookUp(process=self.name, topic=topic.label, partition=partition, timestamp=timestamp)
        self.history.begin(look_up)
        found = yield from self.offset_at(topic, partition, timestamp)
        if found is not None:
            look_up.offset, look_up.found_timestamp = found
            self.history.end(look_up, Outcome.OK)

    def offset_at(self, topic: TopicLife, partition: int, timestamp: int) -> Call:
        wanted = ListOffsetsRequest.ListOffsetsPartition(partition, -1, timestamp)
        request = ListOffsetsRequest(topics=[ListOffsetsRequest.ListOffsetsTopic(topic.name, [wanted])])
        answer = yield from self.call(ApiKey.LIST_OFFSETS, 8, request)
        if answer is None:
            return None
        result = answer.topics[0].partitions[0]
        if result.error_code:
            if result.error_code not in RETRIABLE and not self.scene.excuses(topic.label, partition):
                self.unexpected(f"a look-up in {topic.label}", result.error_code)
            return None
        return result.offset, result.timestamp


class Recycler(Administrator, Producing):
    """Creates a topic, writes to it, deletes it, and creates another with the same name. It tells them apart by their ids."""

    def run(self) -> Process:
        for life in range(1, 1000):
            if self.scene.is_ending:
                return
            topic = self.scene.new_topic("recycled", 1, label=f"recycled#{life}")
            topic.may_be_gone = True
            self.identity = Identity()
            made = yield from self.create(topic, {})
            made = made and (yield from self.init_producer_id())
            if not made:
                return
            self.scene.recycled = topic
            yield from self.use(topic, life)
            if self.scene.is_ending or self.world.chance(0.1):
                return
            yield from self.delete(topic)

    def use(self, topic: TopicLife, life: int) -> Call:
        for n in range(self.random.randint(1, 12)):
            if self.scene.is_ending:
                return
            value = b"r%d:%d" % (life, n)
            send = self.begin_send(topic, 0, (value,), producer=f"{self.name}/{life}")
            request = produce_request(send, batch_of(send, self.identity, n, self.random), topic)
            done = yield from self.write(request)
            if done is None:
                return
            send.offset = done
            self.history.end(send, Outcome.OK)
            yield from self.sleep(self.random.random() * 500)

    def write(self, request: ProduceRequest) -> Call:
        while not self.scene.is_over:
            answer = yield from self.call(ApiKey.PRODUCE, PRODUCE_BY_ID, request)
            if answer is not None:
                result = answer.responses[0].partition_responses[0]
                if not result.error_code:
                    return result.base_offset
                if result.error_code not in RETRIABLE:
                    self.unexpected("a send to a topic that is not deleted", result.error_code)
                    return None
            yield from self.back_off()
        return None

    def delete(self, topic: TopicLife) -> Call:
        deletion = self.history.begin(DeleteTopic(process=self.name, topic=topic.label))
        topic.is_deleted = True
        state = DeleteTopicsRequest.DeleteTopicState(topic_id=topic.topic_id, name=None)
        while not self.scene.is_over:
            answer = yield from self.call(ApiKey.DELETE_TOPICS, 6, DeleteTopicsRequest([state], timeout_ms=1000))
            error = answer.responses[0].error_code if answer is not None else None
            if error in (ErrorCode.NONE, ErrorCode.UNKNOWN_TOPIC_ID):
                self.history.end(deletion, Outcome.OK)
                return
            if error is not None and error not in RETRIABLE:
                self.unexpected("the deletion of a topic", error)
                return
            yield from self.back_off()
