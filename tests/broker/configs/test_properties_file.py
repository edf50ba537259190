"""Properties files are read as Java reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.broker.configs.properties_file import read_properties, write_properties


@pytest.mark.parametrize(
    ("content", "pairs"),
    [
        ("a=b", {"a": "b"}),
        ("# a=b\n! c=d\n\n  e = f g  \n", {"e": "f g  "}),
        ("a:b\nc d\ne\n", {"a": "b", "c": "d", "e": ""}),
        ("a = b=c:d", {"a": "b=c:d"}),
        ("listeners=A://:1,\\\n    B://:2\nx=1", {"listeners": "A://:1,B://:2", "x": "1"}),
        ("a=b\\\\\nc=d", {"a": "b\\", "c": "d"}),
        ("a\\=b\\ c=d\\te\\u0041", {"a=b c": "d\teA"}),
        ("a=b\r\nc=d\re=f", {"a": "b", "c": "d", "e": "f"}),
        ("a=1\na=2", {"a": "2"}),
        ("a=\\ud83d\\ude00", {"a": "😀"}),
        ("a=b\\", {"a": "b"}),
        ("a=RULE:^CN=(.*?),.*$/$1/L", {"a": "RULE:^CN=(.*?),.*$/$1/L"}),
    ],
)
def test_lines(content: str, pairs: dict[str, str]) -> None:
    assert read_properties(content) == pairs


texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.dictionaries(texts.filter(bool), texts))
def test_what_is_written_is_read(pairs: dict[str, str]) -> None:
    assert read_properties(write_properties(pairs)) == pairs


@given(st.text())
def test_any_text_is_read(content: str) -> None:
    read_properties(content)
