"""What is worked out from many messages at once, without looking at each."""

from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from headwater.client.offsets import first_offsets, last_offsets, outside


@st.composite
def batches(draw: st.DrawFn) -> list[Message]:
    """Messages as librdkafka hands them over: of each partition in order, in runs, with gaps where transactions ended."""
    offsets: dict[tuple[str, int], int] = {}
    messages = []
    for topic, partition, length, gap in draw(
        st.lists(st.tuples(st.sampled_from("tu"), st.integers(0, 1), st.integers(1, 5), st.integers(0, 2)), max_size=8)
    ):
        start = offsets.get((topic, partition), draw(st.integers(0, 3))) + gap
        messages += [Message(topic=topic, partition=partition, offset=start + n) for n in range(length)]
        offsets[topic, partition] = start + length
    return messages


@given(batches())
def test_positions_are_after_the_last_message_of_each_partition(messages: list[Message]) -> None:
    assert last_offsets(messages) == {(m.topic(), m.partition()): m.offset() + 1 for m in messages}


@given(batches())
def test_positions_are_the_same_where_the_topic_is_known(messages: list[Message]) -> None:
    of_one = [message for message in messages if message.topic() == "t"]
    assert last_offsets(of_one, is_of_one_topic=True) == last_offsets(of_one)


@given(batches())
def test_positions_begin_at_the_first_message_of_each_partition(messages: list[Message]) -> None:
    expected: dict[tuple[str, int], int] = {}
    for message in messages:
        expected.setdefault((message.topic(), message.partition()), message.offset())
    assert first_offsets(messages) == expected


def test_a_partition_in_the_midst_of_another_has_its_position() -> None:
    """The marker of a transaction has left a gap, which makes up for the message of the other partition."""
    places = [("t", 0, 0), ("t", 1, 7), ("t", 0, 2)]
    messages = [Message(topic=topic, partition=partition, offset=offset) for topic, partition, offset in places]
    assert last_offsets(messages) == {("t", 0): 3, ("t", 1): 8}
    assert outside(messages, {("t", 0)}) == [messages[1]]
