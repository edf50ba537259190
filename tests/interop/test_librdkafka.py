"""librdkafka's own suite in quick mode, from the sources in its npm package, against three virtual nodes with ACLs.

A cut of it runs in CI; TEST_INTEROP=full runs all of it (a quarter of an hour).
"""

import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import make_certificate, make_suite_files
from tests.identity_provider import serving
from tests.tokens import AUDIENCE, ISSUER

from .conftest import HERE, kafka_jars, need, run, set_options
from .exceptions import read_exceptions
from .servers import HeadwaterServer, running_server
from .test_franz_go import PASSWORD, USER, create_user

PACKAGE = "@confluentinc/kafka-javascript@1.10.1"
IS_FULL = os.environ.get("TEST_INTEROP") == "full"
SUITE_TIMEOUT_S = 2400
BUILD_TIMEOUT_S = 1200
BROKER_VERSION = "4.0.0"  # the newest that the suite tells apart
# Tests that race with themselves, each with the reason. They have this many attempts, and one has to pass.
ATTEMPTS = 3
RACES = {
    "0115": "produces a message to a topic that is forbidden, and expects the next `produce` to succeed: it fails at once where"
    " the broker has answered the first in between"
}
# What runs in CI: one or two seconds each, and transactions, compaction, rebalances, authorization.
CUT = [
    "0001",
    "0002",
    "0003",
    "0005",
    "0007",
    "0008",
    "0011",
    "0012",
    "0013",
    "0014",
    "0017",
    "0018",
    "0019",
    "0022",
    "0026",
    "0029",
    "0031",
    "0034",
    "0035",
    "0036",
    "0038",
    "0042",
    "0044",
    "0048",
    "0050",
    "0054",
    "0057",
    "0063",
    "0064",
    "0070",
    "0073",
    "0077",
    "0085",
    "0089",
    "0090",
    "0099",
    "0103",
    "0112",
    "0113",
    "0115",
    "0130",
    "0132",
    "0137",
    "0140",
]
CURL = (Path("/usr/include/curl/curl.h"), *Path("/usr/include").glob("*-linux-gnu/curl/curl.h"))
RAPIDJSON = Path("/usr/include/rapidjson/rapidjson.h")
OPTIONS = {
    "group.consumer.assignment.interval.ms": "0",
    "group.initial.rebalance.delay.ms": "0",
    "num.partitions": "4",
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
    "replication.factor.clamp": "true",
    "log.cleaner.backoff.ms": "1000",
}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the suite, built."""
    for tool in ("npm", "g++", "make", "javac"):
        need(tool)
    folder = tmp_path_factory.mktemp("librdkafka")
    run(["npm", "pack", "--silent", PACKAGE], cwd=folder)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    source = folder / "package" / "deps" / "librdkafka"
    for path in [source / "configure", *source.glob("*.sh"), *(source / "mklove").rglob("*"), *source.rglob("*.py")]:
        path.chmod(0o755)
    for command in (
        ["./configure", "--enable-devel"],
        ["make", "-j2", "libs"],
        ["make", "-j2", "-C", "tests", "build"],
    ):
        run(command, cwd=source, timeout_s=BUILD_TIMEOUT_S)
    java = source / "tests" / "java"
    run(["javac", "-classpath", kafka_jars(), *java.glob("*.java")], cwd=java)
    return source / "tests"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeadwaterServer]:
    options = [word for key, value in OPTIONS.items() for word in ("--set", f"{key}={value}")]
    with running_server(tmp_path_factory.mktemp("cluster"), "--nodes", "3", *options) as server:
        yield server


def run_suite(
    suite: Path, directory: Path, settings: dict[str, str], tests: str = "", variables: dict[str, str] | None = None
) -> dict[str, str]:
    """Runs it; returns each test's outcome (PASSED or SKIPPED), but for those that need no broker.

    Fails where a test fails, except that one of RACES may fail alone: it runs again, up to `ATTEMPTS` times in all.
    """
    outcomes, failed, output = run_once(suite, directory, settings, tests, variables)
    for attempt in range(2, ATTEMPTS + 1):
        races = {number for name in failed if (number := name[:4]) in RACES}
        if not races or len(races) < len(failed):
            break
        for number in sorted(races):
            print(f"librdkafka's {number} failed; it {RACES[number]}. Attempt {attempt} of {ATTEMPTS}.")
        again, failed, output = run_once(suite, directory, settings, ",".join(sorted(races)), variables)
        outcomes |= {name: outcome for name, outcome in again.items() if name[:4] in races}
    failures = re.findall(r"### Test .*\n.*", output)
    assert not failed, f"FAILED {failed}: {failures}\n{output[-4000:]}"
    return outcomes


def run_once(
    suite: Path,
    directory: Path,
    settings: dict[str, str],
    tests: str,
    variables: dict[str, str] | None,
    *,
    quick: bool = True,
) -> tuple[dict[str, str], list[str], str]:
    """Each test's outcome, the names of those that failed, and the output. A runner that fails otherwise is a failure here."""
    config = directory / "test.conf"
    lines = {**settings, "test.timeout.multiplier": "4"}
    config.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": "../src:../src-cpp",
        "RDKAFKA_TEST_CONF": str(config),
        "TEST_KAFKA_VERSION": BROKER_VERSION,
        "KAFKA_PATH": str(HERE / "kafka"),
        "BROKERS": settings["bootstrap.servers"],
        **(variables or {}),
    }
    if tests:
        environment["TESTS"] = tests
    result = subprocess.run(
        ["./test-runner", "-L", "-p1", *(["-Q"] if quick else [])],
        cwd=suite,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=SUITE_TIMEOUT_S,
        check=False,
    )
    output = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout.decode(errors="replace"))
    # Without the bar at the beginning of a row: a line on standard error can run into it.
    rows = re.findall(r"(\d{4}_\S+) +\| +(\w+) \|[^|]*\|(.*)$", output, re.MULTILINE)
    outcomes = {
        name: outcome for name, outcome, why in rows if "negative test flags" not in why and "not applicable" not in why
    }
    failed = [name for name, outcome in outcomes.items() if outcome == "FAILED" and result.returncode != 0]
    assert failed or result.returncode == 0, output[-4000:]
    return outcomes, failed, output


