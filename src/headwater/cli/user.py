"""`headwater user`: who may log in with SASL. Passwords come from standard input and are kept salted."""

import getpass
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from confluent_kafka.admin import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

from headwater.cli.errors import CommandError
from headwater.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Client, Output, OutputOption, admin, show, wait

app = typer.Typer(no_args_is_help=True)
MECHANISMS = (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)
ITERATIONS = 4096
SALT_BYTES = 24
Name = Annotated[str, typer.Argument(metavar="USER")]


def read_password() -> str:
    """From standard input, or asked for at a terminal. Raises CommandError."""
    password = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise CommandError("no password; give it on standard input: echo secret | headwater user create …")
    return password


@app.command(help="Create a user, or give one a new password (from standard input).")
def create(
    name: Name,
    data: Annotated[
        Path | None,
        typer.Option(help="Write it into this data directory while the broker is stopped: for the first super user."),
    ] = None,
    super_user: Annotated[bool, typer.Option("--super/--no-super", help="With --data: it may do everything.")] = True,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    client: Client = None,
) -> None:
    password = read_password()
    if data is not None:
        create_in(data, name, password, super_user=super_user)
        return
    changes = [
        UserScramCredentialUpsertion(name, ScramCredentialInfo(mechanism, ITERATIONS), password.encode())
        for mechanism in MECHANISMS
    ]
    kafka = admin(bootstrap, client)
    for change in changes:  # the protocol takes one mechanism of a user at a time from librdkafka
        wait(kafka.alter_user_scram_credentials([change])[name])


def create_in(data: Path, name: str, password: str, *, super_user: bool) -> None:
    """Writes the user into a data directory that no broker uses. Raises CommandError."""
    from headwater.broker.core import SUPER_USERS
    from headwater.broker.running import open_core
    from headwater.broker.settings import Settings
    from headwater.security.scram import Mechanism, credential_of, salt_password
    from headwater.storage.errors import StorageError

    try:
        core = open_core(Settings(), str(data))
    except StorageError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{data} cannot be opened: {error.strerror or error}") from error
    changes = []
    for mechanism in Mechanism:
        salt = os.urandom(SALT_BYTES)
        credential = credential_of(mechanism, salt_password(mechanism, password, salt, ITERATIONS), salt, ITERATIONS)
        changes.append(core.metadata.credential_record(name, mechanism, credential))
    if super_user:
        known = core.metadata.broker_configs.get("", {}).get(SUPER_USERS, "")
        users = [user for user in known.split(";") if user]
        if f"User:{name}" not in users:
            users.append(f"User:{name}")
        changes += core.metadata.config_records("", {SUPER_USERS: ";".join(users)}, 4)
    core.append_metadata(changes)
    core.close()


@app.command(help="Remove a user.")
def delete(name: Name, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, client: Client = None) -> None:
    kafka = admin(bootstrap, client)
    known = wait(kafka.describe_user_scram_credentials([name])[name])
    for info in known.scram_credential_infos:
        wait(kafka.alter_user_scram_credentials([UserScramCredentialDeletion(name, info.mechanism)])[name])


@app.command("list", help="List users with their mechanisms.")
def list_users(
    output: OutputOption = Output.TABLE, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, client: Client = None
) -> None:
    kafka = admin(bootstrap, client)
    found = wait(kafka.describe_user_scram_credentials())
    rows = [
        {
            "user": name,
            "mechanisms": ", ".join(
                sorted(info.mechanism.name.replace("_", "-") for info in description.scram_credential_infos)
            ),
        }
        for name, description in sorted(found.items())
    ]
    show(rows, output)
