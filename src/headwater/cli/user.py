"""`headwater user`: the users that may log in with SASL.

A password comes from a prompt, standard input, a file or a variable. It never comes from the command line, which every user
of the machine can read. The broker stores it salted.

All requests go through the wire client: librdkafka 2.16 ends the process if a broker refuses to describe users.
"""

import getpass
import os
import sys
from pathlib import Path
from typing import Annotated, Any

from headwater.cli.command import Commands
from headwater.cli.connection import NO_OPTIONS, Connection
from headwater.cli.errors import CommandError
from headwater.cli.markers import Argument, Option
from headwater.cli.options import Output, OutputOption, show
from headwater.cli.wire import check, wire_of
from headwater.client.wire import Wire
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.alter_user_scram_credentials import AlterUserScramCredentialsRequest
from headwater.protocol.messages.describe_user_scram_credentials import DescribeUserScramCredentialsRequest
from headwater.security.scram import Mechanism, credential_of, salt_password

app = Commands()
ITERATIONS = 4096
PASSWORD_VARIABLE = "HEADWATER_PASSWORD"
SALT_BYTES = 24
Name = Annotated[str, Argument("USER")]


def read_password(path: Path | None, *, from_stdin: bool) -> str:
    """Reads a password from a file, the variable, standard input, or a terminal (twice). Raises CommandError."""
    if path is not None and from_stdin:
        raise CommandError("give either --password-file or --password-stdin, not both")
    if path is not None:
        password = first_line_of(path)
    elif not from_stdin and PASSWORD_VARIABLE in os.environ:
        password = os.environ[PASSWORD_VARIABLE]
    elif from_stdin or not sys.stdin.isatty():
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise CommandError("the passwords differ; nothing was changed")
    if not password:
        raise CommandError(
            f"no password; give it on standard input, or with --password-file FILE, or in {PASSWORD_VARIABLE}"
        )
    return password


def first_line_of(path: Path) -> str:
    """The first line of a file. Raises CommandError."""
    try:
        return path.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise CommandError(f"{path} cannot be read: {reason}") from error


@app.command(help="Create a user, or change a user's password. Asks for the password.")
def create(
    name: Name,
    data: Annotated[
        Path | None,
        Option(help="Write to this data directory while the broker is stopped; needed for the first super user."),
    ] = None,
    super_user: Annotated[bool, Option("--super-user", help="Let the user do everything; needs --data.")] = False,
    password_file: Annotated[Path | None, Option(help="Read the password from this file's first line.")] = None,
    password_stdin: Annotated[bool, Option("--password-stdin", help="Read the password from standard input.")] = False,
    connection: Connection = NO_OPTIONS,
) -> None:
    if super_user and data is None:
        raise CommandError("--super-user needs --data DIR: a super user is created while the broker is stopped")
    password = read_password(password_file, from_stdin=password_stdin)
    if data is not None:
        create_in(data, name, password, super_user=super_user)
        print(f"Saved {'super user' if super_user else 'user'} {name} in {data}")
        return
    changes = []
    for mechanism in Mechanism:
        salt = os.urandom(SALT_BYTES)
        salted = salt_password(mechanism, password, salt, ITERATIONS)
        changes.append(
            AlterUserScramCredentialsRequest.ScramCredentialUpsertion(name, mechanism, ITERATIONS, salt, salted)
        )
    with wire_of(connection) as broker:
        for change in changes:  # one by one, since Kafka changes no user twice in a request
            alter(broker, AlterUserScramCredentialsRequest(upsertions=[change]), f"saving user {name}")
    print(f"Saved user {name}")


def alter(broker: Wire, request: AlterUserScramCredentialsRequest, what: str) -> None:
    """Raises ClientError."""
    for result in broker.ask(request).results:
        check(result.error_code, what, result.error_message)


def mechanisms_of_users(broker: Wire, names: list[str] | None, what: str) -> dict[str, list[Mechanism]]:
    """The mechanisms of these users, or of all; of one that does not exist there are none. Raises ClientError."""
    request = DescribeUserScramCredentialsRequest
    answer = broker.ask(request(None if names is None else [request.UserName(name) for name in names]))
    check(answer.error_code, what, answer.error_message)
    found: dict[str, list[Mechanism]] = {}
    for result in answer.results:
        if result.error_code != ErrorCode.RESOURCE_NOT_FOUND:
            check(result.error_code, what, result.error_message)
            found[result.user] = [Mechanism(info.mechanism) for info in result.credential_infos]
    return found


def create_in(data: Path, name: str, password: str, *, super_user: bool) -> None:
    """Writes the user into a data directory that no broker uses. Raises CommandError."""
    from headwater.broker.configs.dynamic import SUPER_USERS
    from headwater.broker.configs.settings import Settings
    from headwater.broker.shell.run import open_core
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


@app.command(help="Delete a user.")
def delete(name: Name, connection: Connection = NO_OPTIONS) -> None:
    what = f"deleting user {name}"
    deletion = AlterUserScramCredentialsRequest.ScramCredentialDeletion
    with wire_of(connection) as broker:
        known = mechanisms_of_users(broker, [name], what).get(name)
        if not known:
            raise CommandError(f"user {name} does not exist; headwater user list shows those that do")
        for mechanism in known:
            alter(broker, AlterUserScramCredentialsRequest(deletions=[deletion(name, mechanism)]), what)
    print(f"Deleted user {name}")


@app.command("list", help="List users and their mechanisms.")
def list_users(output: OutputOption = Output.TABLE, connection: Connection = NO_OPTIONS) -> None:
    with wire_of(connection) as broker:
        found = mechanisms_of_users(broker, None, "listing users")
    rows: list[dict[str, Any]] = [
        {"user": name, "mechanisms": ", ".join(sorted(mechanism.label for mechanism in mechanisms))}
        for name, mechanisms in sorted(found.items())
    ]
    show(rows, output)
