"""Delegation tokens beside a real Apache Kafka, by Kafka's own tool, and as passwords of Java's clients and of franz-go."""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from tests.cli.test_commands import headwater
from tests.security.matrix import message

from .conftest import HERE, SAME_SETTINGS, need, run, running_kafka
from .differential.token_walk import PASSWORD, SecuredSide, TokenWalk
from .servers import HeadwaterServer, free_port, running_server

Tool = Callable[..., str]
WALKS = int(os.environ.get("TEST_WALKS", "60" if os.environ.get("TEST_INTEROP") == "full" else "6"))
STEPS = 50
TRIES_MAX = 50
SETTINGS = {**SAME_SETTINGS, "delegation.token.secret.key": "a key that nobody knows"}
REFUSALS = {
    ErrorCode.SASL_AUTHENTICATION_FAILED,
    ErrorCode.DELEGATION_TOKEN_NOT_FOUND,
    ErrorCode.DELEGATION_TOKEN_OWNER_MISMATCH,
    ErrorCode.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED,
    ErrorCode.DELEGATION_TOKEN_AUTHORIZATION_FAILED,
    ErrorCode.DELEGATION_TOKEN_EXPIRED,
    ErrorCode.INVALID_PRINCIPAL_TYPE,
}
DUMP = "org.apache.kafka.tools.DumpLogSegments"
TOKEN_COMMAND = "org.apache.kafka.tools.DelegationTokenCommand"
CONSOLE_PRODUCER = "org.apache.kafka.tools.ConsoleProducer"
CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeadwaterServer]:
    directory = tmp_path_factory.mktemp("secured")
    (directory / "broker.properties").write_text("".join(f"{key}={value}\n" for key, value in SETTINGS.items()))
    options = ["--listen", "SASL_PLAINTEXT://127.0.0.1:0", "--config", str(directory / "broker.properties")]
    with running_server(directory, *options) as server:
        yield server


def side_of(server: HeadwaterServer) -> SecuredSide:
    return SecuredSide(server.address, server.addresses["SASL_PLAINTEXT"])


@pytest.fixture(scope="module")
def secured_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The addresses of a Kafka's listeners: in the clear, and for users."""
    sasl_port = free_port()
    with running_kafka(tmp_path_factory.mktemp("kafka"), SETTINGS, sasl_port) as kafka:
        yield kafka, f"127.0.0.1:{sasl_port}"


@pytest.mark.timeout(600)
def test_generated_sequences_get_kafkas_answers(secured: HeadwaterServer, secured_kafka: tuple[str, str]) -> None:
    with closing(SecuredSide(*secured_kafka)) as kafka, closing(side_of(secured)) as ours:
        sides = kafka, ours
        seen: set[tuple[str, int]] = set()
        for number in range(WALKS):
            walk = TokenWalk(f"{number}", sides)
            for _ in range(STEPS):
                kind, one, other = walk.step()
                assert one == other, "\n".join(walk.trail)
                seen.add((kind, one[0]))
        assert {kind for kind, code in seen if not code} == {"create", "renew", "expire", "describe"}
        assert {code for _, code in seen} >= REFUSALS
        assert ("log_in", ErrorCode.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED) in seen  # it came in, and made no token


def shown(until: str, *words: object) -> str:
    """What a command shows when it shows this; a Kafka does so after a moment."""
    for _ in range(TRIES_MAX):
        if until in (output := headwater(*words)):
            return output
    raise AssertionError(f"{until} is not in {output}")


def test_the_commands_administer_a_kafka(secured_kafka: tuple[str, str]) -> None:
    plain, sasl = secured_kafka
    at = ("-b", plain)
    headwater("user", "create", "carol", *at, stdin=f"{PASSWORD}\n")
    with closing(SecuredSide(plain, sasl)) as side:
        side.log_in("carol")
    login = ("security.protocol=SASL_PLAINTEXT", "sasl.mechanism=SCRAM-SHA-256", "sasl.username=carol")
    options = (word for setting in (*login, f"sasl.password={PASSWORD}") for word in ("-X", setting))
    as_carol = ("-b", sasl, *options)
    made = json.loads(headwater("token", "create", "--renewer", "User:dave", "-o", "json", *as_carol))
    assert made["owner"] == "User:carol"
    assert "User:dave" in shown(made["token"], "token", "list", *as_carol)
    assert headwater("token", "renew", made["token"], *as_carol).startswith(f"Renewed token {made['token']}")
    assert headwater("token", "expire", made["token"], *as_carol) == f"Ended token {made['token']}\n"
    headwater("acl", "add", "User:carol", "user:dave", "create_tokens", *at)
    shown("user:dave", "acl", "list", *at)
    assert headwater("acl", "remove", "User:carol", "user:dave", *at).startswith("Removed 1 entry")
    headwater("quota", "set", "ip:192.0.2.1", "connection_creation_rate=5000", *at)
    shown("ip:192.0.2.1", "quota", "list", *at)
    headwater("quota", "unset", "ip:192.0.2.1", "connection_creation_rate", *at)
    headwater("user", "delete", "carol", *at)


