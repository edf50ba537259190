"""Logins with tokens beside a real Apache Kafka with the same key set and the same settings: the same are accepted and refused,
with the same error codes and the same words. And Java's own client, which gets its tokens from a token server.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest

from headwater.protocol.apis import ApiKey
from headwater.protocol.messages.metadata import MetadataRequest
from headwater.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from headwater.protocol.messages.sasl_handshake import SaslHandshakeRequest
from tests.broker.wire import Wire
from tests.identity_provider import IdentityProvider, serving
from tests.tokens import AUDIENCE, ISSUER, claims, first_message, key_set, private_key, public_entry, token

from .conftest import running_kafka, set_options
from .servers import free_port, running_server

NOW_S = int(time.time())
VALIDATOR = "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler"
LOGIN_MODULE = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"
ALLOWED = "org.apache.kafka.sasl.oauthbearer"


class Both(NamedTuple):
    """The addresses of Kafka and of Headwater."""

    kafka: str
    headwater: str


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, provider: IdentityProvider) -> Iterator[Both]:
    directory = tmp_path_factory.mktemp("bearer")
    keys = directory / "keys.json"
    entries = [public_entry("key-1"), public_entry("key-2"), public_entry("curve", "ES256", use=None)]
    keys.write_bytes(key_set(*entries, public_entry("secret", use="enc")))
    settings = {
        "sasl.enabled.mechanisms": "OAUTHBEARER",
        "listener.name.sasl_plaintext.oauthbearer.sasl.oauthbearer.jwks.endpoint.url": keys.as_uri(),
        "listener.name.sasl_plaintext.oauthbearer.sasl.oauthbearer.expected.issuer": ISSUER,
        "listener.name.sasl_plaintext.oauthbearer.sasl.oauthbearer.expected.audience": f"{AUDIENCE},second",
    }
    port = free_port()
    of_kafka = {
        **settings,
        "listener.name.sasl_plaintext.oauthbearer.sasl.jaas.config": f"{LOGIN_MODULE} required;",
        "listener.name.sasl_plaintext.oauthbearer.sasl.server.callback.handler.class": VALIDATOR,
    }
    options = set_options({**settings, "headwater.sasl.oauthbearer.allowed.files": str(keys)})
    options += ["--listen", "SASL_PLAINTEXT://127.0.0.1:0"]
    (directory / "kafka").mkdir()
    with (
        running_kafka(
            directory / "kafka",
            of_kafka,
            port,
            java=f"-D{ALLOWED}.allowed.urls={keys.as_uri()} -D{ALLOWED}.allowed.files={keys}",
        ),
        running_server(directory, *options) as server,
    ):
        yield Both(f"127.0.0.1:{port}", server.addresses["SASL_PLAINTEXT"])


@contextmanager
def closes(said: list[Any]) -> Iterator[None]:
    try:
        yield
    except ConnectionError:
        said.append("closed")


def log_in(address: str, message: bytes) -> list[Any]:
    """What a broker answers to a login, step by step; whether a session begins, and whether a request is served in it."""
    said: list[Any] = []
    with Wire(address, 60) as wire, closes(said):
        wire.call(ApiKey.SASL_HANDSHAKE, 1, SaslHandshakeRequest("OAUTHBEARER"))
        for step in (message, b"\x01"):
            answer = wire.call(ApiKey.SASL_AUTHENTICATE, 2, SaslAuthenticateRequest(step))
            said.append((answer.error_code, answer.error_message or "", answer.auth_bytes))
            if answer.error_code or not answer.auth_bytes:
                break
        if answer.error_code == 0:
            lasts_s = round(answer.session_lifetime_ms / 1000, -1)
            said.append(lasts_s)
            if lasts_s:
                said.append(len(wire.call(ApiKey.METADATA, 12, MetadataRequest([])).topics))
    return said


def other_signature(text: str) -> str:
    """The same bytes of the signature in another spelling of base64."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + alphabet[alphabet.index(text[-1]) ^ 1]


def signed(content: Any, headers: dict[str, Any] | None = None) -> str:
    return jwt.api_jws.encode(
        json.dumps(content).encode(), private_key("key-1"), "RS256", {"kid": "key-1", **(headers or {})}
    )


def unsigned(algorithm: str) -> str:
    _, _, rest = token().partition(".")
    return jwt.utils.base64url_encode(json.dumps({"alg": algorithm, "kid": "key-1"}).encode()).decode() + "." + rest


