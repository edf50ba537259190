"""Which broker a command connects to, and how it logs in: the options that these commands share.

Settings come from four places. If several of them have the same setting, the later one in this list wins:

1. a profile: `--profile`, or the variable HEADWATER_PROFILE
2. a file in Kafka's format: `--client-config`, or the variable HEADWATER_CLIENT_CONFIG
3. the address: `--bootstrap-server`, or the variable HEADWATER_BOOTSTRAP_SERVER
4. single settings of librdkafka: `-X`

If the command line names a profile or a file, the variables for these and for the address have no effect: what the user
typed for this command takes precedence.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from headwater.cli.client_config import client_config
from headwater.cli.errors import CommandError
from headwater.cli.markers import Option
from headwater.cli.profiles import Profile, find_profile, profiles_file, read_text

if TYPE_CHECKING:
    from headwater.client.admin import Admin

DEFAULT_BOOTSTRAP = "127.0.0.1:9092"
BOOTSTRAP_VARIABLE = "HEADWATER_BOOTSTRAP_SERVER"
CLIENT_CONFIG_VARIABLE = "HEADWATER_CLIENT_CONFIG"
PROFILE_VARIABLE = "HEADWATER_PROFILE"
TIMEOUT_MS = 10_000.0


class Connection(NamedTuple):
    """The values of the options; `settings` combines them."""

    bootstrap: str | None = None
    client: list[str] | None = None
    client_config: Path | None = None
    profile: str | None = None

    def settings(self) -> dict[str, Any]:
        """librdkafka's settings. Raises CommandError."""
        typed = bool(self.profile or self.client_config)
        profile = self.profile or ("" if typed else os.environ.get(PROFILE_VARIABLE))
        config = self.client_config or ("" if typed else os.environ.get(CLIENT_CONFIG_VARIABLE))
        bootstrap = self.bootstrap or ("" if typed else os.environ.get(BOOTSTRAP_VARIABLE))
        settings: dict[str, Any] = {"bootstrap.servers": DEFAULT_BOOTSTRAP, "log_level": 0}
        if profile:
            settings |= profile_settings(find_profile(profile))
        if config:
            settings |= file_settings(Path(config))
        if bootstrap:
            settings["bootstrap.servers"] = bootstrap
        for text in self.client or ():
            for line in lines_of(Path(text[1:])) if text.startswith("@") else [text]:
                key, equals, value = line.partition("=")
                if not equals:
                    raise CommandError(f"--client {line!r} is neither key=value nor @FILE")
                settings[key.strip()] = value.strip()
        return settings

    def admin(self, *, timeout_ms: float = TIMEOUT_MS) -> "Admin":
        """An Admin that does not wait until a broker comes up. Raises CommandError and ClientError."""
        from headwater.client.admin import Admin

        settings = self.settings()
        return Admin(settings["bootstrap.servers"], timeout_ms=timeout_ms, fail_fast=True, settings=settings)


NO_OPTIONS = Connection()


def profile_settings(profile: Profile) -> dict[str, str]:
    """The settings of a profile. Raises CommandError."""
    settings = translate(profile.settings, f"{profiles_file()}: profile {profile.name}")
    if profile.client_config is not None:
        settings = file_settings(profile.client_config) | settings
    if profile.bootstrap_server is not None:
        settings["bootstrap.servers"] = profile.bootstrap_server
    if (password := profile.password()) is not None:
        settings["sasl.password"] = password
    return settings


def file_settings(path: Path) -> dict[str, str]:
    """The settings in a file. Raises CommandError."""
    from headwater.broker.configs.properties_file import read_properties

    return translate(read_properties(read_text(path)), str(path))


def translate(given: dict[str, str], source: str) -> dict[str, str]:
    """Translates settings for librdkafka; warns of those without effect. Raises CommandError."""
    found = client_config(given, source)
    if found.without_effect:
        print(
            f"headwater: {source}: ignored, because they have no effect: {', '.join(found.without_effect)}",
            file=sys.stderr,
        )
    return found.settings


def lines_of(path: Path) -> list[str]:
    """librdkafka's settings in a file, one per line; `#` begins a comment. Raises CommandError."""
    lines = read_text(path).splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def complete_profiles(connection: Connection, incomplete: str) -> list[str]:
    from headwater.cli.profiles import all_profiles

    return [name for name in all_profiles() if name.startswith(incomplete)]


CONNECTION_OPTIONS: tuple[tuple[str, Any, Any], ...] = (
    (
        "bootstrap",
        Annotated[
            str | None,
            Option(
                "--bootstrap-server",
                "-b",
                is_name=True,
                help=f"The address of the cluster, HOST:PORT[,HOST:PORT]. Variable: {BOOTSTRAP_VARIABLE}. Default: {DEFAULT_BOOTSTRAP}.",
            ),
        ],
        None,
    ),
    (
        "client_config",
        Annotated[
            Path | None,
            Option(
                "--client-config",
                help="A file with client settings (TLS, login and others), in the format of Kafka's own tools. "
                f"Variable: {CLIENT_CONFIG_VARIABLE}.",
            ),
        ],
        None,
    ),
    (
        "profile",
        Annotated[
            str | None,
            Option(
                "--profile",
                metavar="NAME",
                is_name=True,
                complete=complete_profiles,
                help=f"A named connection; see headwater profile list. Variable: {PROFILE_VARIABLE}.",
            ),
        ],
        None,
    ),
    (
        "client",
        Annotated[
            list[str] | None,
            Option(
                "--client",
                "-X",
                metavar="SETTING",
                help="A setting of librdkafka, key=value, or @FILE with one per line. Not for passwords: every user of the machine can see them.",
            ),
        ],
        None,
    ),
)
