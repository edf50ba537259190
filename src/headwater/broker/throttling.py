"""Throttling: a client that has used more than its quota gets its answer, and is not read from for a while (KIP-219).

An answer says how long its client has to wait. A client that knows KIP-219 waits by itself; any other is made to, since the
broker reads nothing more from its connection until the time is over (it is *muted*). Three things are metered here, and the
longest of their waits counts:

    producer_byte_rate    the bytes of Produce requests
    consumer_byte_rate    the bytes of records in answers to Fetch; above the quota the answer is empty, and not counted
    request_percentage    the time in which requests are handled, in per cent of one thread; it waits a second at most

Mutations of the cluster are metered by their handlers (`Mutations`): a request is refused topic by topic from the version
on that knows THROTTLING_QUOTA_EXCEEDED, and only made to wait below.

Where no quota is set, nothing of this is asked for a request but whether there is one.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from types import GeneratorType
from typing import Any, Protocol

from headwater.broker.connection import Repeatable, Request
from headwater.broker.occurrences import Occurrences
from headwater.effects.clock import Clock
from headwater.effects.work import Steps
from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.protocol.messages.fetch import FetchResponse
from headwater.protocol.messages.produce import ProduceResponse
from headwater.replay.deferred import Deferred
from headwater.security.quotas import METERS_MAX, QuotaKey, Quotas, Rate, TokenBucket

WAIT_MS_MAX = 2**31 - 1
NO_WAIT = ProduceResponse()
NOT_METERED = frozenset({ApiKey.SASL_HANDSHAKE, ApiKey.SASL_AUTHENTICATE})  # whose they are is not known yet


class Settings(Protocol):
    """Over which time rates are measured."""

    quota_window_num: int
    quota_window_size_seconds: int
    controller_quota_window_num: int
    controller_quota_window_size_seconds: int


class Throttling:
    """The meters of all clients, and what follows from them. `settings` answers with those in force now."""

    def __init__(
        self, quotas: Quotas, settings: Callable[[], Settings], clock: Clock, occurrences: Occurrences
    ) -> None:
        self.quotas, self.settings, self.clock, self.occurrences = quotas, settings, clock, occurrences
        # By key, user and client id; the one that was used last comes last.
        self.meters: OrderedDict[tuple[str, str, str], Rate | TokenBucket] = OrderedDict()

    @property
    def is_active(self) -> bool:
        """Whether any quota is set."""
        return bool(self.quotas.keys)

    # -- requests and their answers

    def add_wait(self, request: Request, size_bytes: int, began_ms: float, answer: Any) -> Any:
        """A handler's answer, of whatever kind, which says how long its client has to wait."""
        if request.api_key in NOT_METERED or request.connection.is_of_planes:
            return answer
        spent_ms = self.clock.steady_ms() - began_ms
        if isinstance(answer, Repeatable):
            answer = answer.message
        return self.finish(request, size_bytes, spent_ms, answer)

    def finish(self, request: Request, size_bytes: int, spent_ms: float, answer: Any) -> Any:
        """The answer with its wait; later, if it is not there yet or is still to be worked out."""
        if isinstance(answer, Deferred):
            return answer.then(partial(self.finish, request, size_bytes, spent_ms))
        if isinstance(answer, GeneratorType):
            return self.finish_in_steps(request, size_bytes, spent_ms, answer)
        wait_ms = self.mute(request, self.wait_ms(request, size_bytes, spent_ms, answer))
        return answer_with_wait(request, answer, wait_ms) if wait_ms else answer

    def wait_for_route(self, size_bytes: int, began_ms: float, request: Request) -> int:
        """How long the client of a produce request that took a route has to wait."""
        if request.connection.is_of_planes:
            return 0
        spent_ms = self.clock.steady_ms() - began_ms
        answer = NO_WAIT if request.body.acks else None
        return self.mute(request, self.wait_ms(request, size_bytes, spent_ms, answer))

    def mute(self, request: Request, wait_ms: float) -> int:
        """Mutes a client that has to wait; returns for how many ms."""
        if wait_ms < 1:
            return 0
        rounded_ms = min(round(wait_ms), WAIT_MS_MAX)
        self.occurrences.throttled.emit(request.connection.address, "quota")
        request.connection.mute(rounded_ms)
        return rounded_ms

    def finish_in_steps(self, request: Request, size_bytes: int, spent_ms: float, steps: Steps[Any]) -> Steps[Any]:
        """The same for work, whose time counts without what it waits for."""
        outcome = None
        try:
            while True:
                began_ms = self.clock.steady_ms()
                try:
                    step = steps.send(outcome)
                except StopIteration as end:
                    spent_ms += self.clock.steady_ms() - began_ms
                    return self.finish(request, size_bytes, spent_ms, end.value)
                spent_ms += self.clock.steady_ms() - began_ms
                outcome = yield step
        finally:
            steps.close()

    def wait_ms(self, request: Request, size_bytes: int, spent_ms: float, answer: Any) -> float:
        """Records what the request has used; returns how long its client has to wait."""
        waits_ms = [float(getattr(answer, "throttle_time_ms", 0))]  # what its handler has found
        if answer is not None:  # Kafka does not meter the time of requests without an answer
            percentage = self.use(QuotaKey.REQUEST_PERCENTAGE, request, spent_ms / 10)
            waits_ms.append(min(percentage, self.settings().quota_window_size_seconds * 1000))
        if request.api_key == ApiKey.PRODUCE:
            waits_ms.append(self.use(QuotaKey.PRODUCER_BYTES, request, size_bytes))
        elif isinstance(answer, FetchResponse):
            used = record_bytes(answer)
            waits_ms.append(self.use(QuotaKey.CONSUMER_BYTES, request, used))
            if max(waits_ms) >= 1:  # nothing of it is sent
                self.use(QuotaKey.CONSUMER_BYTES, request, -used)
        return max(waits_ms)

    def fetch_bytes_max(self, request: Request) -> int:
        """How large an answer to Fetch may be so that it is not above the quota of a client that has used nothing."""
        found = self.quota_of(QuotaKey.CONSUMER_BYTES, request)
        if found is None:
            return WAIT_MS_MAX
        settings = self.settings()
        window_s = max(1, settings.quota_window_num - 1) * settings.quota_window_size_seconds
        return min(WAIT_MS_MAX, max(1, int(found[0] * window_s)))

    # -- meters

    def quota_of(self, key: QuotaKey, request: Request) -> tuple[float, tuple[str, str]] | None:
        """The quota of a request's client, and what tells its meter from others; None if it may use as much as it likes."""
        if key not in self.quotas.keys:
            return None
        return self.quotas.quota_for(key, user_of(request), request.client_id or "")

    def use(self, key: QuotaKey, request: Request, amount: float) -> float:
        """Records that a client has used so much; returns how long it has to wait, in ms."""
        found = self.quota_of(key, request)
        if found is None:
            return 0.0
        quota, shared = found
        now_ms = self.clock.steady_ms()
        rate = self.meter(key, shared, now_ms)
        assert isinstance(rate, Rate)
        rate.record(amount, now_ms)
        return rate.wait_ms(quota, now_ms)

    def meter(self, key: QuotaKey, shared: tuple[str, str], now_ms: float) -> Rate | TokenBucket:
        meters, settings = self.meters, self.settings()
        name = (key, *shared)
        found = meters.get(name)
        if found is not None:
            meters.move_to_end(name)
            return found
        if len(meters) >= METERS_MAX:
            meters.popitem(last=False)
        if key == QuotaKey.MUTATIONS:
            burst_s = settings.controller_quota_window_num * settings.controller_quota_window_size_seconds
            meters[name] = TokenBucket(burst_s, now_ms)
        else:
            meters[name] = Rate(settings.quota_window_num, settings.quota_window_size_seconds * 1000, now_ms)
        return meters[name]

    def mutations(self, request: Request, strict_version: int) -> "Mutations":
        """What meters the partitions that a request creates or deletes; from that version on it may be refused."""
        return Mutations(self, request, is_strict=request.api_version >= strict_version)