@pytest.mark.timeout(SUITE_TIMEOUT_S + BUILD_TIMEOUT_S)
def test_the_suite_passes(suite: Path, cluster: HeadwaterServer, tmp_path: Path) -> None:
    settings = {"bootstrap.servers": cluster.address}
    outcomes = run_suite(suite, tmp_path, settings, "" if IS_FULL else ",".join(CUT))
    skipped = {name for name, outcome in outcomes.items() if outcome != "PASSED"}
    elsewhere = {"0097_ssl_verify", "0126_oauthbearer_oidc", "0135_sasl_credentials", "0142_reauthentication"}
    exceptions = read_exceptions("librdkafka")
    needs_rapidjson = set() if RAPIDJSON.exists() else {n for n in skipped if n[:4] in ("0053", "0098", "0101", "0110")}
    assert skipped - elsewhere - needs_rapidjson <= set(exceptions)
    if IS_FULL:
        assert len(exceptions) <= 0.05 * len(outcomes)
    else:
        assert len(outcomes) >= len(CUT)


@pytest.mark.timeout(SUITE_TIMEOUT_S)
def test_authentication_and_reauthentication_pass(suite: Path, tmp_path: Path) -> None:
    create_user(tmp_path / "data")
    listeners = ["--listen", "SASL_PLAINTEXT://127.0.0.1:0", "--set", "connections.max.reauth.ms=10000"]
    with running_server(tmp_path, *listeners) as server:
        settings = {
            "bootstrap.servers": server.addresses["SASL_PLAINTEXT"],
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanisms": "SCRAM-SHA-256",
            "sasl.username": USER,
            "sasl.password": PASSWORD,
        }
        outcomes = run_suite(suite, tmp_path, settings, "0135,0142")
    assert outcomes == {"0135_sasl_credentials": "PASSED", "0142_reauthentication": "PASSED"}


