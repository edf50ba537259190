"""Arguments that must not reach librdkafka: its Python binding would end the process without a word."""

import os
import subprocess
import sys

import pytest

NOT_UTF8 = b"orders\xff"
HEADWATER = [sys.executable, "-m", "headwater"]
NOWHERE = {"HEADWATER_BOOTSTRAP_SERVER": "127.0.0.1:1"}


@pytest.mark.parametrize(
    "words",
    [
        [b"topic", b"delete", NOT_UTF8],
        [b"produce", b"t", b"-H", NOT_UTF8 + b"=x"],
        [b"consume", NOT_UTF8],
        [b"consume", b"t", b"-g", NOT_UTF8],
        [b"group", b"describe", NOT_UTF8],
        [b"topic", b"list", b"-X", NOT_UTF8 + b"=x"],
        [b"user", b"delete", NOT_UTF8],
    ],
    ids=lambda words: b" ".join(words).decode(errors="replace"),
)
def test_an_argument_that_is_not_text_is_named(words: list[bytes]) -> None:
    command = [*map(os.fsencode, HEADWATER), *words]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | NOWHERE, check=False)
    assert result.returncode == 2, result
    assert result.stderr.startswith("headwater: 'orders\\udcff")
    assert result.stderr.endswith("is not UTF-8; all names in Kafka are UTF-8\n")


def test_so_is_the_address_in_the_environment() -> None:
    environment = {**os.environb, b"HEADWATER_BOOTSTRAP_SERVER": NOT_UTF8}
    result = subprocess.run(
        [*HEADWATER, "topic", "list"], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert "is not UTF-8" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["topic", "describe", ""], "TOPIC... is empty"),
        (["topic", "create", ""], "TOPIC... is empty"),
        (["topic", "delete", "a", ""], "TOPIC... is empty"),
        (["consume", ""], "TOPIC is empty"),
        (["produce", ""], "TOPIC is empty"),
        (["group", "describe", ""], "GROUP is empty"),
        (["group", "reset", "", "--to", "beginning"], "GROUP is empty"),
        (["group", "delete", ""], "GROUP... is empty"),
        (["transaction", "describe", ""], "ID is empty"),
        (["user", "delete", ""], "USER is empty"),
        (["config", "unset", "", "a"], "RESOURCE is empty"),
        (["topic", "list", "-b", ""], "--bootstrap-server is empty"),
        (["consume", "t", "-g", ""], "--group is empty"),
        (["consume", "t", "-X", "group.id="], "group= (group.id) is empty"),
        (["consume", "t", "-g", "g", "-X", "group.id="], "group= (group.id) is empty"),
        (["produce", "t", "-X", "transactional.id="], "transactional_id= (transactional.id) is empty"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_an_empty_name_is_refused_in_one_line(words: list[str], said: str) -> None:
    result = subprocess.run(
        [*HEADWATER, *words],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | NOWHERE,
        check=False,
        input="x",
    )
    assert result.returncode in (1, 2), result
    assert result.stderr.startswith("headwater: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
