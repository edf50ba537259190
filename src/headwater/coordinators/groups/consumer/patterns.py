"""Regular expressions from clients. RE2 matches them, in linear time for any pattern (docs/decisions/0007).

`re` must not compile a client's expression: a few characters can keep it busy for years.
"""

from typing import Protocol

CHARACTERS_MAX = 4096
MEMORY_BYTES_MAX = 1 << 20


class PatternError(ValueError):
    """A pattern that RE2 rejects, or that is too long or compiles to too much."""


class Pattern(Protocol):
    """A compiled expression."""

    def fullmatch(self, text: str) -> object:
        """A true value if the whole text matches."""
        ...


def client_pattern(expression: str) -> Pattern:
    """A client's expression, ready to match. Raises PatternError."""
    if len(expression) > CHARACTERS_MAX:
        raise PatternError(f"it is longer than {CHARACTERS_MAX} characters")
    import re2  # on first use: most brokers never see a pattern

    options = re2.Options()
    options.log_errors = False
    options.max_mem = MEMORY_BYTES_MAX
    try:
        compiled: Pattern = re2.compile(expression, options)
    except (re2.error, UnicodeError) as error:
        raise PatternError(str(error)) from error
    return compiled
