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
def test_an_argument_that_is_no_text_is_named(words: list[bytes]) -> None:
    command = [*map(os.fsencode, HEADWATER), *words]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | NOWHERE, check=False)
    assert result.returncode == 2, result
    assert result.stderr.startswith("headwater: 'orders\\udcff")
    assert result.stderr.endswith("is not UTF-8, as all names in Kafka are\n")


def test_so_is_the_address_in_the_environment() -> None:
    environment = {**os.environb, b"HEADWATER_BOOTSTRAP_SERVER": NOT_UTF8}
    result = subprocess.run(
        [*HEADWATER, "topic", "list"], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert "is not UTF-8" in result.stderr
