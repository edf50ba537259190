"""Which keys of a provider's key set are used to check tokens."""

import importlib.util
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from headwater.security.key_sets import KEYS_MAX, KeySetError, is_installed, read_key_set
from tests.tokens import key_set, private_key, public_entry


def test_keys_are_found_by_their_name_and_algorithm() -> None:
    keys = read_key_set(key_set(public_entry("a"), public_entry("b", kid=None), public_entry("c", "ES256")))
    assert [key.key_id for key in keys.fitting(None, "PS512")] == ["a", None]
    assert [key.key_id for key in keys.fitting("a", "RS256")] == ["a"]
    assert [key.key_id for key in keys.fitting(None, "ES256")] == ["c"]
    assert keys.fitting("c", "RS256") == keys.fitting(None, "HS256") == []
    assert keys.has("c")
    assert not keys.has("d")
    assert keys.left_out == ()


def test_a_key_may_be_for_one_algorithm() -> None:
    keys = read_key_set(key_set(public_entry("a", alg="PS256", key_ops=["verify"], use=None)))
    assert (len(keys.fitting("a", "PS256")), keys.fitting("a", "RS256")) == (1, [])


def private_entry() -> dict[str, Any]:
    return {**RSAAlgorithm.to_jwk(private_key("a"), as_dict=True), "kid": "private"}


LEFT_OUT: list[tuple[Any, str]] = [
    ("text", "not an object"),
    ({"kty": "oct", "k": "AAAA"}, "not an RSA key"),
    ({"kty": "OKP", "crv": "X25519", "x": "AAAA"}, "not an RSA key"),
    ({"kty": "EC", "crv": "secp256k1"}, "not an RSA key"),
    ({"kty": ["RSA"]}, "not an RSA key"),
    ({"kty": "RSA"}, "damaged"),
    ({"kty": "RSA", "n": "!", "e": "AQAB"}, "damaged"),
    ({"kty": "RSA", "n": 7, "e": "AQAB"}, "damaged"),
    ({"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"}, "damaged"),
    ({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}, "damaged"),
    (lambda: private_entry(), "private"),
    (lambda: public_entry("a", use="enc"), "not for signatures"),
    (lambda: public_entry("a", key_ops=["encrypt"]), "not for signatures"),
    (lambda: public_entry("a", key_ops="verify"), "not for signatures"),
    (lambda: public_entry("a", alg="HS256"), "not one of its type"),
    (lambda: public_entry("a", alg="ES256"), "not one of its type"),
    (lambda: public_entry("a", kid=7), "kid"),
    (lambda: public_entry("a", kid="k" * 1001), "kid"),
    (lambda: public_entry("short", bits=1024), "1024 bits"),
]


@pytest.mark.parametrize(("entry", "says"), LEFT_OUT)
def test_keys_that_cannot_check_tokens_are_left_out(entry: Any, says: str) -> None:
    entry = entry() if callable(entry) else entry
    keys = read_key_set(key_set(entry, public_entry("good")))
    assert [key.key_id for key in keys.keys] == ["good"]
    assert says in keys.left_out[0]
    with pytest.raises(KeySetError, match="no key to check tokens with"):
        read_key_set(key_set(entry))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "of the form"),
        (b'{"keys": {}}', "of the form"),
        (b'{"keys": []}', "it is empty"),
        (b" " * (256 * 1024 + 1), "more than 262144 bytes"),
        (json.dumps({"keys": [0] * (KEYS_MAX + 1)}).encode(), "65 keys"),
    ],
)
def test_other_content_is_refused(content: bytes, says: str) -> None:
    with pytest.raises(KeySetError, match=says):
        read_key_set(content)


def test_whether_the_packages_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_installed()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not is_installed()


def test_the_test_keys_are_real() -> None:
    assert isinstance(private_key("a"), rsa.RSAPrivateKey)
