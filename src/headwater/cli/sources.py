"""Where `headwater consume` gets its messages from: a topic, or the part of it that a group assigns to this member.

Both are what `hw.Reader` and `hw.Consumer` make events of. A command prints messages as they are, so it needs no events.
"""

from typing import TYPE_CHECKING, Any, Protocol

from headwater.cli.errors import CommandError

if TYPE_CHECKING:
    from confluent_kafka import Message

    from headwater.client.connections import Notes
    from headwater.client.group_reader import GroupReader
    from headwater.client.message_reader import MessageReader

POLL_S = 0.25


class Source(Protocol):
    """Messages, up to an end."""

    @property
    def notes(self) -> "Notes":
        """What librdkafka reports of its connections."""
        ...

    def read(self, number_max: int) -> "list[Message]":
        """The next messages, or none after a short wait. Raises ClientError."""
        ...

    def confirm(self) -> None:
        """What was read is printed. Raises ClientError."""
        ...

    def is_complete(self) -> bool:
        """Whether there is nothing more to read."""
        ...

    def check_idle(self) -> None:
        """Raises CommandError if nothing can come, though nothing is wrong with the broker."""
        ...

    def close(self) -> None: ...


class TopicSource:
    """A topic without a group."""

    def __init__(self, reader: "MessageReader") -> None:
        self.reader = reader
        self.notes = reader.notes

    def read(self, number_max: int) -> "list[Message]":
        self.reader.fill(number_max, POLL_S)
        return self.reader.hand_over(number_max)

    def confirm(self) -> None:
        """Nothing is remembered."""

    def is_complete(self) -> bool:
        return self.reader.is_complete

    def check_idle(self) -> None:
        """All partitions are this reader's."""

    def close(self) -> None:
        self.reader.close()


class GroupSource:
    """The partitions that a group assigns. What is printed is committed."""

    def __init__(self, reader: "GroupReader[Any]") -> None:
        self.reader = reader
        self.notes = reader.notes

    def read(self, number_max: int) -> "list[Message]":
        messages = self.reader.fetch(number_max, POLL_S)
        if not messages and self.reader.absent is not None:
            raise self.reader.absent
        return messages

    def confirm(self) -> None:
        self.reader.progress.deliver_all()
        self.reader.commit()

    def is_complete(self) -> bool:
        return self.reader.progress.is_at_end

    def check_idle(self) -> None:
        if not self.reader.progress.states:
            raise CommandError("the group assigned no partition to this member; other members have all of them")

    def close(self) -> None:
        self.reader.close()
