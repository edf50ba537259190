"""Users, entries, configurations and transactions, from the command line."""

import json
from pathlib import Path

import pytest
from confluent_kafka import Producer

import headwater as hw
from tests.cli.test_commands import headwater


def test_the_first_super_user_is_made_while_the_broker_is_stopped(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert "no password" in headwater("user", "create", "admin", "--data", data, status=1)
    headwater("user", "create", "admin", "--super-user", "--data", data, stdin="secret\n")
    settings = {"listeners": "SASL_PLAINTEXT://127.0.0.1:0"}
    with hw.Broker(data, settings=settings) as broker:
        assert "in use" in headwater("user", "create", "x", "--data", data, stdin="x\n", status=1)
        login = ["-b", broker.address, "-X", "security.protocol=SASL_PLAINTEXT", "-X", "sasl.mechanism=PLAIN"]
        admin = [*login, "-X", "sasl.username=admin", "-X", "sasl.password=secret"]
        alice = [*login, "-X", "sasl.username=alice", "-X", "sasl.password=hers"]
        headwater("user", "create", "alice", *admin, stdin="hers\n")
        users = json.loads(headwater("user", "list", "-o", "json", *admin))
        assert [user["user"] for user in users] == ["admin", "alice"]
        assert users[0]["mechanisms"] == "SCRAM-SHA-256, SCRAM-SHA-512"
        headwater("topic", "create", "orders", *admin)
        assert headwater("topic", "list", *alice) == ""
        headwater("acl", "add", "User:alice", "topic:ord*", "read", "write", *admin)
        assert "orders" in headwater("topic", "list", *alice)
        listed = json.loads(headwater("acl", "list", "-o", "json", *admin))
        assert [(e["operation"], e["resource"], e["permission"]) for e in listed] == [
            ("read", "topic:ord*", "allow"),
            ("write", "topic:ord*", "allow"),
        ]
        refused = headwater("acl", "add", "User:alice", "cluster", "all", *alice, status=1)
        assert "CLUSTER_AUTHORIZATION_FAILED" in refused
        assert headwater("transaction", "list", *alice) == ""
        headwater("acl", "remove", "User:alice", "topic:ord*", "write", *admin)
        headwater("acl", "remove", "User:alice", "topic:ord*", *admin)
        assert "no such entry" in headwater("acl", "remove", "User:alice", "topic:ord*", *admin, status=1)
        headwater("user", "delete", "alice", *admin)
        assert len(json.loads(headwater("user", "list", "-o", "json", *admin))) == 1
        wrong = [*login, "-X", "sasl.username=admin", "-X", "sasl.password=guess"]
        assert "Invalid username or password" in headwater("transaction", "list", *wrong, status=1)
        assert "closed the connection" in headwater("transaction", "list", "-b", broker.address, status=1)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("acl", "add", "User:a", "table:x", "read"), "topic:NAME"),
        (("acl", "add", "User:a", "topic:x", "fly"), "unknown operation"),
        (("acl", "add", "alice", "topic:x", "read"), "'alice' is not a principal: User:NAME"),
        (("acl", "remove", "alice", "topic:x"), "'alice' is not a principal: User:NAME"),
        (("acl", "add", "User:a", "transaction:x", "read"), "use all, describe, two_phase_commit, write"),
        (("config", "set", "table:x", "a=b"), "topic:NAME"),
        (("config", "set", "topic:x", "a"), "NAME=VALUE"),
        (("transaction", "list", "-b", "127.0.0.1:1"), "no answer"),
        (("transaction", "list", "-b", "here"), "no answer"),
    ],
)
def test_invalid_arguments_are_explained(words: tuple[str, ...], says: str) -> None:
    assert says in headwater(*words, status=1)


def test_configurations() -> None:
    with hw.Broker() as broker:
        headwater("topic", "create", "t", broker=broker)
        headwater("config", "set", "topic:t", "retention.ms=5000", broker=broker)
        assert json.loads(headwater("config", "show", "topic:t", "-o", "json", broker=broker)) == [
            {"name": "retention.ms", "value": "5000", "default": False}
        ]
        headwater("config", "unset", "topic:t", "retention.ms", broker=broker)
        assert headwater("config", "show", "topic:t", broker=broker) == ""
        headwater("config", "set", "broker:1", "log.retention.ms=7000", broker=broker)
        assert "7000" in headwater("config", "show", "broker:1", broker=broker)
        described = headwater("config", "show", "topic:t", "--all", "-o", "json", broker=broker)
        assert {"name": "retention.ms", "value": "7000", "default": False} in json.loads(described)
        assert "dynamically" in headwater("config", "set", "broker:1", "node.id=5", broker=broker, status=1)
        headwater("config", "set", "group:g", "consumer.session.timeout.ms=50000", broker=broker)


