"""What a client learns from a login that fails: nothing about who there is."""

import base64
import hashlib
from typing import Any

import pytest

from headwater.security import scram
from headwater.security.sasl import PASSWORD_MECHANISMS, PLAIN, Exchange, new_exchange
from headwater.security.scram import AuthenticationError, Credential, Mechanism, credential_of, salt_password

SECRET = b"of this broker"
PASSWORD = "water"


def credential(mechanism: Mechanism, salt: bytes = b"0123456789", iterations: int = 5000) -> Credential:
    return credential_of(mechanism, salt_password(mechanism, PASSWORD, salt, iterations), salt, iterations)


CREDENTIALS = {("alice", mechanism): credential(mechanism) for mechanism in Mechanism}


def begin(mechanism: str, secret: bytes = SECRET) -> Exchange:
    return new_exchange(mechanism, CREDENTIALS, lambda: "ours", secret)


def first_answer(user: str, mechanism: str, secret: bytes = SECRET) -> dict[str, str]:
    return scram.attributes(begin(mechanism, secret).respond(f"n,,n={user},r=theirs".encode()).decode())


@pytest.mark.parametrize("mechanism", PASSWORD_MECHANISMS[1:])
def test_the_first_step_of_scram_does_not_tell_who_there_is(mechanism: str) -> None:
    known, unknown = first_answer("alice", mechanism), first_answer("nobody", mechanism)
    assert known.keys() == unknown.keys()
    assert (known["r"], known["i"]) == (unknown["r"], unknown["i"])
    assert len(base64.b64decode(known["s"])) == len(base64.b64decode(unknown["s"]))
    assert unknown == first_answer("nobody", mechanism)
    assert unknown["s"] != first_answer("nobody else", mechanism)["s"]
    assert unknown["s"] != first_answer("nobody", mechanism, b"of another broker")["s"]
    assert unknown["s"] != first_answer("nobody", PASSWORD_MECHANISMS[3 - PASSWORD_MECHANISMS.index(mechanism)])["s"]


@pytest.mark.parametrize("mechanism", PASSWORD_MECHANISMS[1:])
def test_both_fail_at_the_last_step_with_the_same_words(mechanism: str) -> None:
    words = []
    for user in ("alice", "nobody"):
        exchange = begin(mechanism)
        exchange.respond(f"n,,n={user},r=theirs".encode())
        with pytest.raises(AuthenticationError) as error:
            exchange.respond(b"c=biws,r=theirsours,p=" + base64.b64encode(bytes(32)))
        words.append(str(error.value))
        assert (exchange.claimed, exchange.user, exchange.is_done) == (user, None, False)
    assert words[0] == words[1]


def test_an_unknown_user_costs_as_much_as_a_wrong_password(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Any] = []
    pbkdf2 = hashlib.pbkdf2_hmac

    def count(name: str, password: bytes, salt: bytes, iterations: int) -> bytes:
        hashed.append((name, len(salt), iterations))
        return pbkdf2(name, password, salt, iterations)

    monkeypatch.setattr(hashlib, "pbkdf2_hmac", count)
    words = []
    for user in ("alice", "nobody"):
        with pytest.raises(AuthenticationError) as error:
            begin(PLAIN).respond(f"\0{user}\0guess".encode())
        words.append(str(error.value))
    assert hashed == [("sha256", 10, 5000)] * 2
    assert words[0] == words[1]


def test_without_any_user_a_login_fails_as_well() -> None:
    for mechanism, message in ((PLAIN, b"\0a\0b"), (PASSWORD_MECHANISMS[1], b"n,,n=a,r=b")):
        exchange = new_exchange(mechanism, {}, lambda: "ours", SECRET)
        try:
            exchange.respond(message)
            exchange.respond(b"c=biws,r=bours,p=" + base64.b64encode(bytes(32)))
        except AuthenticationError:
            continue
        pytest.fail(f"{mechanism} let nobody in")


def test_a_proof_for_another_nonce_is_refused() -> None:
    """CVE-2024-56128: whoever sees an exchange could send its proof again if the nonce were not compared."""
    for mechanism in Mechanism:
        exchange = begin(mechanism.label)
        answer = exchange.respond(b"n,,n=alice,r=theirs").decode()
        unsigned = "c=biws,r=theirsofbefore"
        salted = salt_password(mechanism, PASSWORD, b"0123456789", 5000)
        proof = proof_of(mechanism, salted, f"n=alice,r=theirs,{answer},{unsigned}")
        with pytest.raises(AuthenticationError):
            exchange.respond(f"{unsigned},p={proof}".encode())
        assert not exchange.is_done
        # The same proof for the right nonce is a login.
        exchange = begin(mechanism.label)
        answer = exchange.respond(b"n,,n=alice,r=theirs").decode()
        unsigned = "c=biws,r=theirsours"
        proof = proof_of(mechanism, salted, f"n=alice,r=theirs,{answer},{unsigned}")
        exchange.respond(f"{unsigned},p={proof}".encode())
        assert (exchange.is_done, exchange.user) == (True, "alice")


def proof_of(mechanism: Mechanism, salted: bytes, signed: str) -> str:
    import hmac

    client_key = hmac.digest(salted, b"Client Key", mechanism.hash_name)
    stored_key = hashlib.new(mechanism.hash_name, client_key).digest()
    signature = hmac.digest(stored_key, signed.encode(), mechanism.hash_name)
    return base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True))).decode()
