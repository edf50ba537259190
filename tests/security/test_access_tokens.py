"""Which tokens are accepted: those that the provider has signed, for this cluster, in their time; and no others."""

import base64
import json
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.security.access_tokens import (
    GROUPS_MAX,
    SECONDS_MAX,
    TOKEN_CHARACTERS_MAX,
    AccessToken,
    TokenError,
    TokenRules,
    UnknownKeyError,
    check_token,
    unverified_claim,
)
from headwater.security.key_sets import KeySet, read_key_set
from tests.tokens import AUDIENCE, ISSUER, claims, key_set, private_key, public_entry, token

NOW_S = 1_800_000_000
RULES = TokenRules(ISSUER, (AUDIENCE, "second"))
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")


@pytest.fixture(scope="module")
def keys() -> KeySet:
    return read_key_set(key_set(public_entry("key-1"), public_entry("key-2"), public_entry("curve", "ES256")))


def check(text: str, keys: KeySet, rules: TokenRules = RULES, now_s: float = NOW_S) -> AccessToken:
    return check_token(text, keys, rules, int(now_s * 1000))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_good_token_names_its_user_and_its_end(algorithm: str) -> None:
    keys = read_key_set(key_set(public_entry(f"of {algorithm}", algorithm)))
    accepted = check(token(f"of {algorithm}", algorithm, now_s=NOW_S), keys)
    assert accepted == AccessToken("alice", (NOW_S + 3600) * 1000)


@settings(max_examples=200)
@given(st.data())
def test_a_token_with_a_flipped_bit_is_refused(data: st.DataObject) -> None:
    keys = read_key_set(key_set(public_entry("key-1"), public_entry("curve", "ES256")))
    name, algorithm = data.draw(st.sampled_from([("key-1", "RS256"), ("key-1", "PS256"), ("curve", "ES256")]))
    text = token(name, algorithm, now_s=NOW_S)
    position = data.draw(st.integers(0, len(text) - 1))
    flipped = text[:position] + chr(ord(text[position]) ^ (1 << data.draw(st.integers(0, 6)))) + text[position + 1 :]
    with pytest.raises(TokenError):
        check(flipped, keys)


@pytest.mark.parametrize("end", ["=", "==", "\n", " ", "A"])
def test_a_token_with_more_at_its_end_is_refused(end: str, keys: KeySet) -> None:
    with pytest.raises(TokenError):
        check(token(now_s=NOW_S) + end, keys)


def test_the_unused_bits_of_a_signature_are_not_free(keys: KeySet) -> None:
    """256 bytes are 342 characters, whose last one has four bits that are not in the signature."""
    text = token(now_s=NOW_S)
    last = text[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    same_bytes = alphabet[alphabet.index(last) ^ 1]
    with pytest.raises(TokenError, match="usual base64"):
        check(text[:-1] + same_bytes, keys)


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"iss": "https://idp.example.com"}, "InvalidIssuer"),
        ({"iss": ISSUER + "/"}, "InvalidIssuer"),
        ({"iss": None}, "MissingRequiredClaim|InvalidIssuer"),
        ({"aud": "another"}, "InvalidAudience"),
        ({"aud": ["another", "one"]}, "InvalidAudience"),
        ({"aud": AUDIENCE.upper()}, "InvalidAudience"),
        ({"aud": None}, "aud"),
        ({"exp": None}, "exp"),
        ({"iat": None}, "iat"),
        ({"exp": True}, "exp is not a number"),
        ({"exp": float("nan")}, "exp is not a number"),
        ({"exp": float("inf")}, "exp is not a number"),
        ({"exp": SECONDS_MAX + 1}, "exp is not a time"),
        ({"exp": -1}, "exp is not a time"),
        ({"iat": [1]}, "iat is not a number"),
        ({"nbf": {}}, "nbf is not a number"),
        ({"sub": None}, "does not name anybody"),
        ({"sub": " "}, "does not name anybody"),
        ({"sub": 7}, "does not name anybody"),
        ({"scope": ["read", "read"]}, "scope"),
        ({"scope": ["read", " "]}, "scope"),
        ({"scope": ["read", 7]}, "scope"),
        ({"scope": ""}, "scope"),
    ],
)
def test_what_a_token_must_say(claims: dict[str, Any], says: str, keys: KeySet) -> None:
    with pytest.raises(TokenError, match=says):
        check(token(now_s=NOW_S, **claims), keys)


