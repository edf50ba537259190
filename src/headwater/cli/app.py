"""The command tree. Every error that a user can meet ends as one line on standard error and an exit status.

A group is imported when one of its commands is called: the help of `headwater` imports none.
"""

import sys

from headwater.cli.command import Commands, Lazy
from headwater.cli.errors import line_of

HELP = "Event streaming that starts inside a Python process: a broker that every Kafka client talks to."
CLI = "headwater.cli"
ENTRIES = {
    "up": Lazy(f"{CLI}.local", "up", "Run the broker until Ctrl-C."),
    "topic": Lazy(f"{CLI}.topic", "app", "Create, list, describe, alter and delete topics."),
    "produce": Lazy(f"{CLI}.records", "produce", "Write records, one per line, from standard input or a file."),
    "consume": Lazy(f"{CLI}.records", "consume", "Read records from a topic."),
    "group": Lazy(f"{CLI}.group", "app", "List, describe, reset and delete consumer groups."),
    "cluster": Lazy(f"{CLI}.cluster", "cluster", "Show the cluster's nodes, controller, id, version and features."),
    "config": Lazy(f"{CLI}.config", "app", "Show and change configurations of topics, brokers and groups."),
    "quota": Lazy(f"{CLI}.quota", "app", "Limit how much users and client ids may use."),
    "transaction": Lazy(f"{CLI}.transaction", "app", "List, describe and abort transactions."),
    "user": Lazy(f"{CLI}.user", "app", "Create, list and delete the users that log in with SASL."),
    "token": Lazy(f"{CLI}.token", "app", "Make, list, renew and end delegation tokens: passwords for programs."),
    "acl": Lazy(f"{CLI}.acl", "app", "Control what users may do: add, list and remove ACL entries."),
    "profile": Lazy(f"{CLI}.profile", "app", "List and show named connections (profiles)."),
    "backup": Lazy(f"{CLI}.local", "backup", "Back up a data directory, with the broker running or stopped."),
    "restore": Lazy(f"{CLI}.local", "restore", "Restore a backup into a new data directory."),
    "doctor": Lazy(f"{CLI}.local", "doctor", "Check the data directory of a stopped broker, and repair it."),
    "completion": Lazy(f"{CLI}.completion", "completion", "Print a script that makes your shell complete commands."),
}


class Root(Commands):
    """The command itself."""

    @property
    def hint(self) -> str:
        return f"{super().hint}\n{self.words} --version shows the version."


app = Root("headwater", HELP, ENTRIES)


def run(words: list[str]) -> int:
    """Runs a command; reports an error as one line. Returns the exit status."""
    try:
        return answer(words)
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if (line := line_of(error)) is None:
            raise
        print(f"headwater: {line}", file=sys.stderr)
        return 1


def answer(words: list[str]) -> int:
    if words[:1] == ["--version"]:
        from headwater import __version__

        print(f"headwater {__version__}")
        return 0
    if words[:1] == ["__complete"]:
        from headwater.cli.completion import candidates

        for name in candidates(app, words[1:]):
            print(name)
        return 0
    return app.run(words)
