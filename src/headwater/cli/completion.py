"""Completion in the shell: names that the broker knows. Without a broker there are no completions."""

import typer
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from headwater.cli.errors import CommandError
from headwater.cli.options import DEFAULT_BOOTSTRAP, client_settings

TIMEOUT_S = 1.0


def client_of(context: typer.Context) -> AdminClient:
    """A client for the command line as far as it is typed. Raises CommandError and KafkaException."""
    given = context.params
    return AdminClient(client_settings(given.get("bootstrap") or DEFAULT_BOOTSTRAP, given.get("client")))


def complete_topics(context: typer.Context, incomplete: str) -> list[str]:
    try:
        topics = client_of(context).list_topics(timeout=TIMEOUT_S).topics
    except (CommandError, KafkaException):
        return []
    return sorted(name for name in topics if name.startswith(incomplete) and not name.startswith("__"))


def complete_groups(context: typer.Context, incomplete: str) -> list[str]:
    try:
        groups = client_of(context).list_groups(timeout=TIMEOUT_S)
    except (CommandError, KafkaException):
        return []
    return sorted(group.id for group in groups if group.id.startswith(incomplete))