@pytest.mark.parametrize(
    "claims",
    [{"aud": "second"}, {"aud": ["another", AUDIENCE]}, {"scope": "read write"}, {"scope": ["a", "b"]}, {"scope": 7}],
)
def test_what_a_token_may_say(claims: dict[str, Any], keys: KeySet) -> None:
    assert check(token(now_s=NOW_S, **claims), keys).name == "alice"


@given(st.integers(-120, 120), st.integers(0, 60))
def test_a_token_has_its_time(late_s: int, skew_s: int) -> None:
    keys = read_key_set(key_set(public_entry("curve", "ES256")))
    rules = RULES._replace(clock_skew_s=skew_s)
    ended = token("curve", "ES256", now_s=NOW_S, exp=NOW_S - late_s)
    if late_s >= skew_s:
        with pytest.raises(TokenError, match="expired") as refused:
            check(ended, keys, rules)
        assert refused.value.claimed == "alice"
    else:
        assert check(ended, keys, rules).expires_ms == (NOW_S - late_s) * 1000
    begins = token("curve", "ES256", now_s=NOW_S, nbf=NOW_S + late_s)
    if late_s > skew_s:
        with pytest.raises(TokenError, match="valid only in"):
            check(begins, keys, rules)
    else:
        check(begins, keys, rules)


