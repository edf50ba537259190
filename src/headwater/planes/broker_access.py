"""How a plane's application reaches its broker: as an ordinary client, with short timeouts.

The planes' own requests use one connection, as `User:headwater`. `may_log_in` checks a user's password, `user_of` a user's token, and `login`
returns the settings with which a client can act as that user.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from headwater.client.errors import AuthenticationError
from headwater.client.wire import Wire
from headwater.client.wire_settings import Address, Login, WireSettings
from headwater.http.origins import Origins
from headwater.planes.counters_topic import FETCH_VERSION, end_offset, end_request, fetch_request, last_numbers
from headwater.planes.handover import Handover
from headwater.security.access_tokens import unverified_claim
from headwater.security.sasl import OAUTHBEARER, PLAIN

Result = TypeVar("Result")
TIMEOUT_MS = 2000.0
LOGINS_AT_ONCE = 4
OWN_MECHANISM = "SCRAM-SHA-256"


class BrokerAccess:
    """The broker of one plane. Its methods raise ClientError, and CountersError, with the broker's address."""

    def __init__(self, handover: Handover, origins: Origins) -> None:
        self.origins = origins  # of this plane's server
        self.address = Address(handover.host, handover.port)
        self.wire = Wire(self.login(handover.user, handover.secret, OWN_MECHANISM), timeout_ms=TIMEOUT_MS)
        self.user_claim = handover.user_claim
        self.thread = ThreadPoolExecutor(1, "headwater-broker")  # a Wire handles one request at a time
        self.login_threads = ThreadPoolExecutor(LOGINS_AT_ONCE, "headwater-login")

    def login(self, user: str, password: str, mechanism: str = PLAIN) -> WireSettings:
        """A client's settings for logging in at the planes' listener as that user."""
        return WireSettings((self.address,), "headwater-planes", None, Login(mechanism, user, password))

    async def may_log_in(self, user: str, password: str, mechanism: str = PLAIN) -> bool:
        """Whether the broker accepts that user and password; for `http.Basic`."""

        def check() -> bool:
            try:
                with Wire(self.login(user, password, mechanism), timeout_ms=TIMEOUT_MS) as wire:
                    wire.open()
            except AuthenticationError:
                return False
            return True

        return await self.run(self.login_threads, check)

    async def user_of(self, token: str) -> str | None:
        """The user of a token that the broker accepts, or None; for `http.Bearer`. `login(user, token, OAUTHBEARER)` acts as that user."""
        user = unverified_claim(token, self.user_claim) if self.user_claim else None
        return user if user is not None and await self.may_log_in("", token, OAUTHBEARER) else None

    async def counters(self) -> dict[str, float]:
        """The broker's last snapshot of its counters, at most a second old; {} before the first."""

        def read() -> dict[str, float]:
            end = end_offset(self.wire.ask(end_request()))
            answer: Any = self.wire.ask(fetch_request(end - 1), FETCH_VERSION) if end else None
            return last_numbers(answer) if answer is not None else {}

        return await self.run(self.thread, read)

    async def run(self, thread: ThreadPoolExecutor, function: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(thread, function)

    def close(self) -> None:
        """Closes the connection, and interrupts a pending request."""
        self.wire.interrupt()
        self.thread.submit(self.wire.close)
        for each in (self.thread, self.login_threads):
            each.shutdown(wait=False)
