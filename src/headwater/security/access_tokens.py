"""Access tokens: JSON Web Tokens (RFC 7519) that an identity provider has signed, and what a broker checks of them.

A token is three parts in base64, joined by dots: a header (which key, which algorithm), claims, and a signature over both.

    1. the form      three parts, bounded in size, each in the one base64 spelling that it has
    2. the signature by a key of the provider's set, with an algorithm of that key's type (`key_sets`)
    3. the issuer    `iss` is the provider's name
    4. the audience  `aud` names this cluster: a token for another service is not a login here
    5. the time      `exp` and `iat` are there; now is before `exp`, and not before `nbf`, give or take the clock's skew
    6. the principal the claim that names the user is a text that is not blank; scopes are texts without repetition

Nothing of a token is believed before its signature is checked. The rules are those of Kafka's BrokerJwtValidator. The
spelling of base64 is stricter: in a laxer one the last character of a signature could be changed and still be accepted.
"""

import base64
import binascii
import json
import math
from typing import Any, NamedTuple

from headwater.security.key_sets import KeySet, VerificationKey

TOKEN_CHARACTERS_MAX = 32 << 10
SECONDS_MAX = (2**63 - 1) // 1000  # the last time that has a number in milliseconds
GROUPS_MAX = 256


class TokenError(ValueError):
    """A token that is refused. The message is for the log; `claimed` is whom it names, if its signature is right."""

    def __init__(self, message: str, claimed: str | None = None) -> None:
        super().__init__(message)
        self.claimed = claimed


class UnknownKeyError(TokenError):
    """A token that names a key which is not in the set. Perhaps the provider has a new one."""


class TokenRules(NamedTuple):
    """What a token must say."""

    issuer: str
    audiences: tuple[str, ...]
    clock_skew_s: int = 30
    principal_claim: str = "sub"
    scope_claim: str = "scope"
    groups_claim: str = ""  # empty: no groups


class AccessToken(NamedTuple):
    """What is taken from a token that was accepted. `expires_ms` is on the wall clock, `groups` are names without a type."""

    name: str
    expires_ms: int
    groups: tuple[str, ...] = ()


def check_token(text: str, keys: KeySet, rules: TokenRules, now_ms: int) -> AccessToken:
    """The token's principal and its end. Raises TokenError."""
    claims = verified_claims(text, keys, rules)
    name = claims.get(rules.principal_claim)
    claimed = name if isinstance(name, str) else None
    try:
        expires_s = check_times(claims, rules.clock_skew_s, now_ms / 1000)
        check_scopes(rules.scope_claim, claims.get(rules.scope_claim))
        if claimed is None or not claimed.strip():
            raise TokenError(f"its claim {rules.principal_claim} does not name anybody")
        groups = read_groups(rules.groups_claim, claims)
    except TokenError as error:
        raise TokenError(str(error), claimed) from None
    return AccessToken(claimed.strip(), expires_s * 1000, groups)


def verified_claims(text: str, keys: KeySet, rules: TokenRules) -> dict[str, Any]:
    """The claims of a token with the right signature, issuer and audience. Raises TokenError."""
    header = read_header(text)
    key_id, algorithm = header.get("kid"), header.get("alg")
    if not isinstance(algorithm, str) or not (key_id is None or isinstance(key_id, str)):
        raise TokenError("its header has no alg, or a kid that is not a text")
    if "crit" in header:  # what a recipient has to understand (RFC 7515); here that is nothing
        raise TokenError("its header has crit, and no such extension is known here")
    found = keys.fitting(key_id, algorithm)
    if not found:
        if key_id is not None and not keys.has(key_id):
            raise UnknownKeyError(f"no key of the set has its kid, {key_id[:80]}")
        raise TokenError(f"no key of the set has its kid and fits its alg, {algorithm[:20]}")
    for key in found[:-1]:  # where it names no key, each may have signed it
        try:
            return claims_by(text, key, algorithm, rules)
        except SignatureError:
            continue
    return claims_by(text, found[-1], algorithm, rules)


