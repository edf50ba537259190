"""The settings of OAUTHBEARER: what must be there, whose values count, and which URLs are opened."""

from pathlib import Path

import pytest

from headwater.broker.configs.key_urls import ALLOWED_FILES, ALLOWED_URLS, URL
from headwater.broker.configs.settings import Settings, SettingsError
from headwater.broker.configs.token_settings import AUDIENCE, GROUPS_CLAIM, ISSUER, token_settings
from headwater.broker.shell.listeners import read_configuration
from headwater.security import key_sets
from headwater.security.access_tokens import TokenRules
from headwater.security.key_rings import Schedule
from tests.tokens import key_set, public_entry

KEYS = "https://idp.example.org/keys"
COMPLETE = {
    "listeners": "SASL_PLAINTEXT://127.0.0.1:0",
    "sasl.enabled.mechanisms": "OAUTHBEARER",
    URL: KEYS,
    ISSUER: "https://idp.example.org",
    AUDIENCE: "headwater, second",
    ALLOWED_URLS: f"https://elsewhere.example.org/,{KEYS}",
}


def problems(**changes: str | None) -> str:
    """What `read_configuration` says of COMPLETE with these changes; empty if nothing."""
    pairs = {**COMPLETE, **{key.replace("__", "."): value for key, value in changes.items()}}
    try:
        read_configuration({key: value for key, value in pairs.items() if value is not None})
    except SettingsError as error:
        assert all("\n" not in problem for problem in error.problems)
        return str(error)
    return ""


def test_all_that_is_needed() -> None:
    assert problems() == ""
    found = token_settings(Settings.from_pairs(COMPLETE), "SASL_PLAINTEXT")
    assert found.rules == TokenRules("https://idp.example.org", ("headwater", "second"), 30, "sub", "scope", "")
    assert (found.url, found.schedule) == (KEYS, Schedule(3_600_000, 100, 10_000))


@pytest.mark.parametrize("key", [URL, ISSUER, AUDIENCE])
@pytest.mark.parametrize("value", [None, "", " "])
def test_without_one_of_them_the_broker_does_not_start(key: str, value: str | None) -> None:
    said = problems(**{key: value})
    assert said.startswith(f"{key}: listener SASL_PLAINTEXT takes OAUTHBEARER, which needs")
    assert "\n" not in said


def test_what_is_missing_is_named_at_once_and_only_where_the_mechanism_is_enabled() -> None:
    assert len(problems(**{URL: None, ISSUER: None, AUDIENCE: None}).splitlines()) == 3
    assert problems(**{ISSUER: None, "sasl.enabled.mechanisms": "PLAIN"}) == ""
    assert problems(**{ISSUER: None, "listeners": "PLAINTEXT://127.0.0.1:0"}) == ""
    own = "listener.name.sasl_plaintext.sasl.enabled.mechanisms"
    assert ISSUER in problems(**{ISSUER: None, "sasl.enabled.mechanisms": None, own: "OAUTHBEARER"})


def test_the_listeners_own_values_count_first() -> None:
    pairs = {
        **COMPLETE,
        f"listener.name.a.{ISSUER}": "of listener A",
        f"listener.name.a.oauthbearer.{ISSUER}": "of its mechanism",
        f"listener.name.b.{ISSUER}": "of listener B",
        f"listener.name.b.oauthbearer.{GROUPS_CLAIM}": "groups",
        "listener.name.b.sasl.oauthbearer.sub.claim.name": "client_id",
        "listener.name.b.sasl.oauthbearer.scope.claim.name": "scp",
        "listener.name.b.sasl.oauthbearer.clock.skew.seconds": "5",
        "listener.name.b.oauthbearer.sasl.oauthbearer.jwks.endpoint.refresh.ms": "60000",
        "listener.name.b.sasl.oauthbearer.jwks.endpoint.retry.backoff.ms": "7",
        "listener.name.b.sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms": "70",
    }
    settings = Settings.from_pairs(pairs)
    assert [token_settings(settings, name).rules.issuer for name in ("A", "B", "C")] == [
        "of its mechanism",
        "of listener B",
        "https://idp.example.org",
    ]
    found = token_settings(settings, "B")
    assert found.rules[2:] == (5, "client_id", "scp", "groups")
    assert found.schedule == Schedule(60_000, 7, 70)