TOKENS: dict[str, Callable[[], str]] = {
    "good": token,
    "second key": lambda: token("key-2"),
    "curve": lambda: token("curve", "ES256"),
    "PS256": lambda: token(algorithm="PS256"),
    "RS512": lambda: token(algorithm="RS512"),
    "second audience": lambda: token(aud="second"),
    "several audiences": lambda: token(aud=["x", AUDIENCE]),
    "other audience": lambda: token(aud="x"),
    "no audience": lambda: token(aud=None),
    "empty audience": lambda: token(aud=[]),
    "other issuer": lambda: token(iss="x"),
    "no issuer": lambda: token(iss=None),
    "issuers": lambda: signed(claims(iss=[ISSUER])),
    "no subject": lambda: token(sub=None),
    "blank subject": lambda: token(sub=" "),
    "subject is a number": lambda: token(sub=7),
    "subject with blanks": lambda: token(sub=" alice "),
    "expired": lambda: token(exp=NOW_S - 60),
    "no expiry": lambda: token(exp=None),
    "expiry is a text": lambda: token(exp=str(NOW_S + 600)),
    "expiry with a fraction": lambda: token(exp=NOW_S + 600.75),
    "expiry in 2200": lambda: token(exp=7_258_118_400),
    "expiry in 9999": lambda: token(exp=253_402_300_799),
    "expiry before all": lambda: token(exp=-5),
    "no time of issue": lambda: token(iat=None),
    "issued later": lambda: token(iat=NOW_S + 600),
    "issued before all": lambda: token(iat=-5),
    "valid later": lambda: token(nbf=NOW_S + 600),
    "valid soon": lambda: token(nbf=NOW_S + 5),
    "scope": lambda: token(scope="read write"),
    "scopes": lambda: token(scope=["read", "write"]),
    "repeated scopes": lambda: token(scope=["read", "read"]),
    "blank scope": lambda: token(scope=[""]),
    "scope is a number": lambda: token(scope=7),
    "unknown key": lambda: token("key-9"),
    "key to encrypt": lambda: token("secret"),
    "wrong key": lambda: token("key-2", kid="key-1"),
    "no key named": lambda: token(kid=None),
    "second key not named": lambda: token("key-2", kid=None),
    "none": lambda: unsigned("none"),
    "HS256": lambda: unsigned("HS256"),
    "ES256 for an RSA key": lambda: unsigned("ES256"),
    "no signature": lambda: ".".join(token().split(".")[:2]) + ".",
    "two parts": lambda: ".".join(token().split(".")[:2]),
    "four parts": lambda: token() + ".AAAA",
    "another spelling": lambda: other_signature(token()),
    "not claims": lambda: signed([1]),
    "critical header": lambda: signed(claims(), {"crit": ["odd"], "odd": 1}),
    "not a token": lambda: "abc",
}
MESSAGES: dict[str, Callable[[], bytes]] = {
    **{name: lambda make=make: first_message(make()) for name, make in TOKENS.items()},  # type: ignore[misc]
    "own name": lambda: first_message(token(), name="alice"),
    "other name": lambda: first_message(token(), name="bob"),
    "extensions": lambda: first_message(token(), extensions="traceId=1\x01"),
    "extension with a digit": lambda: first_message(token(), extensions="trace1=1\x01"),
    "empty extension": lambda: first_message(token(), extensions="trace=\x01"),
    "auth twice": lambda: first_message(token(), extensions="auth=Bearer x.y.z\x01"),
    "scheme in capitals": lambda: first_message(token()).replace(b"Bearer", b"BEARER"),
    "another scheme": lambda: first_message(token()).replace(b"Bearer", b"Basic"),
    "y": lambda: first_message(token()).replace(b"n,", b"y,", 1),
    "no end": lambda: first_message(token())[:-1],
    "plain": lambda: b"\0alice\0secret",
    "control": lambda: b"\x01",
    "nothing": lambda: b"",
}
# What differs, and why.
DIFFERENCES = {
    "another scheme": "Kafka's code asks for a group that its expression does not have, and closes the connection",
    "expiry in 9999": "Kafka's count of nanoseconds overflows, and the session has ended before it begins",
    "second key not named": "Kafka tries the first key that fits, and no other",
    "another spelling": "Kafka's decoder ignores bits of the last character that belong to no byte",
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_login_is_answered_as_by_kafka(both: Both, name: str) -> None:
    message = MESSAGES[name]()
    of_kafka, of_headwater = (log_in(address, message) for address in both)
    assert (of_kafka != of_headwater) == (name in DIFFERENCES), f"{of_kafka}\n{of_headwater}"


def test_javas_client_gets_its_token_itself(
    both: Both, provider: IdentityProvider, kafka_tool: Callable[..., str], tmp_path: Path
) -> None:
    settings = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.jaas.config": f"{LOGIN_MODULE} required;",
        "sasl.login.callback.handler.class": VALIDATOR.replace("Validator", "Login"),
        "sasl.oauthbearer.token.endpoint.url": f"{provider.url}/token",
        "sasl.oauthbearer.client.credentials.client.id": "billing",
        "sasl.oauthbearer.client.credentials.client.secret": "secret",
        "sasl.oauthbearer.scope": "kafka",
    }
    config = tmp_path / "client.properties"
    config.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    environment = {**os.environ, "JAVA_TOOL_OPTIONS": f"-D{ALLOWED}.allowed.urls={provider.url}/token"}
    at = ["--bootstrap-server", both.headwater, "--command-config", config, "--topic", "t"]
    tool = "org.apache.kafka.tools.VerifiableProducer"
    produced = kafka_tool(tool, *at, "--max-messages", 100, "--acks", -1, env=environment)
    assert '"acked":100' in produced
    assert provider.granted[-1] == {"grant_type": "client_credentials", "scope": "kafka"}
