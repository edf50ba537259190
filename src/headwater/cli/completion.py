"""Shell completion of commands, options, choices, and names that the broker knows.

`headwater completion SHELL` prints a script for the shell. The script calls `headwater __complete` with the words of the
line up to the cursor, and offers the lines that it prints. If it prints none, the shell offers files.
"""

from typing import Annotated

from headwater.cli.command import HELP, Command, Commands, Parameter
from headwater.cli.connection import Connection
from headwater.cli.errors import line_of
from headwater.cli.markers import Argument

TIMEOUT_MS = 1000.0
REQUEST = "__complete"
SCRIPTS = {
    # Bash splits words at = and : too, so the script splits the line itself, and keeps the part before the last of these.
    "bash": r"""_headwater() {
    local line="${COMP_LINE:0:COMP_POINT}" words last prefix reply
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    last="${words[${#words[@]}-1]}"
    prefix="${last%"${last##*[=:]}"}"
    COMPREPLY=()
    while IFS= read -r reply; do
        COMPREPLY+=("${reply#"$prefix"}")
    done < <(headwater __complete "${words[@]:1}" 2>/dev/null)
}
complete -o default -F _headwater headwater""",
    "zsh": r"""#compdef headwater
_headwater() {
    local -a replies
    replies=("${(@f)$(headwater __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n $replies[1] ]]; then
        compadd -- $replies
    else
        _files
    fi
}
compdef _headwater headwater""",
    "fish": r"""function __headwater_complete
    set -l words (commandline -opc) (commandline -ct)
    set -e words[1]
    set -l replies (headwater __complete $words 2>/dev/null)
    if set -q replies[1]
        printf '%s\n' $replies
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c headwater -f -a '(__headwater_complete)'""",
}


def completion(shell: Annotated[str, Argument("SHELL", choices=tuple(SCRIPTS), help="bash, zsh or fish.")]) -> None:
    """The command."""
    print(SCRIPTS[shell])


def complete_topics(connection: Connection, incomplete: str) -> list[str]:
    topics = connection.admin(timeout_ms=TIMEOUT_MS).topics()
    return sorted(name for name in topics if name.startswith(incomplete) and not name.startswith("__"))


def complete_groups(connection: Connection, incomplete: str) -> list[str]:
    return [group for group in connection.admin(timeout_ms=TIMEOUT_MS).groups() if group.startswith(incomplete)]


def candidates(root: Commands, words: list[str]) -> list[str]:
    """What the last word may be completed to."""
    *before, incomplete = words or [""]
    found: Command | Commands | None = root
    for number, word in enumerate(before):
        if not isinstance(found, Commands):
            break
        found = found.find(word)
        if isinstance(found, Command):
            before = before[number + 1 :]
    if isinstance(found, Commands):
        names = [*found.entries, *(HELP if incomplete.startswith("-") else ())]
        return [name for name in names if name.startswith(incomplete)]
    if found is None:
        return []
    if found.words.endswith(" up"):
        return up_options(incomplete)
    return of_command(found, before, incomplete)


def up_options(incomplete: str) -> list[str]:
    """Completes the options of `up`, which parses its options itself."""
    from headwater.cli.up import parser

    names = [name for action in parser()._actions for name in action.option_strings if name.startswith("--")]
    return [name for name in names if incomplete.startswith("-") and name.startswith(incomplete)]


def of_command(command: Command, before: list[str], incomplete: str) -> list[str]:
    parameters = [*command.parameters, *command.connection_parameters]
    options = {name: parameter for parameter in parameters for name in parameter.options}
    given: dict[str, list[str]] = {}
    arguments = 0
    waiting: Parameter | None = None  # the option whose value comes next
    for word in before:
        name, equals, value = word.partition("=")
        if waiting is not None:
            given.setdefault(waiting.name, []).append(word)
            waiting = None
        elif equals and name in options:
            given.setdefault(options[name].name, []).append(value)
        elif word in options:
            waiting = options[word] if options[word].kind is not bool else None
        elif not word.startswith("-"):
            arguments += 1
    if waiting is not None:
        return values(waiting, given, incomplete)
    name, equals, value = incomplete.partition("=")
    if equals and name in options:
        return [f"{name}={found}" for found in values(options[name], given, value)]
    if incomplete.startswith("-"):
        return [name for name in (*options, *HELP) if name.startswith(incomplete)]
    positional = [parameter for parameter in command.parameters if not parameter.options]
    if arguments < len(positional):
        return values(positional[arguments], given, incomplete)
    return values(positional[-1], given, incomplete) if positional and positional[-1].is_list else []


def values(parameter: Parameter, given: dict[str, list[str]], incomplete: str) -> list[str]:
    """The possible values of a parameter; none if they cannot be known now, for example without a broker."""
    if parameter.choices:
        return [choice for choice in parameter.choices if choice.startswith(incomplete)]
    if parameter.marker.complete is None:
        return []
    try:
        return parameter.marker.complete(connection_of(given), incomplete)
    except Exception as error:
        if line_of(error) is None:
            raise
        return []


def connection_of(given: dict[str, list[str]]) -> Connection:
    """The connection, as far as it has been typed."""
    from pathlib import Path

    config = given.get("client_config", [None])[-1]
    return Connection(
        given.get("bootstrap", [None])[-1],
        given.get("client"),
        Path(config) if config else None,
        given.get("profile", [None])[-1],
    )
