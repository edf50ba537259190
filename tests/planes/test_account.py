"""Who gets in at the listener of the planes, and what the planes may do there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headwater.broker.authorization import may_cluster, may_group, may_topic
from headwater.broker.cluster import PRIVATE_LISTENER, Endpoint
from headwater.broker.connection import PLANES_USER, Connection, Request
from headwater.client.errors import AuthenticationError, ClientError
from headwater.client.wire import Wire
from headwater.client.wire_settings import Address, Login, WireSettings
from headwater.http.authentication import Bearer
from headwater.http.errors import HttpError
from headwater.http.origins import Origins
from headwater.planes.account import LISTENER, Account, open_account
from headwater.planes.broker_access import BrokerAccess
from headwater.planes.counters_topic import FETCH_VERSION, TOPIC, fetch_request
from headwater.protocol.apis import ApiKey
from headwater.protocol.messages.create_topics import CreateTopicsRequest
from headwater.security.acls import Operation
from headwater.security.scram import ITERATIONS_MIN, Mechanism, credential_of, salt_password
from tests.broker.harness import Harness
from tests.planes.running import running_broker
from tests.tokens import AUDIENCE, ISSUER, key_set, public_entry, token

PRIVATE = Endpoint(PRIVATE_LISTENER, "SASL_PLAINTEXT", 1)
SECURED = {"super.users": "User:admin;User:headwater"}


def request(principal: str, endpoint: Endpoint = PRIVATE) -> Request:
    return Request(ApiKey.FETCH, 12, "planes", Connection("/127.0.0.1", endpoint, principal), None)


def test_the_planes_may_use_their_topics_and_nothing_else() -> None:
    core = Harness(pairs=SECURED).core
    planes = request(f"User:{PLANES_USER}")
    for operation in (Operation.READ, Operation.WRITE, Operation.CREATE, Operation.DESCRIBE):
        assert may_topic(core, planes, operation, TOPIC)
        assert may_topic(core, planes, operation, "__headwater_other")
        assert not may_topic(core, planes, operation, "orders")
        assert not may_topic(core, planes, operation, "__consumer_offsets")
        assert not may_topic(core, planes, operation, "x__headwater_")
    assert not may_group(core, planes, Operation.READ, "__headwater_group")
    assert not may_cluster(core, planes, Operation.DESCRIBE)


def test_a_user_of_that_name_elsewhere_is_another() -> None:
    core = Harness(pairs={"super.users": "User:admin"}).core
    elsewhere = request(f"User:{PLANES_USER}", Endpoint("SASL", "SASL_PLAINTEXT", 1))
    assert not may_topic(core, elsewhere, Operation.READ, TOPIC)


def test_a_user_of_a_plane_has_the_users_own_acls() -> None:
    core = Harness(pairs=SECURED).core
    assert may_topic(core, request("User:admin"), Operation.READ, "orders")
    assert not may_topic(core, request("User:alice"), Operation.READ, "orders")
    assert not may_topic(core, request("User:alice"), Operation.READ, TOPIC)


@contextmanager
def as_user(account: Account, user: str, password: str, mechanism: str) -> Iterator[Wire]:
    login = Login(mechanism, user, password)
    settings = WireSettings((Address(account.host, account.port),), "test", None, login)
    with Wire(settings) as wire:
        yield wire.open()


def test_only_the_secret_of_this_start_lets_the_planes_in() -> None:
    with running_broker(SECURED) as broker:
        account = broker.account
        assert account.host == "127.0.0.1"
        assert len(account.secret) == 64
        for mechanism in ("SCRAM-SHA-256", "PLAIN"):
            with as_user(account, account.user, account.secret, mechanism) as wire:
                answer = wire.ask(fetch_request(0), FETCH_VERSION)
                assert answer.responses[0].partitions[0].error_code == 3  # it is not there: but it may be asked for
                refused = CreateTopicsRequest([CreateTopicsRequest.CreatableTopic("orders", 1, 1)])
                assert wire.ask(refused).topics[0].error_code == 29
        for user, secret in ((account.user, "0" * 64), (account.user, ""), ("nobody", account.secret)):
            with pytest.raises(ClientError), as_user(account, user, secret, "SCRAM-SHA-256"):
                pass
        other = broker.call(open_account)
        assert other.secret != account.secret
        with pytest.raises(AuthenticationError), as_user(account, account.user, account.secret, "SCRAM-SHA-256"):
            pass


def test_the_account_is_nowhere_else() -> None:
    settings = SECURED | {"listeners": "SASL_PLAINTEXT://127.0.0.1:0"}
    with running_broker(settings) as broker:
        ordinary = broker.account._replace(port=broker.port)
        with pytest.raises(AuthenticationError), as_user(ordinary, ordinary.user, ordinary.secret, "SCRAM-SHA-256"):
            pass
        assert not broker.call(lambda core: list(core.metadata.credentials))


def test_users_log_in_with_their_own_passwords_whatever_other_listeners_want() -> None:
    settings = SECURED | {"sasl.enabled.mechanisms": "SCRAM-SHA-512"}
    with running_broker(settings) as broker:
        salted = salt_password(Mechanism.SCRAM_SHA_256, "water", b"salt", ITERATIONS_MIN)
        credential = credential_of(Mechanism.SCRAM_SHA_256, salted, b"salt", ITERATIONS_MIN)
        broker.call(lambda core: core.metadata.credentials.__setitem__(("admin", Mechanism.SCRAM_SHA_256), credential))
        with as_user(broker.account, "admin", "water", "PLAIN") as wire:
            wanted = CreateTopicsRequest([CreateTopicsRequest.CreatableTopic("orders", 1, 1)])
            assert wire.ask(wanted).topics[0].error_code == 0
        with pytest.raises(AuthenticationError), as_user(broker.account, "admin", "wine", "PLAIN"):
            pass


def test_users_log_in_with_tokens_if_a_listener_takes_them(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_bytes(key_set(public_entry("key-1")))
    of_tokens = {
        "listeners": "PLAINTEXT://127.0.0.1:0,SASL_PLAINTEXT://127.0.0.1:0",
        "sasl.enabled.mechanisms": "OAUTHBEARER",
        "sasl.oauthbearer.jwks.endpoint.url": keys.as_uri(),
        "sasl.oauthbearer.expected.issuer": ISSUER,
        "sasl.oauthbearer.expected.audience": AUDIENCE,
        "sasl.oauthbearer.sub.claim.name": "client_id",
        "headwater.sasl.oauthbearer.allowed.files": str(keys),
    }
    with running_broker(SECURED | of_tokens) as broker:
        assert broker.handover.user_claim == "client_id"
        with as_user(broker.account, "", token(client_id="admin"), "OAUTHBEARER") as wire:
            wanted = CreateTopicsRequest([CreateTopicsRequest.CreatableTopic("orders", 1, 1)])
            assert wire.ask(wanted).topics[0].error_code == 0
        of_planes = [token(client_id=name) for name in (PLANES_USER, f" {PLANES_USER} ")]
        for wrong in (token(client_id="admin", aud="x"), *of_planes):
            with pytest.raises(AuthenticationError), as_user(broker.account, "", wrong, "OAUTHBEARER"):
                pass
    with (
        running_broker(SECURED) as broker,
        pytest.raises(AuthenticationError, match="does not take OAUTHBEARER"),
        as_user(broker.account, "", token(), "OAUTHBEARER"),
    ):
        pass


async def test_a_plane_asks_the_broker_whose_token_it_is(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_bytes(key_set(public_entry("key-1")))
    of_tokens = {
        "listeners": "PLAINTEXT://127.0.0.1:0,SASL_PLAINTEXT://127.0.0.1:0",
        "listener.name.sasl_plaintext.sasl.enabled.mechanisms": "OAUTHBEARER",
        "sasl.oauthbearer.jwks.endpoint.url": keys.as_uri(),
        "sasl.oauthbearer.expected.issuer": ISSUER,
        "sasl.oauthbearer.expected.audience": AUDIENCE,
        "headwater.sasl.oauthbearer.allowed.files": str(keys),
    }
    with running_broker(SECURED | of_tokens) as broker:
        access = BrokerAccess(broker.handover, Origins())
        bearer = Bearer(access.user_of)
        assert await bearer.authenticate(f"Bearer {token()}") == "alice"
        assert await bearer.authenticate(f"Bearer {token(sub=' Zoë ')}") == "Zoë"
        for wrong in (
            token(exp=1),
            token("key-9"),
            token(sub=PLANES_USER),
            token(sub=7),
            "x",
            "a.b.c",
            token() + "\x01",
        ):
            with pytest.raises(HttpError) as refused:
                await bearer.authenticate(f"Bearer {wrong}")
            assert refused.value.status == 401
        access.close()
        unaware = BrokerAccess(broker.handover._replace(user_claim=""), Origins())
        assert await unaware.user_of(token()) is None
        unaware.close()


def test_the_listener_is_none_that_could_be_configured() -> None:
    assert LISTENER.name != LISTENER.name.upper()
    assert (LISTENER.host, LISTENER.port, LISTENER.protocol) == ("127.0.0.1", 0, "SASL_PLAINTEXT")
