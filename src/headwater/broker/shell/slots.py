"""The order of answers: Kafka's clients expect answers in the order of their requests, whichever is ready first."""

from headwater.effects.buffers import Buffer


class Slot:
    """A place in the order of answers. It holds its request until the answer is ready, then the answer."""

    __slots__ = ("answer_bytes", "buffers", "is_ready", "request_bytes")

    def __init__(self, request_bytes: int) -> None:
        self.buffers: list[Buffer] | None = None
        self.is_ready = False
        self.request_bytes = request_bytes
        self.answer_bytes = 0