def test_only_what_belongs_to_the_mechanism_can_be_set_for_it() -> None:
    for key in (
        "listener.name.a.oauthbearer.ssl.client.auth",
        f"listener.name.a.plain.{ISSUER}",
        f"oauthbearer.{ISSUER}",
    ):
        with pytest.raises(SettingsError):
            Settings.from_pairs({key: "x"})


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://idp.example.org/keys2", ALLOWED_URLS),
        ("https://idp.example.org/keys?x=1", ALLOWED_URLS),
        ("https://idp.example.org:444/keys", ALLOWED_URLS),
        ("http://idp.example.org/keys", "use https:"),
        ("http://169.254.169.254/", "use https:"),
        ("http://127.0.0.1/keys", ALLOWED_URLS),
        ("https://alice:secret@idp.example.org/keys", "a user, a password"),
        ("https://idp.example.org/keys#x", "a fragment"),
        ("https:///keys", "names no host"),
        ("https://[x/keys", "is not a URL"),
        ("https://idp.example.org:x/keys", "is not a URL"),
        ("ftp://idp.example.org/keys", "must begin with"),
        ("/etc/keys.json", "must begin with"),
        ("file:///etc/passwd", ALLOWED_FILES),
        ("file:keys.json", "absolute path"),
        ("file://host/etc/keys.json", "absolute path"),
    ],
)
@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "PLAIN"])
@pytest.mark.parametrize("prefix", ["", "listener.name.sasl_plaintext.", "listener.name.sasl_plaintext.oauthbearer."])
def test_only_urls_on_the_list_are_opened(prefix: str, mechanism: str, url: str, says: str) -> None:
    said = problems(**{prefix + URL: url, "sasl.enabled.mechanisms": mechanism})
    assert said.startswith(f"{prefix}{URL}: ")
    assert says in said
    assert "\n" not in said
    assert "secret" not in said


def test_plain_http_needs_the_loopback_or_insecure() -> None:
    for url in ("http://127.0.0.1:1/keys", "http://localhost/keys", "http://[::1]:7/keys"):
        assert problems(**{URL: url, ALLOWED_URLS: url}) == ""
    url = "http://idp.example.org/keys"
    assert problems(**{URL: url, ALLOWED_URLS: url, "headwater.insecure": "true"}) == ""


def test_a_file_of_keys_is_read_before_the_start(tmp_path: Path) -> None:
    path = tmp_path / "the keys.json"
    url = f"file://{str(path).replace(' ', '%20')}"
    pairs = {URL: url, ALLOWED_FILES: str(path)}
    assert f"{URL}: listener SASL_PLAINTEXT: {url}: No such file" in problems(**pairs)
    path.write_bytes(key_set({"kty": "oct"}))
    assert "no key to check tokens with" in problems(**pairs)
    path.write_bytes(key_set(public_entry("key-1")))
    assert problems(**pairs) == ""


def test_without_the_packages_the_broker_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_sets, "is_installed", lambda: False)
    assert problems() == (
        "sasl.enabled.mechanisms of listener SASL_PLAINTEXT: OAUTHBEARER needs PyJWT and cryptography: "
        "pip install 'headwater[oauth]'"
    )


@pytest.mark.parametrize("key", ["allow.unverified.issuer", "allow.unverified.audience"])
def test_tokens_are_never_taken_from_anyone(key: str) -> None:
    assert "only accepted from the issuer" in problems(**{f"sasl.oauthbearer.{key}": "true"})
    assert problems(**{f"sasl.oauthbearer.{key}": "false"}) == ""
