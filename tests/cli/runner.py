"""Runs a command in this process, as `main` does but for the line that an error becomes."""

import io
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple
from unittest.mock import patch

from headwater.cli.app import answer
from headwater.cli.errors import CommandError
from headwater.client.errors import ClientError


class Result(NamedTuple):
    """What came of a command: its exit status or its error, and what it wrote."""

    return_value: int
    stdout: str
    stderr: str
    exception: CommandError | ClientError | None = None

    @property
    def output(self) -> str:
        return self.stdout + self.stderr

    @property
    def exit_code(self) -> int:
        return 1 if self.exception is not None else self.return_value


def invoke(*words: object, stdin: str = "") -> Result:
    out, err, given = text_stream(), text_stream(), text_stream(stdin)
    exception: CommandError | ClientError | None = None
    with redirect_stdout(out), redirect_stderr(err), patch("sys.stdin", given):
        try:
            status = answer([str(word) for word in words])
        except (CommandError, ClientError) as error:
            status, exception = 1, error
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else 1
    return Result(status, text_of(out), text_of(err), exception)


def text_stream(content: str = "") -> io.TextIOWrapper:
    """As standard streams are: text over bytes."""
    return io.TextIOWrapper(io.BytesIO(content.encode()), encoding="utf-8", newline="", write_through=True)


def text_of(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()