def test_transactions_of_a_cluster() -> None:
    """Each of its brokers coordinates some transactional ids and leads some partitions, and knows nothing of the others."""
    names = [f"tx-{number}" for number in range(6)]
    with hw.Broker(settings={"headwater.nodes": 3}) as broker:
        with hw.Admin(broker) as admin:
            admin.create_topic("t", 6)
        for number, name in enumerate(names):
            producer = Producer({"bootstrap.servers": broker.address, "transactional.id": name})
            producer.init_transactions()
            producer.begin_transaction()
            producer.produce("t", b"v", partition=number)
            producer.flush()
        rows = json.loads(headwater("transaction", "list", "-o", "json", broker=broker))
        assert [row["id"] for row in rows] == names
        for number, name in enumerate(names):
            (row,) = json.loads(headwater("transaction", "describe", name, "-o", "json", broker=broker))
            assert (row["state"], row["partitions"]) == ("Ongoing", f"t-{number}")
            headwater("transaction", "abort", "t", number, "--start-offset", 0, broker=broker)
        assert "t-6: " in headwater("transaction", "abort", "t", 6, "--start-offset", 0, broker=broker, status=1)
        assert "no-t" in headwater("transaction", "abort", "no-t", 0, "--start-offset", 0, broker=broker, status=1)


def test_quotas() -> None:
    with hw.Broker() as broker:
        assert headwater("quota", "list", broker=broker) == ""
        headwater("quota", "set", "user:alice", "producer_byte_rate=1000000", "request_percentage=12.5", broker=broker)
        headwater("quota", "set", "user:*,client:app", "consumer_byte_rate=5000", broker=broker)
        headwater("quota", "set", "client:*", "controller_mutation_rate=2", broker=broker)
        headwater("quota", "unset", "user:alice", "request_percentage", broker=broker)
        assert headwater("quota", "list", broker=broker).splitlines()[-1].split() == [
            "user:alice",
            "producer_byte_rate",
            "1000000",
        ]
        rows = json.loads(headwater("quota", "list", "-o", "json", broker=broker))
        assert [(row["entity"], row["quota"], row["value"]) for row in rows] == [
            ("client:*", "controller_mutation_rate", 2.0),
            ("user:*,client:app", "consumer_byte_rate", 5000.0),
            ("user:alice", "producer_byte_rate", 1000000.0),
        ]


def test_quotas_of_addresses() -> None:
    with hw.Broker() as broker:
        for entity in ("ip:10.0.0.1", "ip:2001:db8::1", "ip:*"):
            said = headwater("quota", "set", entity, "connection_creation_rate=1000", broker=broker)
            assert said == f"Changed the quotas of {entity}\n"
        headwater("quota", "unset", "ip:10.0.0.1", "connection_creation_rate", broker=broker)
        rows = json.loads(headwater("quota", "list", "-o", "json", broker=broker))
        assert [row["entity"] for row in rows] == ["ip:*", "ip:2001:db8::1"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["user", "producer_byte_rate=1"], "'user' is not an entity: user:NAME, client:ID, "),
        (["client:app,client:b", "producer_byte_rate=1"], "is not an entity"),
        (["ip:10.0.0.1,client:b", "connection_creation_rate=1"], "is not an entity"),
        (["ip:localhost", "connection_creation_rate=1"], "localhost is not a valid IP or resolvable host."),
        (["ip:10.0.0.1", "producer_byte_rate=1"], "Invalid configuration key producer_byte_rate"),
        (["user:a", "producer_byte_rate=much"], "producer_byte_rate: 'much' is not a number"),
        (["user:a", "speed=1"], "there is no quota 'speed'; there are producer_byte_rate, "),
        (["user:a", "producer_byte_rate=-1"], "must be greater than 0"),
    ],
)
def test_quotas_that_cannot_be_set(arguments: list[str], reason: str) -> None:
    with hw.Broker() as broker:
        assert reason in headwater("quota", "set", *arguments, broker=broker, status=1)


def test_transactions() -> None:
    with hw.Broker() as broker:
        producer = Producer({"bootstrap.servers": broker.address, "transactional.id": "tx"})
        producer.init_transactions()
        producer.begin_transaction()
        producer.produce("t", b"v", partition=0)
        producer.flush()
        assert "Ongoing" in headwater("transaction", "list", broker=broker)
        assert headwater("transaction", "list", "--state", "Empty", broker=broker) == ""
        assert "unknown state" in headwater("transaction", "list", "--state", "Sleepy", broker=broker, status=1)
        (row,) = json.loads(headwater("transaction", "describe", "tx", "-o", "json", broker=broker))
        assert (row["state"], row["partitions"]) == ("Ongoing", "t-0")
        assert "TRANSACTIONAL_ID_NOT_FOUND" in headwater("transaction", "describe", "no", broker=broker, status=1)
        assert "no open transaction" in headwater(
            "transaction", "abort", "t", 0, "--start-offset", 9, broker=broker, status=1
        )
        headwater("transaction", "abort", "t", 0, "--start-offset", 0, broker=broker)
        producer.abort_transaction()
