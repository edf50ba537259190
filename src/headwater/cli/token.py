"""`headwater token`: delegation tokens, which are passwords for programs that end by themselves.

A token is named by its id. Its password is shown once, when it is made. To renew or end a token, the broker wants the HMAC of
which the password is made: the command asks for it first, so that no secret is on the command line, which every user of the
machine can read.
"""

import base64
import json
from datetime import datetime
from typing import Annotated, Any

from headwater.cli.command import Commands
from headwater.cli.connection import NO_OPTIONS, Connection
from headwater.cli.errors import CommandError
from headwater.cli.markers import Argument, Option
from headwater.cli.options import Output, OutputOption, show
from headwater.cli.wire import check, wire_of
from headwater.client.wire import Wire
from headwater.protocol.messages.create_delegation_token import CreateDelegationTokenRequest
from headwater.protocol.messages.describe_delegation_token import DescribeDelegationTokenRequest
from headwater.protocol.messages.expire_delegation_token import ExpireDelegationTokenRequest
from headwater.protocol.messages.renew_delegation_token import RenewDelegationTokenRequest

app = Commands()
FIRST_WITH_OWNER = 3  # of CreateDelegationToken
BROKERS_CHOICE = -1  # for a time
AT_ONCE = -1
TokenId = Annotated[str, Argument("TOKEN", help="The token's id.")]
PRINCIPAL = "User:NAME"


def read_principal(text: str) -> tuple[str, str]:
    """Raises CommandError."""
    kind, _, name = text.partition(":")
    if not kind or not name:
        raise CommandError(f"{text!r} is not a principal: {PRINCIPAL}")
    return kind, name


def local_time(time_ms: int) -> str:
    """A time in the zone of this machine, to the second."""
    return datetime.fromtimestamp(time_ms // 1000).astimezone().isoformat()


@app.command(help="Make a token, and show its id and its password.")
def create(
    owner: Annotated[
        str | None, Option(help=f"{PRINCIPAL}: who a program with the token acts as; without it, you.")
    ] = None,
    renewer: Annotated[list[str] | None, Option(help=f"{PRINCIPAL}: who else may renew the token and end it.")] = None,
    lifetime_ms: Annotated[
        int, Option(help="After this time it ends, even if it is renewed; without it, when the broker says.")
    ] = BROKERS_CHOICE,
    output: OutputOption = Output.TABLE,
    connection: Connection = NO_OPTIONS,
) -> None:
    data = CreateDelegationTokenRequest
    kind, name = (None, None) if owner is None else read_principal(owner)
    renewers = [data.CreatableRenewers(*read_principal(each)) for each in renewer or ()]
    with wire_of(connection) as broker:
        answer = broker.ask(data(kind, name, renewers, lifetime_ms), at_least=1 if owner is None else FIRST_WITH_OWNER)
    of_whom = "you" if owner is None else owner
    check(answer.error_code, f"making a token for {of_whom}")
    made = {
        "token": answer.token_id,
        "password": base64.b64encode(answer.hmac).decode(),
        "owner": f"{answer.principal_type}:{answer.principal_name}",
        "expires": local_time(answer.expiry_timestamp_ms),
        "maximum": local_time(answer.max_timestamp_ms),
    }
    if output is Output.JSON:
        print(json.dumps(made, indent=2))
        return
    print(f"Created token {made['token']} of {made['owner']}")
    print(f"Password: {made['password']}")
    print(f"It ends at {made['expires']} unless it is renewed, and at {made['maximum']} in any case")


@app.command("list", help="List the tokens that you may see, without their passwords.")
def list_tokens(
    owner: Annotated[
        list[str] | None, Option(help=f"{PRINCIPAL}: only the tokens of this owner, requester or renewer.")
    ] = None,
    output: OutputOption = Output.TABLE,
    connection: Connection = NO_OPTIONS,
) -> None:
    owners = [read_principal(each) for each in owner or ()] or None
    with wire_of(connection) as broker:
        found = describe(broker, owners, "listing tokens")
    rows: list[dict[str, Any]] = [
        {
            "token": token.token_id,
            "owner": f"{token.principal_type}:{token.principal_name}",
            "requester": f"{token.token_requester_principal_type}:{token.token_requester_principal_name}",
            "renewers": ", ".join(f"{each.principal_type}:{each.principal_name}" for each in token.renewers),
            "issued": local_time(token.issue_timestamp),
            "expires": local_time(token.expiry_timestamp),
            "maximum": local_time(token.max_timestamp),
        }
        for token in found
    ]
    show(sorted(rows, key=lambda row: (row["owner"], row["issued"], row["token"])), output)


def describe(broker: Wire, owners: list[tuple[str, str]] | None, what: str) -> list[Any]:
    """Raises ClientError."""
    data = DescribeDelegationTokenRequest
    wanted = None if owners is None else [data.DescribeDelegationTokenOwner(*owner) for owner in owners]
    answer = broker.ask(data(wanted))
    check(answer.error_code, what)
    return list(answer.tokens)


def hmac_of(broker: Wire, token_id: str, what: str) -> bytes:
    """Raises CommandError, and ClientError."""
    for token in describe(broker, None, what):
        if token.token_id == token_id:
            return bytes(token.hmac)
    raise CommandError(f"there is no token {token_id} that you may see; headwater token list shows those")


@app.command(help="Move the time at which a token ends; not beyond its maximum.")
def renew(
    token: TokenId,
    period_ms: Annotated[
        int, Option(help="After this time it ends, unless it is renewed again; without it, when the broker says.")
    ] = BROKERS_CHOICE,
    connection: Connection = NO_OPTIONS,
) -> None:
    what = f"renewing token {token}"
    with wire_of(connection) as broker:
        answer = broker.ask(RenewDelegationTokenRequest(hmac_of(broker, token, what), period_ms))
    check(answer.error_code, what)
    print(f"Renewed token {token}: it ends at {local_time(answer.expiry_timestamp_ms)}")


@app.command(help="End a token at once, or after a time.")
def expire(
    token: TokenId,
    after_ms: Annotated[int, Option(help="After this time it ends, unless it is renewed.")] = AT_ONCE,
    connection: Connection = NO_OPTIONS,
) -> None:
    what = f"ending token {token}"
    with wire_of(connection) as broker:
        answer = broker.ask(ExpireDelegationTokenRequest(hmac_of(broker, token, what), after_ms))
    check(answer.error_code, what)
    if after_ms < 0:
        print(f"Ended token {token}")
    else:
        print(f"Token {token} ends at {local_time(answer.expiry_timestamp_ms)}")
