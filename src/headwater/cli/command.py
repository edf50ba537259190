"""Commands as functions: the parameters of a function are the arguments and options of its command.

    @app.command("list", help="List topics.")
        def list_topics(internal: Annotated[bool, Option("--internal", help="Include internal topics.")] = False) -> None: ...

An `Argument` or `Option` says how a parameter is written and what it means. Its type says what it holds: text, an integer, a
path, a choice (an enumeration), several of these (a list), or a flag (a bool). A parameter of the type `Connection` stands
for the options of every command that talks to a broker.

argparse reads the command line. Importing it takes a tenth of the time that typer or click need, and a command should answer
at once. For the same reason a group of commands is imported only when it is used (`Lazy`).
"""

import argparse
import sys
from collections.abc import Callable
from enum import Enum
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from headwater.cli.connection import CONNECTION_OPTIONS, Connection
from headwater.cli.errors import CommandError
from headwater.cli.markers import Argument, Option

Function = TypeVar("Function", bound=Callable[..., Any])
HELP = ("-h", "--help")


class Parser(argparse.ArgumentParser):
    """Errors are one line, and exit with 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


class Parameter:
    """A parameter of a command's function. Raises TypeError if it cannot be written on a command line."""

    def __init__(self, name: str, hint: Any, default: Any) -> None:
        self.name, self.default = name, default
        self.is_required = default is ...
        kind, *markers = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        self.marker: Argument | Option = markers[0] if markers else Argument(name.upper())
        choices = [part for part in get_args(kind) if part is not NoneType] if isinstance(kind, UnionType) else [kind]
        if len(choices) != 1:
            raise TypeError(f"{name} is of several types")
        self.is_list = get_origin(choices[0]) is list
        self.kind: Any = get_args(choices[0])[0] if self.is_list else choices[0]
        if self.kind not in (bool, int, str, Path) and not issubclass(self.kind, Enum):
            raise TypeError(f"{name} is of type {self.kind}")

    @property
    def options(self) -> tuple[str, ...]:
        """How an option is written; empty for an argument."""
        if isinstance(self.marker, Argument):
            return ()
        return self.marker.names or (f"--{self.name.replace('_', '-')}",)

    @property
    def choices(self) -> list[str]:
        if issubclass(self.kind, Enum):
            return [str(choice.value) for choice in self.kind]
        return list(self.marker.choices)

    @property
    def metavar(self) -> str:
        return self.marker.metavar or {int: "N", Path: "FILE"}.get(self.kind, "TEXT")

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        help_text = self.marker.help.replace("%", "%%")
        more: dict[str, Any] = {"help": help_text, "default": None if self.is_required else self.default}
        if self.kind is bool:
            parser.add_argument(*self.options, dest=self.name, action="store_true", help=help_text)
            return
        more["metavar"] = "|".join(self.choices) or self.metavar
        more["type"] = self.convert
        if self.options:
            more["action"] = "append" if self.is_list else "store"
            parser.add_argument(*self.options, dest=self.name, required=self.is_required, **more)
            return
        if self.is_list:
            more["nargs"] = "+" if self.is_required else "*"
        elif not self.is_required:
            more["nargs"] = "?"
        parser.add_argument(self.name, **more)

    def convert(self, text: str) -> Any:
        """The value of a word. Raises CommandError if a name is empty, and ArgumentTypeError."""
        if not text and (isinstance(self.marker, Argument) or self.marker.is_name):
            name = self.options[0] if self.options else self.metavar
            raise CommandError(f"{name} is empty; the usual cause is an unset shell variable")
        if self.choices and text not in self.choices:
            raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(self.choices)}")
        if self.kind is not int:
            return self.kind(text)
        least = self.marker.min if isinstance(self.marker, Option) else None
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if least is not None and number < least:
            raise argparse.ArgumentTypeError(f"{number} is less than {least}")
        return number