class Mutations:
    """The partitions that one request creates or deletes."""

    def __init__(self, throttling: Throttling, request: Request, *, is_strict: bool) -> None:
        self.throttling, self.is_strict = throttling, is_strict
        self.quota, self.shared = throttling.quota_of(QuotaKey.MUTATIONS, request) or (0.0, ("", ""))
        self.wait_ms = 0  # how long the client has to wait

    def use(self, partitions: int) -> None:
        """Raises ApiError if the client has used too much before."""
        if not self.quota:
            return
        now_ms = self.throttling.clock.steady_ms()
        bucket = self.throttling.meter(QuotaKey.MUTATIONS, self.shared, now_ms)
        assert isinstance(bucket, TokenBucket)
        wait_ms = bucket.wait_ms(self.quota, now_ms)
        if self.is_strict and wait_ms > 0:
            self.wait_ms = max(1, round(wait_ms))
            raise ApiError(ErrorCode.THROTTLING_QUOTA_EXCEEDED, "The throttling quota has been exceeded.")
        bucket.take(partitions, self.quota, now_ms)
        if not self.is_strict:
            self.wait_ms = round(bucket.wait_ms(self.quota, now_ms))


def user_of(request: Request) -> str:
    """The name of the principal, without its type."""
    return request.connection.principal.partition(":")[2]


def record_bytes(response: FetchResponse) -> int:
    return sum(len(data.records or b"") for topic in response.responses for data in topic.partitions)


def answer_with_wait(request: Request, answer: Any, wait_ms: int) -> Any:
    """The answer that says how long to wait; one to Fetch is empty."""
    if isinstance(answer, FetchResponse):
        is_incremental = request.body.session_epoch > 0
        answer = FetchResponse(session_id=answer.session_id if is_incremental else 0, error_code=answer.error_code)
    if hasattr(answer, "throttle_time_ms"):
        answer.throttle_time_ms = wait_ms
    return answer
