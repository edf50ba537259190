"""How a parameter of a command is written on the command line, and what it means."""

from collections.abc import Callable, Sequence
from typing import Any

# Completes a name, given the connection options that were typed.
Completer = Callable[[Any, str], list[str]]


class Argument:
    """A positional argument. It is a name, so it must not be empty."""

    def __init__(
        self, metavar: str, *, help: str = "", complete: Completer | None = None, choices: Sequence[str] = ()
    ) -> None:
        self.metavar, self.help, self.complete, self.choices = metavar, help, complete, choices


class Option:
    """An option, written as one of `names`, or like the parameter if there are none. `is_name`: it must not be empty."""

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
