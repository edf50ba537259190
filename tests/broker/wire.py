"""A small blocking client for tests: our own frames on a real socket, odd ones too. What an answer says `Conversation` knows."""

import socket
import struct
from typing import Any, Self, Unpack

from headwater.client.conversation import Conversation
from headwater.protocol.apis import APIS, ApiKey
from headwater.protocol.frames import request_frame
from headwater.protocol.messages.create_topics import CreateTopicsRequest
from headwater.protocol.messages.fetch import FetchRequest
from headwater.protocol.messages.produce import ProduceRequest
from tests.broker.topic_configs import TopicConfigs, creatable_configs


class Wire:
    """One connection."""

    def __init__(self, address: str, timeout_s: float = 60.0) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.socket.close()

    def read(self, size: int) -> bytes:
        parts = []
        while size:
            part = self.socket.recv(size)
            if not part:
                raise ConnectionError("the broker closed the connection")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def read_frame(self) -> bytes:
        return self.read(struct.unpack(">i", self.read(4))[0])

    def send(self, key: int, version: int, message: Any, correlation_id: int = 1) -> None:
        self.socket.sendall(request_frame(APIS[key], version, correlation_id, "wire", message))

    def receive(self, key: int, version: int, correlation_id: int = 1) -> Any:
        frame = self.read_frame()
        conversation = Conversation("the broker", "wire", negotiates=False)
        conversation.expect(correlation_id, key, version)
        conversation.receive(struct.pack(">i", len(frame)) + frame)
        return conversation.next_answer()

    def call(self, key: int, version: int, message: Any) -> Any:
        self.send(key, version, message)
        return self.receive(key, version)

    def create_topic(self, name: str, partitions: int = 1, **configs: Unpack[TopicConfigs]) -> None:
        wanted = CreateTopicsRequest.CreatableTopic(name, partitions, 1, configs=creatable_configs(configs))
        answer = self.call(ApiKey.CREATE_TOPICS, 7, CreateTopicsRequest([wanted], 10_000))
        assert answer.topics[0].error_code == 0, answer

    def produce(self, topic: str, partition: int, batch: bytes | bytearray, acks: int = -1) -> int:
        """Returns the error code."""
        data = ProduceRequest.PartitionProduceData(partition, batch)
        body = ProduceRequest(None, acks, 10_000, [ProduceRequest.TopicProduceData(name=topic, partition_data=[data])])
        answer = self.call(ApiKey.PRODUCE, 9, body)
        return int(answer.responses[0].partition_responses[0].error_code)

    def fetch(self, topic: str, partition: int, offset: int, size_max: int = 8 << 20) -> bytes:
        wanted = FetchRequest.FetchPartition(partition, fetch_offset=offset, partition_max_bytes=size_max)
        request = FetchRequest(
            max_wait_ms=100,
            min_bytes=1,
            max_bytes=size_max,
            topics=[FetchRequest.FetchTopic(topic=topic, partitions=[wanted])],
        )
        answer = self.call(ApiKey.FETCH, 12, request)
        data = answer.responses[0].partitions[0]
        assert data.error_code == 0, data
        return bytes(data.records or b"")
