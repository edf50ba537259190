"""A simulated client: it sends requests, and reconnects when its connection is lost.

`call` is for processes. It waits for the answer, and returns None if there was none: the connection was lost, the broker
was down, or the time was up. Then nobody knows whether the request was carried out. `request` does the same with a
callback, for clients with several requests in flight.
"""

from collections.abc import Callable, Generator
from typing import Any

from headwater.protocol.api_classes import response_class
from headwater.protocol.apis import APIS
from headwater.protocol.compiled import decode
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.frames import request_frame, response_header_version
from headwater.testing.simulate.history import History, Outcome
from headwater.testing.simulate.network import Link
from headwater.testing.simulate.scene import Scene
from headwater.testing.simulate.world import Process, Wait

TIMEOUT_MS = 3000.0
REFUSED_MS = 40.0
BACKOFF_MS_MAX = 200.0
CORRELATION = slice(4, 8)
Call = Generator[Wait, Any, Any]

# After these errors a client sends the same request again.
RETRIABLE = frozenset(
    {
        ErrorCode.UNKNOWN_SERVER_ERROR,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.CONCURRENT_TRANSACTIONS,
        ErrorCode.UNSTABLE_OFFSET_COMMIT,
        ErrorCode.CORRUPT_MESSAGE,
    }
)


class Client:
    """See the module's docstring."""

    def __init__(self, scene: Scene, name: str) -> None:
        self.scene = scene
        self.world, self.node = scene.world, scene.node
        self.history: History = scene.history
        self.random = scene.world.random
        self.name = name
        self.link: Link | None = None
        self.pending: dict[int, tuple[int, int, Callable[[Any], None]]] = {}
        self.correlation = 0
        self.refused_until_ms = 0.0  # when a pending attempt to connect fails, with its requests
        self.is_busy = False  # with work that has to be finished before the end of the run

    # -- requests

    def request(
        self, key: int, version: int, message: Any, resume: Callable[[Any], None], timeout_ms: float = TIMEOUT_MS
    ) -> None:
        """Sends a request; `resume` gets the answer, or None. It is never called before this returns."""
        link = self.connect()
        if link is None:
            if self.refused_until_ms <= self.world.now_ms:
                self.refused_until_ms = self.world.now_ms + REFUSED_MS
            self.world.at(self.refused_until_ms, lambda: resume(None))
            return
        self.correlation += 1
        correlation = self.correlation
        self.pending[correlation] = key, version, resume
        link.send(request_frame(APIS[key], version, correlation, self.name, message))
        self.world.later(timeout_ms, lambda: self.time_out(correlation))

    def call(self, key: int, version: int, message: Any, timeout_ms: float = TIMEOUT_MS) -> Call:
        """Sends a request, in a process; returns the answer, or None."""
        answer = yield lambda resume: self.request(key, version, message, resume, timeout_ms)
        return answer

    def sleep(self, delay_ms: float) -> Process:
        return self.world.sleep(delay_ms)

    def back_off(self) -> Process:
        return self.world.sleep(10 + self.random.random() * BACKOFF_MS_MAX)

    # -- the connection

    def connect(self) -> Link | None:
        is_refused = self.refused_until_ms > self.world.now_ms or self.node.core is None
        if self.link is None and not is_refused:
            self.link = self.scene.connect(self.received, self.lost)
        return self.link

    def disconnect(self) -> None:
        """Gives up the connection, with all requests in flight on it."""
        if self.link is not None:
            self.link.close()
        self.lost()

    def lost(self) -> None:
        self.link = None
        pending, self.pending = self.pending, {}
        for _, _, resume in pending.values():
            resume(None)

    def time_out(self, correlation: int) -> None:
        if correlation in self.pending:
            self.disconnect()

    def received(self, frame: bytes) -> None:
        entry = self.pending.pop(int.from_bytes(frame[CORRELATION], "big"), None)
        if entry is None:
            self.world.find(f"{self.name} got an answer that it did not wait for")
            return
        key, version, resume = entry
        start = 9 if response_header_version(APIS[key], version) else 8
        message, end = decode(response_class(key), version, frame, start)
        if end != len(frame):
            self.world.find(f"{self.name} got {len(frame) - end} bytes after an answer of {APIS[key].name}")
        resume(message)

    # -- what clients have in common

    def unexpected(self, what: str, error: int) -> None:
        """Reports an answer that no client should get here."""
        self.world.find(f"{self.name}: {what} was answered with {ErrorCode(error).name}")

    def outcome(self, error: int, *, was_uncertain: bool) -> Outcome:
        """The outcome of a refused operation: unknown if an earlier attempt may have been carried out."""
        if error == ErrorCode.NONE:
            return Outcome.OK
        return Outcome.UNKNOWN if was_uncertain else Outcome.FAILED