@pytest.mark.timeout(SUITE_TIMEOUT_S)
def test_tokens_of_a_provider_pass(suite: Path, tmp_path: Path) -> None:
    """All that 0126 does with a producer and a consumer; share groups are not part of what is promised."""
    if not any(path.exists() for path in CURL):
        pytest.skip("libcurl's headers are not installed; make interop-tools installs them where it can")
    with serving() as provider:
        pairs = {
            "replication.factor.clamp": "true",
            "sasl.enabled.mechanisms": "OAUTHBEARER",
            "sasl.oauthbearer.jwks.endpoint.url": f"{provider.url}/keys",
            "sasl.oauthbearer.expected.issuer": ISSUER,
            "sasl.oauthbearer.expected.audience": AUDIENCE,
            "headwater.sasl.oauthbearer.allowed.urls": f"{provider.url}/keys",
        }
        with running_server(tmp_path, "--listen", "SASL_PLAINTEXT://127.0.0.1:0", *set_options(pairs)) as server:
            settings = {
                "bootstrap.servers": server.addresses["SASL_PLAINTEXT"],
                "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanisms": "OAUTHBEARER",
                "sasl.oauthbearer.method": "OIDC",
                "sasl.oauthbearer.client.id": "billing",
                "sasl.oauthbearer.client.secret": "secret",
            }
            variables = {
                "VALID_OIDC_URL": f"{provider.url}/token",
                "INVALID_OIDC_URL": f"{provider.url}/nowhere",
                "EXPIRED_TOKEN_OIDC_URL": f"{provider.url}/expired",
                "SUBTESTS": "do_test_produce_consumer_with_OIDC",
            }
            # In quick mode it would do nothing.
            outcomes, _, output = run_once(suite, tmp_path, settings, "0126", variables, quick=False)
        granted = len(provider.granted)
    assert outcomes == {"0126_oauthbearer_oidc": "PASSED"}, output[-4000:]
    assert granted >= 10


@pytest.mark.timeout(SUITE_TIMEOUT_S)
def test_tls_with_every_form_of_keys_passes(suite: Path, tmp_path: Path) -> None:
    need("openssl")
    # With a short key the broker answers within the client's first call to OpenSSL, where librdkafka reports a failed
    # verification as another error than the suite expects.
    files = make_suite_files(tmp_path, PASSWORD)
    broker = make_certificate(tmp_path, "broker", tmp_path / "authority.pem", key_bits=8192)
    pairs = {
        "ssl.keystore.location": broker,
        "ssl.truststore.location": files["ca_pem"],
        "ssl.client.auth": "required",
    }
    options = [word for key, value in pairs.items() for word in ("--set", f"{key}={value}")]
    with running_server(tmp_path, "--listen", "SSL://127.0.0.1:0", *options) as server:
        settings = {
            "bootstrap.servers": server.addresses["SSL"],
            "security.protocol": "SSL",
            "ssl.ca.location": str(files["ca_pem"]),
            "ssl.certificate.location": str(files["pub_pem"]),
            "ssl.key.location": str(files["priv_pem"]),
            "ssl.key.password": PASSWORD,
        }
        variables = {f"SSL_{name}": str(path) for name, path in files.items()}
        variables |= {"SSL_password": PASSWORD, "SSL_client_auth": "required"}
        outcomes = run_suite(suite, tmp_path, settings, "0097", variables)
    assert outcomes == {"0097_ssl_verify": "PASSED"}


@pytest.mark.parametrize(
    ("failing", "passes"),
    [
        (["0115"], True),
        (["0115", "0115"], True),
        (["0115"] * ATTEMPTS, False),
        (["0011"], False),
        (["0011 0115"], False),
    ],
)
def test_only_a_race_has_more_attempts(tmp_path: Path, failing: list[str], passes: bool) -> None:
    """`failing`: which tests fail in which run of a runner that prints its table as librdkafka's does."""
    for run_number, numbers in enumerate(failing):
        (tmp_path / f"failing-{run_number}").write_text(numbers)
    runner = tmp_path / "test-runner"
    runner.write_text(
        "#!/bin/sh\n"
        "failing=$(ls failing-* 2>/dev/null | head -1); numbers=$(cat $failing /dev/null); rm -f $failing\n"
        "for number in $(echo ${TESTS:-0011,0115} | tr , ' '); do\n"
        '  case " $numbers " in *" $number "*) outcome=FAILED;; *) outcome=PASSED;; esac\n'
        '  echo "| ${number}_test  |  $outcome | 1.0s |"\n'
        "done\n"
        '[ -z "$numbers" ]\n'
    )
    runner.chmod(0o755)
    settings = {"bootstrap.servers": "localhost:1"}
    if passes:
        assert run_suite(tmp_path, tmp_path, settings) == {"0011_test": "PASSED", "0115_test": "PASSED"}
    else:
        with pytest.raises(AssertionError, match=r"FAILED .*_test"):
            run_suite(tmp_path, tmp_path, settings)
