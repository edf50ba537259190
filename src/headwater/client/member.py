"""A member of a group, in a thread of its own: `membership` over `wire`.

    member = Member("localhost:9092", MemberSettings("schema-registry", "sr"), embedded, on_change)
    with member:                       # joins; on_change gets Assigned, Rebalancing, Lost, Refused and Left
        ...
                                       # leaves

`embedded` and `on_change` are called in the member's thread. Heartbeats wait meanwhile, so both must be quick. If one
of them raises, the membership ends: the member leaves, so that the others need not wait for it, and the error is
reported as Refused, and raised by `close`. A member that is refused has ended too. Neither begins again by itself.

`holding` says, from any thread and at any moment, whether the assignment holds, even if the member's thread is held up.
"""

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from headwater.client.connections import BrokerLike, Settings
from headwater.client.errors import (
    AuthenticationError,
    ClientError,
    ClientTimeoutError,
    ConfigurationError,
    UnsupportedRequestError,
    WireClosedError,
)
from headwater.client.group_members import Assigned, Call, EmbeddedProtocol, MemberSettings, Occurrence, Pause, Refused
from headwater.client.membership import Membership
from headwater.client.names import checked_text
from headwater.client.wire import Wire
from headwater.client.wire_settings import Address, wire_settings
from headwater.effects.clock import Clock, SystemClock
from headwater.effects.entropy import SystemEntropy

logger = logging.getLogger(__name__)
CLOSE_TIMEOUT_MS = 10_000.0
LEAVE_TIMEOUT_MS = 2_000.0
FINAL = (AuthenticationError, ConfigurationError, UnsupportedRequestError)  # no other attempt will help


class Member:
    """See the module's docstring. `settings` are librdkafka's. Raises ConfigurationError."""

    def __init__(
        self,
        broker: BrokerLike,
        member: MemberSettings,
        embedded: EmbeddedProtocol,
        on_change: Callable[[Occurrence], object],
        *,
        settings: Settings | None = None,
        clock: Clock | None = None,
    ) -> None:
        checked_text("the group", member.group)
        checked_text("the protocol type", member.protocol_type)
        self.wire_settings = wire_settings(broker, settings)
        self.on_change = on_change
        self.clock: Clock = clock or SystemClock()
        self.core = Membership(member, embedded, SystemEntropy())
        self.lock = (
            threading.Lock()
        )  # over `is_leaving` and the connections that it interrupts; the core has one thread
        self.woken = threading.Event()
        self.is_leaving = self.leaves_for_good = False
        self.joins_again_because = ""
        self.error: BaseException | None = None
        self.any_broker = Wire(self.wire_settings)
        self.coordinator: Wire | None = None
        self.thread = threading.Thread(target=self.run, name=f"headwater-member-{member.group}", daemon=True)

    @property
    def group(self) -> str:
        return self.core.settings.group

    def holding(self) -> Assigned | None:
        """The assignment if it holds now; None otherwise."""
        return self.core.holding(self.clock.steady_ms())

    # -- in the caller's thread

    def start(self) -> Self:
        """Begins to join."""
        self.thread.start()
        return self

    def join_again(self, reason: str) -> None:
        """Has all members join again soon, in the member's thread, because this one's metadata has changed."""
        self.joins_again_because = reason
        self.woken.set()

    def close(self, *, for_good: bool = False, timeout_ms: float = CLOSE_TIMEOUT_MS) -> None:
        """Leaves the group; a static member does so only `for_good`. Raises what ended the membership before.

        Raises ClientTimeoutError if `embedded` or `on_change` do not return; the thread then ends when they do.
        """
        with self.lock:
            if not self.is_leaving:
                self.leaves_for_good, self.is_leaving = for_good, True
                self.any_broker.interrupt()
                if self.coordinator is not None:
                    self.coordinator.interrupt()
        self.woken.set()
        if self.thread.is_alive():
            self.thread.join(timeout_ms / 1000)
            if self.thread.is_alive():
                raise ClientTimeoutError(f"leaving group {self.group}: its thread is held up by a callback")
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        try:
            self.close()
        except ClientError as second:  # the first one is on its way
            logger.warning("leaving group %s: %s", self.group, second)

    # -- in the member's thread

    def run(self) -> None:
        try:
            self.work()
        except Exception as error:  # noqa: BLE001 - it is the caller's, and raised by `close`
            self.give_up(error)
        finally:
            self.any_broker.close()
            if self.coordinator is not None:
                self.coordinator.close()

    def work(self) -> None:
        """Carries out one step after another, until there is none."""
        while True:
            self.heed_caller()
            step = self.core.next_step(self.clock.steady_ms())
            self.tell()
            if step is None:
                return
            if isinstance(step, Pause):
                self.woken.wait(max(0.0, step.until_ms - self.clock.steady_ms()) / 1000)
            else:
                self.do(step)
                self.tell()

    def heed_caller(self) -> None:
        """Does what the caller has asked for meanwhile."""
        self.woken.clear()
        if self.is_leaving and not self.core.is_leaving:
            self.core.leave(for_good=self.leaves_for_good)
        elif self.joins_again_because:
            reason, self.joins_again_because = self.joins_again_because, ""
            self.core.join_again(reason)

    def do(self, call: Call) -> None:
        """Makes a request."""
        try:
            answer = self.ask(call)
        except WireClosedError:
            return  # the caller leaves, and with that the request is void
        except FINAL as error:
            self.core.fail(error)
            return
        except ClientError as error:
            logger.debug("group %s: %s", self.group, error)
            self.core.error, answer = error, None
        self.core.answered(answer, self.clock.steady_ms())

    def ask(self, call: Call) -> Any:
        """Raises ClientError."""
        if not call.is_for_coordinator:
            return self.any_broker.ask(call.message, at_least=call.at_least, timeout_ms=call.timeout_ms)
        assert self.core.coordinator is not None
        timeout_ms = min(call.timeout_ms, LEAVE_TIMEOUT_MS) if self.core.is_leaving else call.timeout_ms
        return self.wire_to(self.core.coordinator).ask(call.message, at_least=call.at_least, timeout_ms=timeout_ms)

    def wire_to(self, address: Address) -> Wire:
        """The connection to the coordinator: a new one to leave, since `close` interrupts the other. Raises WireClosedError."""
        wire = self.coordinator
        with self.lock:
            if self.is_leaving and not self.core.is_leaving:
                raise WireClosedError(f"group {self.group} is being left")
            if wire is None or wire.settings.addresses != (address,) or wire.interrupted.is_set():
                self.coordinator = self.any_broker.at(address)
        if wire is not None and wire is not self.coordinator:
            wire.close()
        assert self.coordinator is not None
        return self.coordinator

    def tell(self) -> None:
        told = list(self.core.occurrences)
        self.core.occurrences.clear()
        for occurrence in told:
            self.on_change(occurrence)

    def give_up(self, error: Exception) -> None:
        """Leaves the group after the caller's code has raised, so that the others need not wait for this member."""
        self.error = error
        logger.error("the member of group %s ends, its callback raised %r", self.group, error)
        core = self.core
        core.leave(for_good=True)
        core.occurrences.clear()
        try:
            step = core.next_step(self.clock.steady_ms())
            if isinstance(step, Call):
                self.ask(step)
        except ClientError as second:
            logger.debug("group %s: %s", self.group, second)  # the coordinator removes it when its session is over
        try:
            self.on_change(Refused(ClientError(f"group {self.group}: a callback raised {error!r}")))
        except Exception:
            logger.exception("group %s: on_change raised again", self.group)