class Command:
    """A function that runs from the command line."""

    def __init__(self, words: str, function: Callable[..., Any], text: str) -> None:
        self.words, self.function, self.text = words, function, text
        hints = get_type_hints(function, include_extras=True)
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        values = function.__defaults__ or ()
        defaults = (*([...] * (len(names) - len(values))), *values)
        self.parameters: list[Parameter] = []
        self.connection = ""
        for name, default in zip(names, defaults, strict=True):
            if hints[name] is Connection:
                self.connection = name
            else:
                self.parameters.append(Parameter(name, hints[name], default))

    @property
    def connection_parameters(self) -> list[Parameter]:
        return [Parameter(*option) for option in CONNECTION_OPTIONS] if self.connection else []

    def parser(self) -> Parser:
        parser = Parser(prog=self.words, description=self.text, allow_abbrev=False, add_help=False)
        for parameter in self.parameters:
            parameter.add_to(parser)
        if self.connection:
            group = parser.add_argument_group("connection")
            for parameter in self.connection_parameters:
                parameter.add_to(group)  # type: ignore[arg-type] # a group adds arguments as a parser does
        parser.add_argument(*HELP, action="help", help="Show this help.")
        return parser

    def parse(self, words: list[str]) -> dict[str, Any]:
        """The value of each parameter, from the words. Raises CommandError, and SystemExit for wrong usage."""
        bound, parser = self.bind(words), self.parser()
        # Options may stand between arguments, except after a `--`, which says that only arguments follow.
        given = vars(parser.parse_args(bound) if "--" in bound else parser.parse_intermixed_args(bound))
        if self.connection:
            given[self.connection] = Connection(**{p.name: given.pop(p.name) for p in self.connection_parameters})
        return given

    def run(self, words: list[str]) -> int:
        """Runs the command; returns the exit status."""
        status = self.function(**self.parse(words))
        return status if isinstance(status, int) else 0

    def bind(self, words: list[str]) -> list[str]:
        """Joins an option and its value if the value begins with a dash, because argparse would look for an option."""
        takes_value = {
            name for p in (*self.parameters, *self.connection_parameters) if p.kind is not bool for name in p.options
        }
        bound: list[str] = []
        left = iter(words)
        for word in left:
            if word == "--":
                return [*bound, word, *left]
            if word in takes_value and (value := next(left, None)) is not None:
                if value.startswith("-"):
                    bound.append(f"{word}={value}" if word.startswith("--") else word + value)
                else:
                    bound += [word, value]
            else:
                bound.append(word)
        return bound


class Lazy:
    """A command or group that is imported when it is used."""

    def __init__(self, module: str, name: str, text: str) -> None:
        self.module, self.name, self.text = module, name, text

    def load(self, words: str) -> "Command | Commands":
        found = getattr(import_module(self.module), self.name)
        if isinstance(found, Commands):
            found.words, found.text = words, self.text
            return found
        return Command(words, found, self.text)


class Commands:
    """A group of commands by name, in the order of its help."""

    def __init__(self, words: str = "", text: str = "", entries: dict[str, Lazy] | None = None) -> None:
        self.words, self.text = words, text
        self.entries: dict[str, Lazy | tuple[Callable[..., Any], str]] = {**(entries or {})}

    def command(self, name: str = "", *, help: str) -> Callable[[Function], Function]:
        def add(function: Function) -> Function:
            self.entries[name or function.__name__] = (function, help)
            return function

        return add

    def find(self, name: str) -> "Command | Commands | None":
        """The command or group with that name."""
        entry = self.entries.get(name)
        words = f"{self.words} {name}".strip()
        if entry is None:
            return None
        return entry.load(words) if isinstance(entry, Lazy) else Command(words, *entry)

    def help(self) -> str:
        texts = {name: entry.text if isinstance(entry, Lazy) else entry[1] for name, entry in self.entries.items()}
        width = max(map(len, texts))
        lines = [f"  {name:{width}}  {text}" for name, text in texts.items()]
        return "\n".join(
            [f"usage: {self.words} COMMAND [OPTIONS]", "", self.text, "", "commands:", *lines, "", self.hint]
        )

    @property
    def hint(self) -> str:
        return f"{self.words} COMMAND --help shows a command's options."

    def run(self, words: list[str]) -> int:
        """Runs a command of the group; returns the exit status."""
        name = words[0] if words else ""
        if not name or name in HELP:
            print(self.help())
            return 0 if name else 2
        found = self.find(name)
        if found is None:
            kind = "option" if name.startswith("-") else "command"
            print(f"{self.words}: no such {kind}: {name} (see {self.words} --help)", file=sys.stderr)
            return 2
        return found.run(words[1:])
