"""Connections by name, and which of several places a setting comes from."""

import json
from pathlib import Path

import pytest

from headwater.cli.connection import Connection
from headwater.cli.errors import CommandError
from tests.cli.runner import invoke

PROFILES = """
[local]
bootstrap-server = "127.0.0.1:19092"

[production]
bootstrap-server = "broker:9093"
client-config = "production.properties"
password-file = "production.password"

[production.settings]
"sasl.username" = "alice"
"client.id" = "profile"
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HEADWATER_PROFILE", "HEADWATER_CLIENT_CONFIG", "HEADWATER_BOOTSTRAP_SERVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    found = tmp_path / "headwater"
    found.mkdir()
    (found / "profiles.toml").write_text(PROFILES)
    (found / "production.properties").write_text("security.protocol=SASL_SSL\nclient.id=file\nsasl.mechanism=PLAIN\n")
    (found / "production.password").write_text("correct horse\n")
    return found


def test_a_profile_is_put_together(directory: Path) -> None:
    assert Connection(profile="production").settings() == {
        "bootstrap.servers": "broker:9093",
        "log_level": 0,
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "alice",
        "sasl.password": "correct horse",
        "client.id": "profile",
    }


def test_what_is_typed_counts_more_than_what_variables_say(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = directory / "other.properties"
    other.write_text("client.id=other\nbootstrap.servers=other:1\n")
    assert Connection().settings()["bootstrap.servers"] == "127.0.0.1:9092"
    monkeypatch.setenv("HEADWATER_PROFILE", "local")
    assert Connection().settings()["bootstrap.servers"] == "127.0.0.1:19092"
    monkeypatch.setenv("HEADWATER_CLIENT_CONFIG", str(other))
    assert Connection().settings()["bootstrap.servers"] == "other:1"
    monkeypatch.setenv("HEADWATER_BOOTSTRAP_SERVER", "variable:1")
    assert Connection().settings()["bootstrap.servers"] == "variable:1"
    typed = Connection(profile="production").settings()
    assert (typed["bootstrap.servers"], typed["client.id"]) == ("broker:9093", "profile")
    assert Connection(client_config=other).settings()["bootstrap.servers"] == "other:1"
    assert Connection("typed:1", profile="production").settings()["bootstrap.servers"] == "typed:1"
    assert Connection(None, ["client.id=x"], profile="production").settings()["client.id"] == "x"


def test_profiles_are_listed_and_shown_without_secrets(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_PROFILE", "local")
    listed = json.loads(invoke("profile", "list", "-o", "json").stdout)
    assert [(row["profile"], row["active"]) for row in listed] == [("local", True), ("production", False)]
    shown = invoke("profile", "show", "production")
    assert "correct horse" not in shown.stdout
    assert "sasl.password      (hidden)" in shown.stdout
    with pytest.raises(CommandError, match=r"profile nope does not exist in .*; existing profiles: local, production"):
        Connection(profile="nope").settings()


def test_a_password_may_come_from_a_variable(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "profiles.toml").write_text('[a]\npassword-variable = "A_PASSWORD"\n')
    monkeypatch.setenv("A_PASSWORD", "hers")
    assert Connection(profile="a").settings()["sasl.password"] == "hers"
    monkeypatch.delenv("A_PASSWORD")
    with pytest.raises(CommandError, match="A_PASSWORD is not set"):
        Connection(profile="a").settings()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('[a.settings]\n"sasl.password" = "x"', "sasl.password is a secret; use password-file"),
        ('[a]\nserver = "x"', "unknown key server; known keys: bootstrap-server"),
        ("[a]\nbootstrap-server = 1", "bootstrap-server must be text"),
        ('a = "x"', "must be a table"),
        ("[a.settings]\nsasl.username = 'x'", "in quotation marks"),
        ('[a]\npassword-file = "x"\npassword-variable = "y"', "either"),
        ('[a]\npassword-file = "none"', "none: cannot be read"),
        ("[a", "profiles.toml: "),
        ('[a.settings]\n"sasl.kerberos.keytab" = "x"', "profile a: sasl.kerberos.keytab is not supported"),
    ],
)
def test_a_profile_that_cannot_be_used_is_named(directory: Path, content: str, says: str) -> None:
    (directory / "profiles.toml").write_text(content)
    with pytest.raises(CommandError) as caught:
        Connection(profile="a").settings()
    assert says in str(caught.value)


def test_without_a_file_there_are_no_profiles(directory: Path) -> None:
    (directory / "profiles.toml").unlink()
    with pytest.raises(CommandError, match="there are no profiles"):
        Connection(profile="a").settings()
    assert isinstance(invoke("profile", "list").exception, CommandError)
