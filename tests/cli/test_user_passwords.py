"""Where `headwater user create` takes a password from, and that it makes no super user unless it is asked to."""

import getpass
import os
import sys
from pathlib import Path

import pytest

from headwater.broker.configs.settings import Settings
from headwater.broker.shell.run import open_core
from headwater.cli import user
from headwater.cli.errors import CommandError
from headwater.security.scram import Mechanism, password_matches


class Terminal:
    """A standard input with a person at it, who types these words."""

    def __init__(self, *typed: str) -> None:
        self.typed = iter(typed)

    def isatty(self) -> bool:
        return True

    def getpass(self, prompt: str) -> str:
        return next(self.typed)


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(user.PASSWORD_VARIABLE, raising=False)


def at_terminal(monkeypatch: pytest.MonkeyPatch, *typed: str) -> None:
    terminal = Terminal(*typed)
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr(getpass, "getpass", terminal.getpass)


def test_a_terminal_is_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    at_terminal(monkeypatch, "secret", "secret")
    assert user.read_password(None, from_stdin=False) == "secret"
    at_terminal(monkeypatch, "secret", "sceret")
    with pytest.raises(CommandError, match="differ"):
        user.read_password(None, from_stdin=False)
    at_terminal(monkeypatch, "", "")
    with pytest.raises(CommandError, match="no password"):
        user.read_password(None, from_stdin=False)


def test_a_file_has_it_in_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("sécret = 1\r\nignored")
    assert user.read_password(path, from_stdin=False) == "sécret = 1"
    with pytest.raises(CommandError, match="not both"):
        user.read_password(path, from_stdin=True)
    with pytest.raises(CommandError, match="cannot be read"):
        user.read_password(tmp_path / "none", from_stdin=False)


def test_the_variable_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(user.PASSWORD_VARIABLE, "secret")
    at_terminal(monkeypatch)
    assert user.read_password(None, from_stdin=False) == "secret"


@pytest.mark.parametrize("super_user", [False, True])
def test_a_super_user_is_made_only_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, super_user: bool
) -> None:
    monkeypatch.setenv(user.PASSWORD_VARIABLE, "secret")
    user.create("alice", data=tmp_path / "data", super_user=super_user)
    core = open_core(Settings(), os.fspath(tmp_path / "data"))
    try:
        credential = core.metadata.credentials["alice", Mechanism.SCRAM_SHA_512]
        assert password_matches(Mechanism.SCRAM_SHA_512, credential, "secret")
        assert core.metadata.acls.super_users == (frozenset({"User:alice"}) if super_user else frozenset())
    finally:
        core.close()


def test_a_super_user_is_made_only_while_the_broker_is_stopped() -> None:
    with pytest.raises(CommandError, match="--data"):
        user.create("alice", super_user=True)
