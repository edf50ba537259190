"""Pictures are drawn for both a light and a dark page, and say in words what they show."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
PICTURES = sorted((ROOT / "docs" / "images").glob("*.svg"))


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_each_picture_is_for_light_and_dark_and_has_a_title(path: Path) -> None:
    root = ElementTree.parse(path).getroot()
    title, style = root.find(f"{SVG}title"), root.find(f"{SVG}style")
    assert title is not None
    assert title.text
    assert style is not None
    assert style.text
    assert "@media (prefers-color-scheme: dark)" in style.text


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_each_colour_has_a_dark_counterpart(path: Path) -> None:
    """No shape has a colour of its own: what is dark on light would be dark on dark."""
    root = ElementTree.parse(path).getroot()
    coloured = [element.tag for element in root.iter() if {"fill", "stroke"} & {*element.attrib}]
    assert coloured == []
    style = root.find(f"{SVG}style")
    assert style is not None
    assert style.text is not None
    light, dark = style.text.split("@media")
    for rule in ("text", ".small", ".label", ".frame", ".part", ".water", ".line", ".tip"):
        assert f"{rule} {{" in light
        assert f"{rule} {{" in dark
