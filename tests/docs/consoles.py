"""The commands that documents show, and what they print."""

import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

CONSOLE = re.compile(r"^( *)```console\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"\s{2,}#.*$")
CALL = re.compile(r"(?:^|\| )(?:[A-Z_]+=\S+ )*headwater (.*)$")
REDIRECTION = re.compile(r"\s+(?:\d?[<>]\S+|&)(?=\s|$)")


class Shown(NamedTuple):
    """A command line, and the lines that a document shows below it."""

    line: str
    output: str

    @property
    def headwater(self) -> list[str] | None:
        """The arguments of `headwater`, which may be the end of a pipeline; None for another command."""
        found = CALL.search(self.line)
        return shlex.split(REDIRECTION.sub("", found[1])) if found else None


def commands_in(text: str) -> Iterator[Shown]:
    for indent, block in CONSOLE.findall(text):
        for command in re.split(r"^\$ ", block.replace(f"\n{indent}", "\n").removeprefix(indent), flags=re.MULTILINE)[
            1:
        ]:
            line, _, output = command.partition("\n")
            while line.endswith("\\"):
                more, _, output = output.partition("\n")
                line = line[:-1] + more.removeprefix("> ")
            yield Shown(COMMENT.sub("", line), output)
