"""Words that a native technical writer would not use, and names that hide what a function returns.

Prose is read by people who have not met the code. So each entry of `WORDS` names a pattern that was common here and misleads
or slows such a reader, and says what to write instead. The patterns look at the lines of source, tests and documents, with
names split into words: `test_a_torn_tail_is_no_damage` is read as "test a torn tail is no damage".

A function that returns something is named with a noun or a verb. A participle says how the thing came about, and not what
it is: `merged(a, b)` could be anything, `merge_settings(a, b)` could not.

What is in `EXCEPTIONS` or `PARTICIPLES` is right where it is, or is yet to be renamed. Both lists may only shrink: an entry
that no longer has a line or a function fails.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "docs", "tests", "examples")
SUFFIXES = {".py", ".md", ".toml"}

WORDS = {
    # Only what lags is behind; what was left behind is an idiom.
    r"(?<!\bis )(?<!\bare )(?<!\bbe )(?<!\bwas )(?<!falls )(?<!fall )(?<!moment )(?<!left )(?<!leaves )(?<!leave )\bbehind\b": (
        "after (in order), or what it really is"
    ),
    r"\banew\b": "again; or rebuild, restart",
    r"\bidle else\b": "otherwise idle",
    r"\bcannot be meant\b": "is invalid, is refused",
    r"\bto be called (when|whenever|before|after|in)\b": "Call this when …",
    r"\b(is|are|be|was|were) told\b(?! (apart|from)\b)": "gets, sees, is notified; or name the answer",
    r"\btells? of\b": "describes",
    r"\bof ours\b": "of this project",
    r"\b(gives?|given) out\b": "assigns, answers with",
    r"\b(see|sees|saw) to\b": "makes sure that …, handles",
    r"\"\"\"takes\b": "Accepts, Applies, Installs, Removes, Records …",
    r"\basked after\b(?! it\b)": "asked for",
    r"\bstands? in (`|[a-z-]+\.md)": "is listed in, is described in",
    r"(?<!there )\bis no (?!longer\b|better\b|secret\b|more\b)[a-z]": "is not a …",
    r"\bany more\b(?! than\b)": "no longer",
    r"\b(comes?|came) to (pass|its end|stand|be|the|a|its|the same)\b|\b(comes?|came) to[.:;]": "amounts to, results in, is",
    r"\b(go|goes|went|gone) on\b(?! the wire\b)": "continues, resumes, keeps …ing",
    r"\bin turns\b(?![\]}])": "alternately",
    r"\bthe one or the other\b": "one or the other",
    r"\b(one|an?) (?!of\b)[a-z]+ an? (api|topic|partition|connection|group|member|transaction|module|node|broker)\b(?! (that|of))": (
        "one … per …"
    ),
    r"^\W*(def )?test who\b|\b(all|nobody|one) who\b": "name the subject",
    r"\b([a-z]*error|none|false|true) where\b": "… if …",
    r"\bin this life\b|\ball that there (is|are)\b": "since the start; what exists",
    r"[.;] who\b|\b(so that|by|from|because|whether|until) who\b": "name the subject",
}


class Line(NamedTuple):
    """A line of a file of the repository."""

    path: str
    text: str


EXCEPTIONS: tuple[Line, ...] = ()

# Public names of `hw.Admin` stay as they are.
PARTICIPLES: frozenset[str] = frozenset({"src/headwater/client/admin.py: committed"})

IRREGULAR = frozenset(
    [
        "begun",
        "bound",
        "broken",
        "built",
        "chosen",
        "cut",
        "done",
        "drawn",
        "found",
        "given",
        "gone",
        "held",
        "kept",
        "known",
        "left",
        "lost",
        "made",
        "meant",
        "met",
        "paid",
        "put",
        "read",
        "seen",
        "sent",
        "set",
        "shown",
        "split",
        "spent",
        "taken",
        "thrown",
        "told",
        "understood",
        "withdrawn",
        "written",
    ]
)
NO_PARTICIPLES = frozenset(
    ["feed", "need", "seed", "speed", "embed", "proceed", "succeed", "exceed", "set", "cut", "read", "put", "split"]
)


@cache
def files() -> tuple[Path, ...]:
    found = [ROOT / "README.md", ROOT / "CHANGELOG.md"]
    found += [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if path.suffix in SUFFIXES]
    return tuple(path for path in found if path != Path(__file__).resolve() and "messages" not in path.parts)


@cache
def lines() -> tuple[Line, ...]:
    return tuple(
        Line(str(path.relative_to(ROOT)), text.strip())
        for path in files()
        for text in path.read_text().splitlines()
        if text.strip()
    )


def words_of(text: str) -> str:
    return text.replace("_", " ").lower()


@cache
def finds(pattern: str) -> tuple[Line, ...]:
    compiled = re.compile(pattern)
    return tuple(line for line in lines() if compiled.search(words_of(line.text)))


class Function(NamedTuple):
    """A function of the source: where it is, and what it returns."""

    path: str
    name: str
    returns: str


def functions() -> Iterator[Function]:
    for path in files():
        if path.suffix == ".py" and path.is_relative_to(ROOT / "src"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.decorator_list:
                    returns = "None" if node.returns is None else ast.unparse(node.returns)
                    yield Function(str(path.relative_to(ROOT)), node.name, returns)


def is_participle(name: str) -> bool:
    """Whether a name is a participle and nothing else: `checked`, `sorted_out`; not `checked_topic`."""
    first, *rest = name.strip("_").split("_")
    return (
        first not in NO_PARTICIPLES
        and (first in IRREGULAR or first.endswith("ed"))
        and (not rest or rest[0] in ("out", "up", "ones"))
    )


@cache
def participles() -> frozenset[str]:
    return frozenset(
        f"{function.path}: {function.name}"
        for function in functions()
        if is_participle(function.name) and function.returns not in ("None", "bool")
    )


@pytest.mark.parametrize("pattern", WORDS, ids=list(WORDS.values()))
def test_nothing_is_written_that_reads_as_a_translation(pattern: str) -> None:
    """Write what the name of the failed case says."""
    assert [line for line in finds(pattern) if line not in EXCEPTIONS] == []


def test_every_exception_is_needed() -> None:
    found = {line for pattern in WORDS for line in finds(pattern)}
    assert [line for line in EXCEPTIONS if line not in found] == []


def test_a_function_that_returns_something_is_named_with_a_noun_or_a_verb() -> None:
    assert sorted(participles() - PARTICIPLES) == []


def test_every_participle_that_is_excepted_is_there() -> None:
    assert sorted(PARTICIPLES - participles()) == []


@pytest.mark.parametrize(
    "text",
    [
        "everything behind the recovery point stays",
        "the entries at or behind `position`",
        "def test_a_torn_tail_is_no_damage() -> None:",
        "def test_who_is_silent_is_out() -> None:",
        "is not called any more; who came is called from the next emit on",
        '"""To be called when the journal grew."""',
        "one epoch a transaction",
        "what the settings come to.",
        "Raises OSError where it cannot be read.",
        '"""The entry; None where there is none."""',
    ],
)
def test_a_line_of_this_kind_is_found(text: str) -> None:
    assert any(re.search(pattern, words_of(text)) for pattern in WORDS)


@pytest.mark.parametrize(
    "text",
    [
        "a journal that is behind",
        "what killed backups left behind",
        "there is no room",
        "it is no longer called",
        "who may do what to which topic",
        "a client of the broker",
        "one of a transaction that was aborted",
    ],
)
def test_a_line_that_is_english_is_not_found(text: str) -> None:
    assert not any(re.search(pattern, words_of(text)) for pattern in WORDS)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("merged", True),
        ("sorted_out", True),
        ("_taken", True),
        ("checked_topic", False),
        ("feed", False),
        ("merge", False),
    ],
)
def test_a_participle_is_told_from_other_names(name: str, is_one: bool) -> None:
    assert is_participle(name) is is_one