def part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def test_a_token_does_not_choose_how_it_is_checked(keys: KeySet) -> None:
    """No signature at all; or an HMAC whose password is the public key, which everybody knows."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    claims = token(now_s=NOW_S).split(".")[1]
    signature = part("x")
    public = private_key("key-1").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for algorithm in ("none", "None", "HS256", "HS512", "ES256", "EdDSA", "RS1", "dir", ""):
        with pytest.raises(TokenError, match="fits its alg"):
            check(f"{part({'alg': algorithm, 'kid': 'key-1'})}.{claims}.{signature}", keys)
    unsigned = f"{part({'alg': 'HS256', 'kid': 'key-1'})}.{claims}"
    code = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(unsigned.encode(), public)
    with pytest.raises(TokenError, match="fits its alg"):
        check(f"{unsigned}.{base64.urlsafe_b64encode(code).rstrip(b'=').decode()}", keys)
    with pytest.raises(TokenError, match="3"):
        check(f"{part({'alg': 'none'})}.{claims}", keys)
    with pytest.raises(TokenError, match="empty"):
        check(f"{part({'alg': 'none', 'kid': 'key-1'})}.{claims}.", keys)


@pytest.mark.parametrize("critical", [["odd"], ["b64"], [], "odd", None])
def test_a_critical_header_is_refused(critical: object, keys: KeySet) -> None:
    headers = {"kid": "key-1", "crit": critical, "odd": 1, "b64": True}
    text = jwt.api_jws.encode(json.dumps(claims(NOW_S)).encode(), private_key("key-1"), "RS256", headers)
    with pytest.raises(TokenError, match="its header has crit"):
        check(text, keys)


def test_a_key_signs_for_itself_only(keys: KeySet) -> None:
    with pytest.raises(TokenError, match="signature is wrong"):
        check(token("key-2", now_s=NOW_S, kid="key-1"), keys)
    with pytest.raises(UnknownKeyError, match="key-9"):
        check(token("key-9", now_s=NOW_S), keys)
    with pytest.raises(TokenError, match="fits its alg") as refused:
        check(token("key-9", now_s=NOW_S, kid="curve"), keys)
    assert not isinstance(refused.value, UnknownKeyError)


def test_a_token_that_names_no_key_may_be_signed_by_any(keys: KeySet) -> None:
    for name in ("key-1", "key-2"):
        assert check(token(name, now_s=NOW_S, kid=None), keys).name == "alice"
    with pytest.raises(TokenError, match="signature is wrong"):
        check(token("key-9", now_s=NOW_S, kid=None), keys)
    with pytest.raises(TokenError, match="fits its alg") as refused:
        check(token("of ES384", "ES384", now_s=NOW_S, kid=None), keys)
    assert not isinstance(refused.value, UnknownKeyError)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "1 parts"),
        ("a.b", "2 parts"),
        ("a.b.c.d", "4 parts"),
        ("..", "empty"),
        ("!!!!.AAAA.AAAA", "not base64"),
        ("é.AAAA.AAAA", "not base64"),
        ("A.AAAA.AAAA", "not base64"),
        ("AAAA.AAAA.AAAA", "not JSON"),
        (f"{part([])}.AAAA.AAAA", "not an object"),
        (f"{part({})}.AAAA.AAAA", "no alg"),
        (f"{part({'alg': 'RS256', 'kid': 7})}.AAAA.AAAA", "kid that is not a text"),
        (f"{part({'alg': ['RS256']})}.AAAA.AAAA", "no alg"),
        ("A" * (TOKEN_CHARACTERS_MAX + 1), "more than 32768"),
    ],
)
def test_what_is_not_a_token(text: str, says: str, keys: KeySet) -> None:
    with pytest.raises(TokenError, match=says):
        check(text, keys)


def test_deep_json_is_refused(keys: KeySet) -> None:
    deep = base64.urlsafe_b64encode(b"[" * 20_000 + b"]" * 3).rstrip(b"=").decode()
    with pytest.raises(TokenError):
        check(f"{deep[:-1]}.AAAA.AAAA", keys)
    key = private_key("key-1")
    text = jwt.api_jws.encode(b'{"a":' * 20_000, key, "RS256", {"kid": "key-1"})
    with pytest.raises(TokenError):
        check(text[:TOKEN_CHARACTERS_MAX], keys)
    with pytest.raises(TokenError, match=r"RecursionError|Decode"):
        check(jwt.api_jws.encode(b"[" * 20_000, key, "RS256", {"kid": "key-1"}), keys)


def test_other_claims_may_name_the_user(keys: KeySet) -> None:
    rules = RULES._replace(principal_claim="client_id")
    assert check(token(now_s=NOW_S, client_id=" billing "), keys, rules).name == "billing"
    assert check(token(now_s=NOW_S, client_id="billing", sub=7, jti=7), keys, rules).name == "billing"


def test_a_claim_may_be_looked_at_before_it_is_believed() -> None:
    text = token("key-9", exp=1, sub=" alice ", other=7)
    assert unverified_claim(text, "sub") == "alice"
    assert unverified_claim(text, "other") is unverified_claim(text, "missing") is None
    assert unverified_claim(token(sub=" "), "sub") is None
    for wrong in ("", "a.b.c", f"{part({'alg': 'x'})}.{part([])}.AAAA", f"{part({'alg': 'x'})}.AAAA.AAAA"):
        assert unverified_claim(wrong, "sub") is None


def test_groups_come_from_their_claim(keys: KeySet) -> None:
    rules = RULES._replace(groups_claim="groups")

    def groups(value: object, rules: TokenRules = rules) -> tuple[str, ...]:
        return check(token(now_s=NOW_S, groups=value), keys, rules).groups

    assert groups(["a", " b ", "a"]) == ("a", "b")
    assert groups("a") == ("a",)
    assert groups(None) == ()
    assert groups(["a"], RULES) == ()
    for wrong in ([7], [""], {"a": 1}, 7, [str(n) for n in range(GROUPS_MAX + 1)]):
        with pytest.raises(TokenError, match="groups"):
            groups(wrong)
