"""Named profiles: a user's connections, in one file.

The file is `headwater/profiles.toml` in the user's configuration directory ($XDG_CONFIG_HOME, or ~/.config):

    [production]
    bootstrap-server = "broker.example.org:9093"
    client-config = "production.properties"     # relative to this file
    password-file = "production.password"       # or password-variable = "PRODUCTION_PASSWORD"

    [production.settings]                       # Kafka's settings, or librdkafka's
    "security.protocol" = "SASL_SSL"
    "sasl.mechanism" = "SCRAM-SHA-512"
    "sasl.username" = "alice"

Passwords in this file are refused, because it is easily shown, copied and backed up. They come from a file or a variable.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

from headwater.cli.errors import CommandError

KEYS = ("bootstrap-server", "client-config", "password-file", "password-variable", "settings")
SECRETS = (
    "sasl.password",
    "sasl.jaas.config",
    "ssl.key.password",
    "ssl.keystore.password",
    "ssl.key.pem",
    "ssl.keystore.key",
)


class Profile(NamedTuple):
    """A named connection. `settings` are as the user wrote them: Kafka's, or librdkafka's."""

    name: str
    bootstrap_server: str | None
    client_config: Path | None
    password_file: Path | None
    password_variable: str | None
    settings: dict[str, str]

    def password(self) -> str | None:
        """Reads the password, if there is one. Raises CommandError."""
        if self.password_variable is not None:
            if not (found := os.environ.get(self.password_variable)):
                raise CommandError(f"profile {self.name}: the variable {self.password_variable} is not set")
            return found
        return None if self.password_file is None else first_line(self.password_file)


def profiles_file() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(base, "headwater", "profiles.toml")


def first_line(path: Path) -> str:
    """The first line of a file. Raises CommandError."""
    return read_text(path).partition("\n")[0].rstrip("\r")


def read_text(path: Path) -> str:
    """The text of a file. Raises CommandError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise CommandError(f"{path}: cannot be read: {reason}") from error


def all_profiles() -> dict[str, Profile]:
    """The user's profiles by name; none if there is no file. Raises CommandError."""
    import tomllib

    path = profiles_file()
    if not path.exists():
        return {}
    try:
        tables = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise CommandError(f"{path}: {error}") from error
    return {name: read_profile(path, name, table) for name, table in tables.items()}


def find_profile(name: str) -> Profile:
    """The profile with that name. Raises CommandError."""
    found = all_profiles()
    if name not in found:
        known = f"existing profiles: {', '.join(found)}" if found else "there are no profiles"
        raise CommandError(f"profile {name} does not exist in {profiles_file()}; {known}")
    return found[name]


def read_profile(path: Path, name: str, table: Any) -> Profile:
    """Checks a profile's table. Raises CommandError."""
    where = f"{path}: profile {name}"
    if not isinstance(table, dict):
        raise CommandError(f"{where} must be a table, [{name}]")
    for key, value in table.items():
        if key not in KEYS:
            raise CommandError(f"{where}: unknown key {key}; known keys: {', '.join(KEYS)}")
        if not isinstance(value, dict if key == "settings" else str):
            raise CommandError(f"{where}: {key} must be {'a table' if key == 'settings' else 'text'}")
    settings = table.get("settings", {})
    for key, value in settings.items():
        if key in SECRETS:
            raise CommandError(f"{where}: {key} is a secret; use password-file, password-variable or client-config")
        if not isinstance(value, str | int | bool):
            raise CommandError(f'{where}: write "{key}" in quotation marks, and its value as text or a number')
    if "password-file" in table and "password-variable" in table:
        raise CommandError(f"{where}: give either password-file or password-variable, not both")
    files = {
        key: path.parent / Path(table[key]).expanduser() for key in ("client-config", "password-file") if key in table
    }
    return Profile(
        name,
        table.get("bootstrap-server"),
        files.get("client-config"),
        files.get("password-file"),
        table.get("password-variable"),
        {key: value_text(value) for key, value in settings.items()},
    )


def value_text(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
