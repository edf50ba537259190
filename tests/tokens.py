"""An identity provider for tests: its keys, its key set, and the tokens that it signs."""

import json
import threading
import time
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://idp.example.org"
AUDIENCE = "headwater"
KEYS = threading.Lock()
CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}


def private_key(name: str, algorithm: str = "RS256", bits: int = 2048) -> Any:
    """A key of that name: the same for the whole run."""
    with KEYS:
        return make_key(name, family(algorithm), bits)


@cache
def make_key(name: str, algorithm: str, bits: int) -> Any:
    if algorithm in CURVES:
        return ec.generate_private_key(CURVES[algorithm])
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, bits)


def public_entry(name: str, algorithm: str = "RS256", bits: int = 2048, **more: Any) -> dict[str, Any]:
    """The key's entry in a key set. What is None is left out."""
    key = private_key(name, algorithm, bits).public_key()
    kind: Any = (
        RSAAlgorithm if isinstance(key, rsa.RSAPublicKey) else OKPAlgorithm if algorithm == "EdDSA" else ECAlgorithm
    )
    entry = {**kind.to_jwk(key, as_dict=True), "kid": name, "use": "sig", **more}
    entry["key_ops"] = more.get("key_ops")
    return {field: value for field, value in entry.items() if value is not None}


def key_set(*entries: Any) -> bytes:
    return json.dumps({"keys": list(entries)}).encode()


def family(algorithm: str) -> str:
    return "RS256" if algorithm[:2] in ("RS", "PS") else algorithm


def claims(now_s: float | None = None, **more: Any) -> dict[str, Any]:
    """The claims of a good token of alice's, for an hour. What is None is left out."""
    now = time.time() if now_s is None else now_s
    found = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": int(now), "exp": int(now) + 3600, **more}
    return {name: value for name, value in found.items() if value is not None}


def token(
    name: str = "key-1", algorithm: str = "RS256", *, now_s: float | None = None, kid: str | None = "", **more: Any
) -> str:
    """A token that the key of that name has signed. `kid` "" is the key's name, None leaves it out."""
    headers = {"kid": name if kid == "" else kid} if kid is not None else None
    return jwt.encode(claims(now_s, **more), private_key(name, algorithm), algorithm, headers)


def first_message(text: str, name: str = "", extensions: str = "") -> bytes:
    """What a client of OAUTHBEARER begins with."""
    return f"n,{f'a={name}' if name else ''},\x01auth=Bearer {text}\x01{extensions}\x01".encode()
