"""How the planes log in to their broker: at a private listener, with a secret that is valid as long as the broker's process.

The listener is on the loopback, on a free port, and always requires a login, whatever the other listeners require. Two kinds
of users can log in there. The planes themselves are `User:headwater`, and may only use the topics `__headwater_…`. Users of
the broker log in with their own passwords or tokens: so a plane can do something for a user with that user's ACLs, and no others.

The account is not stored on disk, and no other listener knows it: a user named headwater elsewhere is a different user.
"""

import hashlib
from typing import NamedTuple

from headwater.broker.cluster import PRIVATE_LISTENER
from headwater.broker.connection import PLANES_USER
from headwater.broker.core import BrokerCore
from headwater.broker.shell.listeners import Listener
from headwater.security.scram import ITERATIONS_MIN, Credential, Mechanism, credential_of

SECRET_BYTES = 32
SALT_BYTES = 16
MECHANISM = Mechanism.SCRAM_SHA_256

LISTENER = Listener(PRIVATE_LISTENER, "SASL_PLAINTEXT", "127.0.0.1", 0, None, None, str)


class Account(NamedTuple):
    """Where the planes of a broker log in, and as which user."""

    host: str
    port: int
    user: str
    secret: str


def open_account(core: BrokerCore) -> Account:
    """Creates the account of a broker that listens at LISTENER. An earlier account becomes invalid."""
    secret = core.entropy.bytes(SECRET_BYTES).hex()
    core.private_logins[PLANES_USER, MECHANISM] = credential(secret, core.entropy.bytes(SALT_BYTES))
    host, port = core.cluster.address(PRIVATE_LISTENER, core.cluster.node_ids[0])
    return Account(host, port, PLANES_USER, secret)


def user_claim(core: BrokerCore) -> str:
    """The claim that names the user of a token that the planes hand on; empty if the broker takes no tokens."""
    listener = core.bearer_listener
    return core.bearer_logins.listeners[listener].rules.principal_claim if listener else ""


def credential(secret: str, salt: bytes) -> Credential:
    salted = hashlib.pbkdf2_hmac(MECHANISM.hash_name, secret.encode(), salt, ITERATIONS_MIN)
    return credential_of(MECHANISM, salted, salt, ITERATIONS_MIN)
