"""The commands' tree. Every error that a user can meet ends as one line on standard error and an exit status."""

import sys
from typing import Any

import typer
from typer.core import TyperCommand

from headwater import __version__
from headwater.cli import acl, backup, config, consume, doctor, group, produce, topic, transaction, user
from headwater.cli.errors import UsageError, line_of

app = typer.Typer(
    name="headwater",
    help="Event streaming that starts inside a Python process: a broker that every Kafka client talks to.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(topic.app, name="topic", help="Create, list, describe, alter and delete topics.")
app.add_typer(group.app, name="group", help="List, describe, reset and delete consumer groups.")
app.add_typer(config.app, name="config", help="Show and change configurations of topics, brokers and groups.")
app.add_typer(transaction.app, name="transaction", help="List, describe and abort transactions.")
app.add_typer(user.app, name="user", help="Create, list and delete the users of SASL.")
app.add_typer(acl.app, name="acl", help="Allow and forbid what users may do.")
app.command(help="Write records, one per line, from standard input or a file.")(produce.produce)
app.command(help="Read records from a topic.")(consume.consume)
app.command(help="Copy a data directory into a directory of backups, while the broker runs or not.")(backup.backup)
app.command(help="Make a new data directory from a backup.")(backup.restore)
app.command(help="Say what is wrong with a stopped broker's data directory, and mend it.")(doctor.doctor)


class UpCommand(TyperCommand):
    """`up` reads its options itself; to a shell it names them all the same."""

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        from headwater.cli.up import parser

        item, *_ = super().shell_complete(ctx, "--")  # typer keeps the class of these to itself
        options = [option for action in parser()._actions for option in action.option_strings]
        return [type(item)(option) for option in options if option.startswith("--") and option.startswith(incomplete)]


@app.command(
    help="Run the broker until Ctrl-C. For its options, see headwater up --help.",
    cls=UpCommand,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def up(context: typer.Context) -> None:
    """Here for the list of commands; `main` does not come this way."""
    from headwater.cli.up import main

    raise typer.Exit(main(context.args))


def show_version(value: bool) -> None:
    if value:
        print(f"headwater {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=show_version, is_eager=True, help="Show the version."),
) -> None:
    """Options of the command itself."""


def run() -> None:
    """Runs a command and turns what goes wrong into one line."""
    try:
        status = app(standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except typer.Abort:
        sys.exit(130)
    except UsageError as error:
        if not error.message:  # a command without arguments has shown its help
            sys.exit(2)
        where = error.ctx.command_path if error.ctx is not None else "headwater"
        print(f"{where}: {error.format_message()} (see {where} --help)", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if (line := line_of(error)) is None:
            raise
        print(f"headwater: {line}", file=sys.stderr)
        sys.exit(1)
