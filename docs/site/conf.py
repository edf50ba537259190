"""The site of the documents: `make docs` builds it with Sphinx into build/docs.

The documents stay where a reader of the repository finds them, and links between them work in both places. So Sphinx reads the
whole repository, of which INCLUDED names the documents; README.md is the first page. What only the site needs is here: this file,
the pages of the Python API, which are made from the docstrings, and a style sheet.

Two things in the documents are changed while they are read. The first page and the index of decisions get a table of contents,
which would be noise in the repository. A link to a folder becomes one to its README.md.
"""

import re
import shutil
from pathlib import Path

from sphinx.application import Sphinx

import headwater

ROOT = Path(__file__).resolve().parents[2]

project = "Headwater"
version = release = headwater.__version__
html_title = f"Headwater {release}"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_copybutton"]

root_doc = "README"
INCLUDED = [
    "*.md",
    "docs/*.md",
    "docs/**/*.md",
    "docs/site/api/*.rst",
    "*/README.md",
    "src/headwater/**/README.md",
    "tests/**/README.md",
]
include_patterns = INCLUDED
exclude_patterns = ["build", ".*", "headwater-data"]

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
pygments_style = "friendly"
pygments_dark_style = "monokai"

myst_heading_anchors = 4
copybutton_prompt_text = r"\$ |> "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"
copybutton_only_copy_prompt_lines = True

# Docstrings are prose with Markdown's single backticks.
default_role = "code"
autodoc_default_options = {
    "members": True,
    "inherited-members": "BaseException, Enum, tuple, ValueError, RuntimeError",
    "member-order": "bysource",
}
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
suppress_warnings = ["myst.header"]  # a heading that skips a level is a choice of the page

CONTENTS = {
    "Learn": ["docs/tutorial/first-broker", "docs/tutorial/from-function-to-cluster", "examples/README"],
    "How to": [
        "docs/how-to/use-a-bus",
        "docs/how-to/handle-failures",
        "docs/how-to/read-without-a-group",
        "docs/how-to/test-with-a-broker",
        "docs/how-to/start-from-a-program",
    ],
    "Operate": [
        "docs/how-to/deploy",
        "docs/how-to/secure-a-broker",
        "docs/how-to/monitor",
        "docs/how-to/limit-clients",
        "docs/how-to/back-up-and-restore",
        "docs/how-to/check-and-repair",
        "docs/how-to/upgrade",
    ],
    "Look up": [
        "docs/reference/cli",
        "docs/reference/settings",
        "docs/reference/limits",
        "docs/reference/data-directory",
        "docs/known-gaps",
        "docs/benchmarks",
    ],
    "Python API": [
        "docs/reference/python-api",
        "docs/site/api/events",
        "docs/site/api/in-process",
        "docs/site/api/clients",
        "docs/site/api/testing",
    ],
    "Understand": [
        "docs/explanation/comparison",
        "docs/explanation/faq",
        "docs/explanation/architecture",
        "docs/decisions/README",
    ],
    "Project": ["SECURITY", "CONTRIBUTING", "CHANGELOG"],
    "The code's folders": [],
}
BELOW = {"docs/decisions/README": "docs/decisions/*"}
LINK_TO_A_FOLDER = re.compile(r"\]\(((?!https?:)[\w./-]+)/\)")


def contents_below(docname: str, read: set[str]) -> str:
    """The table of contents that a page gets: Sphinx's directive, in MyST's form."""
    if docname == root_doc:
        placed = {page for pages in CONTENTS.values() for page in pages}
        others = sorted(page for page in read if page.endswith("/README") and page not in placed)
        return "".join(directive(caption, pages or others) for caption, pages in CONTENTS.items())
    return directive("", [BELOW[docname]], "glob") if docname in BELOW else ""


def directive(caption: str, pages: list[str], *options: str) -> str:
    lines = ["```{toctree}", ":hidden:", *(f":{option}:" for option in options)]
    lines += [f":caption: {caption}"] if caption else []
    return "\n".join([*lines, "", *(f"/{page}" for page in pages), "```", ""])


def change_source(app: Sphinx, docname: str, source: list[str]) -> None:
    folder = (ROOT / docname).parent
    source[0] = LINK_TO_A_FOLDER.sub(
        lambda link: f"]({link[1]}/README.md)" if (folder / link[1] / "README.md").exists() else link[0], source[0]
    )
    source[0] += "\n\n" + contents_below(docname, app.env.found_docs)


def write_index(app: Sphinx, exception: Exception | None) -> None:
    """A web server looks for index.html: it is the first page again."""
    if exception is None:
        shutil.copyfile(Path(app.outdir, f"{root_doc}.html"), Path(app.outdir, "index.html"))


def setup(app: Sphinx) -> None:
    app.connect("source-read", change_source)
    app.connect("build-finished", write_index)
