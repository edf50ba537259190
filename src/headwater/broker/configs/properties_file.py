"""Java's properties files, as Kafka reads `server.properties`: comments, continued lines, escapes, `=`, `:` or a blank."""

import re
from collections.abc import Iterator

SIMPLE_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
KEY = re.compile(r"((?:\\.|[^\\=:\s])*)\s*[=:]?\s*(.*)", re.DOTALL)
PLAIN = frozenset(b"._-/0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
BLANKS = " \t\f"


def read_properties(content: str) -> dict[str, str]:
    """The pairs of a file. If a key occurs twice, the last one counts."""
    pairs = {}
    for line in logical_lines(content):
        found = KEY.fullmatch(line)
        assert found is not None  # it matches any text
        pairs[unescape(found[1])] = unescape(found[2])
    return pairs


def write_properties(pairs: dict[str, str]) -> str:
    """The content of a file that is read as these pairs."""
    return "".join(f"{escape(key)}={escape(value)}\n" for key, value in pairs.items())


def logical_lines(content: str) -> Iterator[str]:
    """Lines joined with their continuations; without comments and empty lines."""
    begun = ""
    for natural in re.split(r"\r\n|\n|\r", content):
        line = natural.lstrip(BLANKS)
        if not begun and (not line or line[0] in "#!"):
            continue
        backslashes = len(line) - len(line.rstrip("\\"))
        if backslashes % 2:
            begun += line[:-1]
            continue
        yield begun + line
        begun = ""
    if begun:
        yield begun


def unescape(text: str) -> str:
    def replace(found: re.Match[str]) -> str:
        code = found[1]
        return chr(int(code[1:], 16)) if len(code) == 5 else SIMPLE_ESCAPES.get(code, code)

    # Two escapes may be the halves of one character.
    return ESCAPE.sub(replace, text).encode("utf-16-be", "surrogatepass").decode("utf-16-be", "replace")


def escape(text: str) -> str:
    data = text.encode("utf-16-be", "surrogatepass")
    units = (int.from_bytes(data[n : n + 2], "big") for n in range(0, len(data), 2))
    return "".join(chr(unit) if unit in PLAIN else f"\\u{unit:04x}" for unit in units)
