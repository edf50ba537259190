"""The public keys that an identity provider signs its tokens with: a JSON Web Key Set (RFC 7517), and how it is read.

A key set is the provider's list of keys, each with an id (`kid`) that a token names. Only keys that verify a signature are
kept: RSA of 2,048 bits and more, the elliptic curves P-256, P-384 and P-521, and Ed25519. Each key is tied to the algorithms that belong to
its type before any token is seen. So a token cannot choose how it is checked: it cannot ask for no signature (`alg: none`), nor for an
HMAC with a public key as its password.

A key that is not for this (a secret, a private key, a key to encrypt with, an unknown type) is left out, and `left_out` says
why. A key set without any usable key is refused, so the last good one stays in use.

`jwt` and `cryptography` take 130 ms to import, so they are imported with the first key set that is read.
"""

import importlib.util
import json
from typing import Any, NamedTuple

KEY_SET_BYTES_MAX = 256 << 10
KEYS_MAX = 64
RSA_BITS_MIN = 2048
KEY_ID_CHARACTERS_MAX = 1000
RSA_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
# By the type of a key and, where it has one, its curve.
ALGORITHMS: dict[tuple[str, str | None], frozenset[str]] = {
    ("RSA", None): RSA_ALGORITHMS,
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
}
MISSING = "OAUTHBEARER needs PyJWT and cryptography: pip install 'headwater[oauth]'"


def is_installed() -> bool:
    """Whether the packages are there that check signatures."""
    return all(importlib.util.find_spec(name) is not None for name in ("jwt", "cryptography"))


class KeySetError(ValueError):
    """A key set that cannot be read, or that has no key to check tokens with. The message says why, on one line."""


class VerificationKey(NamedTuple):
    """A public key, and the algorithms that it may be used with. `material` is a key of `cryptography`."""

    key_id: str | None
    algorithms: frozenset[str]
    material: Any


class KeySet(NamedTuple):
    """The usable keys. `left_out` says of each other key why it is not among them."""

    keys: tuple[VerificationKey, ...]
    left_out: tuple[str, ...] = ()

    def has(self, key_id: str) -> bool:
        return any(key.key_id == key_id for key in self.keys)

    def fitting(self, key_id: str | None, algorithm: str) -> list[VerificationKey]:
        """The keys that can have made a signature. A token that names no key may have been signed with any of them."""
        return [key for key in self.keys if algorithm in key.algorithms and (key_id is None or key.key_id == key_id)]


def read_key_set(content: bytes) -> KeySet:
    """Reads a key set. Raises KeySetError."""
    if len(content) > KEY_SET_BYTES_MAX:
        raise KeySetError(f"the key set has more than {KEY_SET_BYTES_MAX} bytes")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise KeySetError("the key set is not JSON") from error
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise KeySetError('the key set is not of the form {"keys": [...]}')
    if len(entries) > KEYS_MAX:
        raise KeySetError(f"the key set has {len(entries)} keys; {KEYS_MAX} are allowed")
    keys, left_out = [], []
    for position, entry in enumerate(entries):
        try:
            keys.append(read_key(entry))
        except KeySetError as error:
            left_out.append(f"key {position + 1}: {error}")
    if not keys:
        raise KeySetError(f"the key set has no key to check tokens with ({'; '.join(left_out[:3]) or 'it is empty'})")
    return KeySet(tuple(keys), tuple(left_out))


def read_key(entry: object) -> VerificationKey:
    """Reads one key. Raises KeySetError if tokens cannot be checked with it."""
    if not isinstance(entry, dict):
        raise KeySetError("it is not an object")
    key_id, kind, curve = entry.get("kid"), entry.get("kty"), entry.get("crv")
    if not (key_id is None or (isinstance(key_id, str) and len(key_id) <= KEY_ID_CHARACTERS_MAX)):
        raise KeySetError("its kid is not a text of at most 1,000 characters")
    algorithms = ALGORITHMS.get((str(kind), None if curve is None else str(curve)), frozenset())
    if not algorithms:
        raise KeySetError("it is not an RSA key, nor one on P-256, P-384, P-521 or Ed25519")
    if "d" in entry:
        raise KeySetError("it is a private key")
    operations = entry.get("key_ops")
    if entry.get("use", "sig") != "sig" or not (operations is None or "verify" in as_list(operations)):
        raise KeySetError("it is not for signatures")
    if (named := entry.get("alg")) is not None:
        algorithms &= {str(named)}
        if not algorithms:
            raise KeySetError("its alg is not one of its type, or is not supported")
    return VerificationKey(key_id, algorithms, load_key(str(kind), entry))


def as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def load_key(kind: str, entry: dict[str, Any]) -> Any:
    """The key as `cryptography` has it. Raises KeySetError."""
    from jwt import InvalidKeyError
    from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

    loader: Any = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}[kind]
    try:
        material = loader.from_jwk(entry)
    except (InvalidKeyError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise KeySetError(f"it is damaged ({type(error).__name__})") from error
    if kind == "RSA" and material.key_size < RSA_BITS_MIN:
        raise KeySetError(f"it has {material.key_size} bits; {RSA_BITS_MIN} is the least")
    return material
