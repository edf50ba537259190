"""Logins with tokens: each listener's rules, and the keys of each identity provider, which listeners may share.

The shell runs `run_aside`, which may wait for a network. Without a shell it is done at once.
"""

from headwater.broker.configs.settings import Settings
from headwater.broker.configs.token_settings import TokenSettings, token_settings
from headwater.effects.clock import Clock
from headwater.effects.fetch import FetchError, fetch
from headwater.effects.timers import Timers
from headwater.effects.work import RunElsewhere
from headwater.security.bearer import BearerExchange
from headwater.security.key_rings import Fetched, KeyRing, Schedule, TokenChecker
from headwater.security.key_sets import KEY_SET_BYTES_MAX, KeySet, KeySetError, read_key_set


def fetch_key_set(url: str) -> KeySet | KeySetError:
    """The key set at a URL, or why it cannot be used."""
    try:
        return read_key_set(fetch(url, KEY_SET_BYTES_MAX))
    except FetchError as error:
        return KeySetError(str(error))
    except KeySetError as error:
        return error


class BearerLogins:
    """See the module's docstring. A ring begins to fetch when its first listener is opened."""

    def __init__(self, settings: Settings, clock: Clock, timers: Timers, run_aside: RunElsewhere) -> None:
        self.settings, self.clock, self.timers = settings, clock, timers
        self.run_aside = run_aside
        self.listeners: dict[str, TokenSettings] = {}
        self.rings: dict[tuple[str, Schedule], KeyRing] = {}

    def open(self, listener: str) -> KeyRing:
        """The keys for a listener."""
        found = self.listeners.get(listener)
        if found is None:
            found = self.listeners[listener] = token_settings(self.settings, listener)
        ring = self.rings.get((found.url, found.schedule))
        if ring is None:
            ring = KeyRing(found.url, found.schedule, self.timers, self.fetch)
            self.rings[found.url, found.schedule] = ring
            ring.refresh()
        return ring

    def fetch(self, url: str, done: Fetched) -> None:
        self.run_aside(lambda: fetch_key_set(url), done)

    def new_exchange(self, listener: str, nobodys: str = "") -> BearerExchange:
        """An exchange by the rules of a listener. A token for the name `nobodys` is refused."""
        ring = self.open(listener)
        checker = TokenChecker(self.listeners[listener].rules, ring, self.clock, nobodys)
        return BearerExchange(checker.check)