def unverified_claim(text: str, claim: str) -> str | None:
    """The text of a claim. It is not to be believed, unless somebody else has accepted the token; None if there is none."""
    try:
        read_header(text)
        content = json.loads(from_base64(text.split(".")[1]))
    except (TokenError, ValueError, RecursionError):
        return None
    found = content.get(claim) if isinstance(content, dict) else None
    return found.strip() or None if isinstance(found, str) else None


class SignatureError(TokenError):
    """The key has not signed this."""


def claims_by(text: str, key: VerificationKey, algorithm: str, rules: TokenRules) -> dict[str, Any]:
    """The claims, if this key has signed them. Raises TokenError."""
    import jwt

    try:
        return jwt.decode(
            text,
            key.material,
            algorithms=[algorithm],
            audience=list(rules.audiences),
            issuer=rules.issuer,
            options={  # times are checked by the broker's clock, and what the principal is by the rules
                "require": ["exp", "iat"],
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
                "verify_sub": False,
                "verify_jti": False,
            },
        )
    except jwt.InvalidSignatureError as error:
        raise SignatureError("its signature is wrong") from error
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise TokenError(f"{type(error).__name__}: {error}") from error


def read_header(text: str) -> dict[str, Any]:
    """The header of a token of the right form. It is not yet to be believed. Raises TokenError."""
    if len(text) > TOKEN_CHARACTERS_MAX:
        raise TokenError(f"it has more than {TOKEN_CHARACTERS_MAX} characters")
    parts = text.split(".")
    if len(parts) != 3:
        raise TokenError(f"it has {len(parts)} parts; a JSON Web Token has 3")
    content, *_ = [from_base64(part) for part in parts]
    try:
        header = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise TokenError("its header is not JSON") from error
    if not isinstance(header, dict):
        raise TokenError("its header is not an object")
    return header


def from_base64(part: str) -> bytes:
    """Decodes base64 for URLs without padding. Raises TokenError for any spelling but the one that there should be."""
    try:
        content = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise TokenError("a part of it is not base64") from error
    if not content or base64.urlsafe_b64encode(content).rstrip(b"=") != part.encode():
        raise TokenError("a part of it is empty, or not in the usual base64")
    return content


def check_times(claims: dict[str, Any], skew_s: int, now_s: float) -> int:
    """The second at which the token ends. Raises TokenError if it has ended, or has not begun."""
    expires_s = seconds("exp", claims["exp"])
    seconds("iat", claims["iat"])
    if now_s - skew_s >= expires_s:
        raise TokenError(f"it expired {now_s - expires_s:.0f} s ago")
    begins_s = seconds("nbf", claims.get("nbf", 0))
    if now_s + skew_s < begins_s:
        raise TokenError(f"it is valid only in {begins_s - now_s:.0f} s")
    return expires_s


def seconds(claim: str, value: object) -> int:
    """A time of a claim, in whole seconds. Raises TokenError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TokenError(f"its claim {claim} is not a number")
    if not 0 <= value <= SECONDS_MAX:
        raise TokenError(f"its claim {claim} is not a time")
    return int(value)


def check_scopes(claim: str, value: object) -> None:
    """Raises TokenError for scopes that are blank or repeated. A token need not have any."""
    scopes = value if isinstance(value, list) else [value] if isinstance(value, str) else []
    texts = [scope.strip() for scope in scopes if isinstance(scope, str)]
    if len(texts) != len(scopes) or "" in texts or len(set(texts)) != len(texts):
        raise TokenError(f"its claim {claim} has a scope that is blank, repeated or not a text")


def read_groups(claim: str, claims: dict[str, Any]) -> tuple[str, ...]:
    """The groups of a claim: a list of texts, or one text. Raises TokenError."""
    value = claims.get(claim, []) if claim else []
    groups = [value] if isinstance(value, str) else value
    if not isinstance(groups, list) or not all(isinstance(group, str) and group.strip() for group in groups):
        raise TokenError(f"its claim {claim} is not a list of names")
    if len(groups) > GROUPS_MAX:
        raise TokenError(f"its claim {claim} has {len(groups)} groups; {GROUPS_MAX} are allowed")
    return tuple(dict.fromkeys(group.strip() for group in groups))