def test_kafkas_tool_reads_the_records_of_tokens(kafka_tool: Tool, tmp_path: Path) -> None:
    (tmp_path / "broker.properties").write_text("delegation.token.secret.key=a key that nobody knows\n")
    options = ["--listen", "SASL_PLAINTEXT://127.0.0.1:0", "--config", str(tmp_path / "broker.properties")]
    with running_server(tmp_path, *options) as server:
        side = side_of(server)
        side.add_user("alice")
        key = ApiKey.CREATE_DELEGATION_TOKEN
        token_id = side.ask("alice", key, 3, message(key)(None, None, [], -1)).token_id
        side.close()
    log = tmp_path / "data" / "__cluster_metadata-0" / f"{0:020d}.log"
    dumped = kafka_tool(DUMP, "--cluster-metadata-decoder", "--files", log)
    record = next(line for line in dumped.splitlines() if "DELEGATION_TOKEN_RECORD" in line)
    assert f'"tokenId":"{token_id}"' in record
    assert '"owner":"User:alice"' in record


def client_file(path: Path, user: str, password: str, *, is_token: bool = False) -> Path:
    """Settings of a Java client."""
    extension = " tokenauth=true" if is_token else ""
    path.write_text(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\n"
        "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required "
        f'username="{user}" password="{password}"{extension};\n'
    )
    return path


@pytest.fixture
def franz_go(tmp_path: Path) -> Path:
    """A program with franz-go that writes to a topic and reads it."""
    need("go")
    run(["go", "build", "-o", tmp_path / "franz", "."], cwd=HERE / "go")
    return tmp_path / "franz"


def test_kafkas_tool_and_clients(secured: HeadwaterServer, kafka_tool: Tool, franz_go: Path, tmp_path: Path) -> None:
    """A user makes a token with Kafka's tool; a job produces and consumes with it; the tool renews and ends it."""
    side = side_of(secured)
    side.add_user("alice")
    side.plain.create_topic("of-alice")
    side.plain.create_topic("of-alice-too")
    acl = "org.apache.kafka.tools.AclCommand"
    plain = ["--bootstrap-server", secured.address]
    for resource in (["--topic", "of-alice", "--resource-pattern-type", "prefixed"], ["--group", "*"]):
        kafka_tool(acl, *plain, "--add", *resource, "--allow-principal", "User:alice", "--operation", "All")
    address = secured.addresses["SASL_PLAINTEXT"]
    as_alice = client_file(tmp_path / "alice.properties", "alice", PASSWORD)
    token = ["--bootstrap-server", address, "--command-config", as_alice]
    made = kafka_tool(
        TOKEN_COMMAND, *token, "--create", "--max-life-time-period", -1, "--renewer-principal", "User:bob"
    )
    found = re.search(r"^(\S{22})\s+(\S{88})\s+User:alice\s+User:alice\s+\[User:bob\]", made, re.MULTILINE)
    assert found, made
    described = ["--describe", "--owner-principal", "User:alice"]  # without an owner Kafka shows none
    as_job = client_file(tmp_path / "job.properties", found[1], found[2], is_token=True)
    job = ["--bootstrap-server", address, "--topic", "of-alice"]
    kafka_tool(CONSOLE_PRODUCER, *job, "--command-config", as_job, input="one\ntwo\n")
    consumed = kafka_tool(
        *[CONSOLE_CONSUMER, *job, "--command-config", as_job, "--from-beginning"],
        *["--max-messages", 2, "--timeout-ms", 20000],
    )
    assert consumed.split() == ["one", "two"]
    assert "ok 10000" in run([franz_go, address, "of-alice-too", found[1], found[2]])
    assert found[1] in kafka_tool(TOKEN_COMMAND, *token, *described)
    renewed = kafka_tool(TOKEN_COMMAND, *token, "--renew", "--hmac", found[2], "--renew-time-period", -1)
    assert "Completed renew operation" in renewed
    ended = kafka_tool(TOKEN_COMMAND, *token, "--expire", "--hmac", found[2], "--expiry-time-period", -1)
    assert "Completed expire operation" in ended
    assert "Total number of tokens : 0" in kafka_tool(TOKEN_COMMAND, *token, *described)
    side.close()
