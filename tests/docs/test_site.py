"""The site builds without a warning, its links lead somewhere, and it has every public name.

It is built once, with `make docs`'s own command, into a directory of the test.
"""

import html
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import headwater
from headwater import testing

ROOT = Path(__file__).parents[2]
BUILD_TIMEOUT_S = 110
NOT_PAGES = {"genindex", "search", "py-modindex"}


def builds(target: Path) -> str:
    """Builds the site as the Makefile does; returns what Sphinx says, which is nothing if all is well."""
    (command,) = re.findall(r"\$\(BIN\)/python (-m sphinx .*)", (ROOT / "Makefile").read_text())
    words = command.replace("build/docs-trees", f"{target}-trees").replace("build/docs", str(target)).split()
    assert str(target) in words
    run = [sys.executable, *words]
    result = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False)
    assert result.returncode == 0, result.stderr
    return result.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site") / "html"
    assert builds(target) == ""
    return target


@cache
def text_of(page: Path) -> str:
    return page.read_text()


@cache
def anchors_of(page: Path) -> frozenset[str]:
    return frozenset(html.unescape(name) for name in re.findall(r'\bid="([^"]+)"', text_of(page)))


def broken_links(page: Path, site: Path) -> list[str]:
    found = []
    for link in set(re.findall(r'\b(?:href|src)="([^"]+)"', text_of(page))):
        parts = urlsplit(html.unescape(link))
        if parts.scheme or parts.netloc:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        missing = not target.is_file() or site not in target.parents
        if missing or (
            target.suffix == ".html" and parts.fragment and unquote(parts.fragment) not in anchors_of(target)
        ):
            found.append(f"{page.relative_to(site)}: {link}")
    return found


def test_every_link_leads_to_a_page_and_a_place_in_it(site: Path) -> None:
    pages = [page for page in site.rglob("*.html") if "_modules" not in page.parts]
    assert len(pages) > 60
    assert [broken for page in pages for broken in broken_links(page, site)] == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text('<p id="a b"><a href="#a%20b"></a><a href="#c"></a><a href="gone.html"></a><a href="../x"></a></p>')
    assert sorted(broken_links(page, tmp_path)) == ["page.html: #c", "page.html: ../x", "page.html: gone.html"]


def test_every_document_is_a_page(site: Path) -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("README.md")]
    missing = [path for path in documents if not (site / path.relative_to(ROOT)).with_suffix(".html").exists()]
    assert missing == []
    assert (site / "index.html").read_bytes() == (site / "README.html").read_bytes()


def test_every_document_is_in_the_contents(site: Path) -> None:
    """A page that only a search finds is as good as none."""
    index = text_of(site / "index.html")
    contents = re.findall(
        r'class="reference internal" href="([^"#]+)"', index.split("sidebar-tree")[1].split("</aside>")[0]
    )
    pages = {str(page.relative_to(site)) for page in site.rglob("*.html") if "_modules" not in page.parts}
    absent = pages - {*contents, "index.html", "README.html", *(f"{name}.html" for name in NOT_PAGES)}
    assert absent == set()


def test_every_public_name_has_its_docstring_on_the_site(site: Path) -> None:
    described = frozenset[str]().union(*(anchors_of(page) for page in (site / "docs" / "site" / "api").glob("*.html")))
    names = [f"headwater.{name}" for name in headwater.__all__ if not name.startswith("__")]
    names += [f"headwater.testing.{name}" for name in testing.__all__]
    assert [name for name in names if name not in described] == []
    assert {"headwater.Consumer.batches", "headwater.client.errors.ProducerFencedError"} <= described
