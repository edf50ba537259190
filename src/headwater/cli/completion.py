"""Completion in the shell: names that the broker knows. Without a broker there are no completions."""

import typer

from headwater.cli.errors import CommandError
from headwater.cli.options import DEFAULT_BOOTSTRAP, client_settings
from headwater.client.admin import Admin
from headwater.client.errors import ClientError

TIMEOUT_MS = 1000.0


def admin_of(context: typer.Context) -> Admin:
    """An Admin for the command line as far as it is typed. Raises CommandError and ClientError."""
    given = context.params
    settings = client_settings(given.get("bootstrap") or DEFAULT_BOOTSTRAP, given.get("client"))
    return Admin(settings["bootstrap.servers"], timeout_ms=TIMEOUT_MS, fail_fast=True, settings=settings)


def complete_topics(context: typer.Context, incomplete: str) -> list[str]:
    try:
        topics = admin_of(context).topics()
    except (CommandError, ClientError):
        return []
    return sorted(name for name in topics if name.startswith(incomplete) and not name.startswith("__"))


def complete_groups(context: typer.Context, incomplete: str) -> list[str]:
    try:
        groups = admin_of(context).groups()
    except (CommandError, ClientError):
        return []
    return sorted(group for group in groups if group.startswith(incomplete))
