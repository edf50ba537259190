"""The keys in use, and when they are fetched again.

    fetched        use the new keys; fetch again after `refresh_ms`
    failed         keep the keys that there are, log it; try again after `backoff_ms`, then twice that, at most `backoff_max_ms`
    unknown key    a token names a key that is not in the set: fetch at once, but at most every EXPEDITED_MS; the login waits

A provider that changes its keys publishes the new one, then signs with it. So a token with an unknown key may be right:
its login waits until the fetch is done, and is checked once more. Strangers could ask for as many fetches as they like with made-up
keys, which is why these have a least distance.

Nothing here waits or reads: `fetch` is called with what to do with its result.
"""

from collections.abc import Callable
from typing import NamedTuple

from headwater.effects.clock import Clock
from headwater.effects.logs import get_logger
from headwater.effects.timers import Timer, Timers
from headwater.security.access_tokens import AccessToken, TokenError, TokenRules, UnknownKeyError, check_token
from headwater.security.key_sets import KeySet, KeySetError
from headwater.security.sasl import NotYetError

logger = get_logger(__name__)

EXPEDITED_MS = 10_000

Fetched = Callable[[KeySet | KeySetError], None]
Fetch = Callable[[str, Fetched], None]


class Schedule(NamedTuple):
    """When keys are fetched again."""

    refresh_ms: int = 3_600_000
    backoff_ms: int = 100
    backoff_max_ms: int = 10_000


class KeyRing:
    """The keys of one URL. See the module's docstring."""

    def __init__(self, url: str, schedule: Schedule, timers: Timers, fetch: Fetch) -> None:
        self.url, self.schedule, self.timers, self.fetch = url, schedule, timers, fetch
        self.keys: KeySet | None = None
        self.timer: Timer | None = None
        self.is_fetching = False
        self.fetched_ms: float | None = None  # when the last fetch ended, on the steady clock
        self.failures = 0
        self.waiting: list[Callable[[], None]] = []

    def refresh(self) -> None:
        """Begins to fetch, unless that is under way."""
        if self.is_fetching:
            return
        if self.timer is not None:
            self.timer.cancel()
        self.is_fetching = True
        self.fetch(self.url, self.fetched)

    def fetched(self, result: KeySet | KeySetError) -> None:
        self.is_fetching = False
        self.fetched_ms = self.timers.clock.steady_ms()
        if isinstance(result, KeySetError):
            delay_ms = min(self.schedule.backoff_ms << min(self.failures, 32), self.schedule.backoff_max_ms)
            self.failures += 1
            self.report(result)
        else:
            if self.failures:
                logger.info("%s: the keys that check tokens are there again", self.url)
            delay_ms, self.failures = self.schedule.refresh_ms, 0
            self.take(result)
        self.timer = self.timers.call_later(delay_ms, self.refresh)
        waiting, self.waiting = self.waiting, []
        for proceed in waiting:
            proceed()

    def take(self, keys: KeySet) -> None:
        if keys.left_out and (self.keys is None or keys.left_out != self.keys.left_out):
            logger.warning("%s: keys that are not used: %s", self.url, "; ".join(keys.left_out))
        self.keys = keys

    def report(self, error: KeySetError) -> None:
        """Logs the first failure of several, and then each time that their number has doubled."""
        if self.failures & (self.failures - 1) == 0:
            state = "logins with tokens are refused until it is" if self.keys is None else "the last ones stay in use"
            logger.error("%s: the key set cannot be read: %s; %s", self.url, error, state)

    def may_wait(self) -> bool:
        """Whether a login may wait for a fetch, which is begun if need be. Without a shell it has then ended already."""
        if self.is_fetching:
            return True
        if self.fetched_ms is not None and self.timers.clock.steady_ms() - self.fetched_ms < EXPEDITED_MS:
            return False
        self.refresh()
        return True


class TokenChecker:
    """Checks the tokens of one login, by the rules of a listener and the keys of its ring. `nobodys` is a name that no token has."""

    def __init__(self, rules: TokenRules, ring: KeyRing, clock: Clock, nobodys: str = "") -> None:
        self.rules, self.ring, self.clock, self.nobodys = rules, ring, clock, nobodys
        self.has_waited = False

    def check(self, text: str) -> AccessToken:
        """Raises TokenError; NotYetError, at most once, if the keys are fetched first."""
        try:
            return self.check_now(text)
        except UnknownKeyError:
            if self.has_waited or not self.ring.may_wait():
                raise
        self.has_waited = True
        if self.ring.is_fetching:
            raise NotYetError(self.ring.waiting.append)
        return self.check_now(text)

    def check_now(self, text: str) -> AccessToken:
        """Raises TokenError."""
        if self.ring.keys is None:
            raise UnknownKeyError(f"there are no keys from {self.ring.url} yet")
        token = check_token(text, self.ring.keys, self.rules, self.clock.wall_ms())
        if token.name == self.nobodys:
            raise TokenError("its user has the name of an account that has no tokens", token.name)
        return token
