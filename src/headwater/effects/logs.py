"""Loggers whose lines cannot be forged.

Names of groups, topics and users come from clients, and may contain line breaks or a terminal's control characters. For
example, a log line that repeats the topic name "a\\nINFO all is well" would look like two lines, and the client would have
written the second. So whatever is put into a message is escaped, also in an application that embeds a broker, and the
lines of a traceback are indented.
"""

import logging
import traceback


def escape(text: str) -> str:
    """The text on one line, with \\n, \\x1b and the like for what cannot be printed."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


REBUILT = {"is_rebuilt": True}
"""The `extra` of a line that names damage which is repaired at once, from what is whole: nothing has to be done."""


def says_rebuilt(record: logging.LogRecord) -> bool:
    """Whether a line was logged with `REBUILT`."""
    return getattr(record, "is_rebuilt", False) is True


class OneLine(logging.Filter):
    """Escapes the arguments of a log record's message. It drops no record."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                argument if isinstance(argument, (int, float)) else escape(str(argument)) for argument in record.args
            )
        if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
            lines = "".join(traceback.format_exception(record.exc_info[1])).split("\n")
            record.exc_text = "\n".join("  " + escape(line) for line in lines if line)
        return True


ONE_LINE = OneLine()


def get_logger(name: str) -> logging.Logger:
    """The logger of a module that handles what clients send."""
    logger = logging.getLogger(name)
    logger.addFilter(ONE_LINE)
    return logger


class LogLines(logging.Handler):
    """Collects what a broker logs, and keeps it from all other handlers."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: list[logging.LogRecord] = []
        self.logger = logging.getLogger("headwater")

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def __enter__(self) -> "LogLines":
        self.before = self.logger.level, self.logger.propagate, self.logger.disabled
        self.logger.setLevel(logging.INFO)
        self.logger.propagate = False
        self.logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.logger.removeHandler(self)
        level, self.logger.propagate, self.logger.disabled = self.before
        self.logger.setLevel(level)
