"""The settings of OAUTHBEARER, as Kafka names them: `sasl.oauthbearer.…`, for all listeners, one listener or its mechanism.

    listener.name.NAME.oauthbearer.sasl.oauthbearer.expected.issuer     the first of these that is given counts
    listener.name.NAME.sasl.oauthbearer.expected.issuer
    sasl.oauthbearer.expected.issuer

Where the mechanism is enabled, the issuer, the audience and the URL of the key set must be set: a token that anybody signed, or
that was made for another service, is not a login.
"""

from typing import NamedTuple

from headwater.broker.configs.key_urls import URL
from headwater.broker.configs.settings import LISTENER_PREFIX, Settings, SettingsError, setting_definition
from headwater.security.access_tokens import TokenRules
from headwater.security.key_rings import Schedule

MECHANISM_PREFIX = "oauthbearer."
ISSUER = "sasl.oauthbearer.expected.issuer"
AUDIENCE = "sasl.oauthbearer.expected.audience"
GROUPS_CLAIM = "headwater.sasl.oauthbearer.groups.claim.name"
REFRESH = "sasl.oauthbearer.jwks.endpoint.refresh.ms"
BACKOFF = "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms"
BACKOFF_MAX = "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms"


class TokenSettings(NamedTuple):
    """What a listener needs to check tokens."""

    url: str
    rules: TokenRules
    schedule: Schedule


def token_settings(settings: Settings, listener: str) -> TokenSettings:
    """The settings of a listener. Raises SettingsError with all that is missing."""
    reader = Reader(settings, listener)
    found: list[str] = []
    url, issuer, audiences = reader.text(URL), reader.text(ISSUER), reader.items(AUDIENCE)
    for key, value, what in (
        (URL, url, "the URL of the identity provider's key set (file:, https: or http:)"),
        (ISSUER, issuer, "the issuer (iss) whose tokens are accepted"),
        (AUDIENCE, audiences, "the audience (aud) that tokens for this cluster name"),
    ):
        if not value:
            found.append(f"{key}: listener {listener} takes OAUTHBEARER, which needs {what}")
    if found:
        raise SettingsError(*found)
    rules = TokenRules(
        issuer,
        tuple(audiences),
        reader.number("sasl.oauthbearer.clock.skew.seconds"),
        reader.text("sasl.oauthbearer.sub.claim.name"),
        reader.text("sasl.oauthbearer.scope.claim.name"),
        reader.text(GROUPS_CLAIM),
    )
    schedule = Schedule(reader.number(REFRESH), reader.number(BACKOFF), reader.number(BACKOFF_MAX))
    return TokenSettings(url, rules, schedule)


class Reader:
    """Reads values for a listener."""

    def __init__(self, settings: Settings, listener: str) -> None:
        self.given = settings.given
        own = f"{LISTENER_PREFIX}{listener.lower()}."
        self.prefixes = (own + MECHANISM_PREFIX, own, "")

    def text(self, key: str) -> str:
        found = next((self.given[prefix + key] for prefix in self.prefixes if prefix + key in self.given), None)
        return (setting_definition(key).default or "") if found is None else found.strip()

    def items(self, key: str) -> list[str]:
        return [item.strip() for item in self.text(key).split(",") if item.strip()]

    def number(self, key: str) -> int:
        return int(self.text(key))
