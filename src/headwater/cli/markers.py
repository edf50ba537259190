"""How a parameter of a command is written on the command line, and what it means."""

from collections.abc import Callable, Sequence
from typing import Any

# Names that begin with what is typed, given the options of the connection that are typed already.
Completer = Callable[[Any, str], list[str]]


class Argument:
    """A word that stands where it stands. It is a name, so it is not empty."""

    def __init__(
        self, metavar: str, *, help: str = "", complete: Completer | None = None, choices: Sequence[str] = ()
    ) -> None:
        self.metavar, self.help, self.complete, self.choices = metavar, help, complete, choices


class Option:
    """An option, written as one of `names`; without them, as the parameter is called. `is_name`: it is not empty."""

    def __init__(
        self,
        *names: str,
        help: str = "",
        metavar: str = "",
        min: int | None = None,
        choices: Sequence[str] = (),
        complete: Completer | None = None,
        is_name: bool = False,
    ) -> None:
        self.names, self.help, self.metavar, self.min = names, help, metavar, min
        self.choices, self.complete, self.is_name = choices, complete, is_name
