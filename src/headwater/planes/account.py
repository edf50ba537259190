"""How the planes get into their broker: at a listener of their own, with a secret that lives as long as the broker's process.

The listener is on the loopback, on a free port, and wants a login, whatever the other listeners want: TLS, certificates,
nothing. Two kinds of users can log in there. The planes themselves are `User:headwater`, and may use the topics `__headwater_…` only.
Users of the broker log in with their own passwords: that is how a plane does something for a user, with the user's
ACLs and nobody else's.

The account is nowhere on disk, and no other listener knows it: a user who is called headwater elsewhere is another.
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
    """Where the planes of a broker log in, and as whom."""

    host: str
    port: int
    user: str
    secret: str


def open_account(core: BrokerCore) -> Account:
    """Makes the account of a broker that listens at LISTENER. The one before is no longer valid."""
    secret = core.entropy.bytes(SECRET_BYTES).hex()
    core.private_logins[PLANES_USER, MECHANISM] = credential(secret, core.entropy.bytes(SALT_BYTES))
    host, port = core.cluster.address(PRIVATE_LISTENER, core.cluster.node_ids[0])
    return Account(host, port, PLANES_USER, secret)


def credential(secret: str, salt: bytes) -> Credential:
    salted = hashlib.pbkdf2_hmac(MECHANISM.hash_name, secret.encode(), salt, ITERATIONS_MIN)
    return credential_of(MECHANISM, salted, salt, ITERATIONS_MIN)
