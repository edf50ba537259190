"""Reads the messages of a topic from one place to another, without a group. `hw.Reader` makes events of them.

Start and end are found once, when the reader is made. A partition is complete when the reader has reached its end; what
librdkafka has fetched beyond is dropped. The last offset before an end need not be that of a message
(`partition_reader`), so what counts is the position, not the last message.

A program that needs no events, such as `headwater consume`, uses this class alone: it adds nothing per message to what
librdkafka costs.
"""

from collections import deque
from collections.abc import Sequence

from confluent_kafka import KafkaException, Message

from headwater.client.admin import Admin
from headwater.client.connections import Notes, Settings
from headwater.client.errors import raise_interrupt, translate
from headwater.client.names import checked_topic
from headwater.client.offsets import last_offsets, place_of
from headwater.client.partition_reader import PartitionReader
from headwater.client.positions import Partition
from headwater.client.topic_offsets import FIRST, LAST, EndPlace, StartPlace, TopicOffsets, check_place


class MessageReader:
    """See the module's docstring; `hw.Reader` says what the parameters mean. `admin` is used only to find start and end.

    Raises ConfigurationError, UnknownTopicError and other ClientErrors.
    """

    def __init__(
        self,
        admin: Admin,
        topic: str,
        *,
        start: StartPlace = "earliest",
        end: EndPlace | None = None,
        partitions: Sequence[int] | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.what = f"reading {checked_topic(topic)}"
        check_place("start", start, (FIRST, LAST))
        if end is not None:
            check_place("end", end, (LAST,))
        self.ahead: deque[Message] = deque()  # fetched, and not handed over yet
        offsets = TopicOffsets(admin, topic, settings or {})
        numbers = offsets.partitions(start, partitions)
        self.handed = offsets.find(start, numbers)  # the offset after the last message that was handed over
        self.ends = offsets.find(end, numbers) if end is not None else {}
        self.open = {place for place, offset in self.handed.items() if not self.is_beyond(place, offset)}
        starts = {place: self.handed[place] for place in self.open}
        self.source = PartitionReader(admin.address, starts, what=self.what, settings=settings)

    @property
    def notes(self) -> Notes:
        """What librdkafka reports of its connections."""
        return self.source.notes

    @property
    def is_complete(self) -> bool:
        """Whether everything up to the end was handed over."""
        return not (self.ahead or self.open)

    def is_beyond(self, place: Partition, offset: int) -> bool:
        """Whether an offset is at the end of its partition, or after it."""
        return place in self.ends and offset >= self.ends[place]

    def fill(self, number_max: int, timeout_s: float) -> None:
        """Fetches more messages if all before were handed over. Raises ClientError."""
        if self.ahead:
            return
        try:
            messages = self.source.poll(number_max, timeout_s)
        except KafkaException as error:
            raise translate(error, self.what) from error
        except SystemError as error:
            raise_interrupt(error)
        positions = self.source.positions
        if any(positions[place] > end for place, end in self.ends.items() if place in positions):
            messages = [message for message in messages if not self.is_beyond(of(message), message.offset())]
        self.ahead.extend(messages)
        self.open -= {place for place in self.open if self.is_beyond(place, positions[place])}

    def hand_over(self, number_max: int) -> list[Message]:
        """Some of the fetched messages. They count as read."""
        if number_max >= len(self.ahead):
            messages = list(self.ahead)
            self.ahead.clear()
        else:
            messages = [self.ahead.popleft() for _ in range(number_max)]
        for place, offset in last_offsets(messages).items():
            self.handed[Partition(*place)] = offset
        return messages

    def hand_over_one(self) -> list[Message]:
        """The same for one message, or none. An iteration calls this for every event, so it does little."""
        if not self.ahead:
            return []
        message = self.ahead.popleft()
        self.handed[of(message)] = message.offset() + 1
        return [message]

    def close(self) -> None:
        """Ends the reader. Its positions are not kept anywhere."""
        self.ahead.clear()
        self.source.close()


def of(message: Message) -> Partition:
    return Partition(*place_of(message))
