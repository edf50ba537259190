"""The bug is in what the tests import, and only a test that fails kills it."""

from pathlib import Path

import pytest

from headwater.protocol import varint
from tests.mutants.planting import SOURCE, Bug, Sources, bug_of
from tests.mutants.running import Copy, Fate, Report, fate_of

ANCHOR, CHANGED = "VARINT_BYTES_MAX = 10", "VARINT_BYTES_MAX = 9"
TEST = """
def test_imports() -> None:
    from headwater.protocol import varint

    print(varint.__file__)
    assert varint.VARINT_BYTES_MAX == 10
"""


def planted(**changes: object) -> Bug:
    entry = {
        "name": "a-byte-less",
        "breaks": "Large numbers.",
        "anchor": ANCHOR,
        "replacement": CHANGED,
        "tests": ["x"],
    }
    return bug_of("protocol", {**entry, **changes})


def test_the_tests_import_the_copy_with_the_bug_and_the_tree_stays_as_it_is(tmp_path: Path) -> None:
    before = Path(varint.__file__).read_text()
    copy, test = Copy(tmp_path / "worker"), tmp_path / "test_bug.py"
    test.write_text(TEST)
    bug = planted()
    report = copy.run([str(test)], Sources().plant(bug))
    assert report.source == str(copy.source.resolve())
    assert fate_of(bug, report)[0] is Fate.DIED
    output = copy.output.read_text()
    assert str(copy.source / "headwater" / "protocol" / "varint.py") in output
    assert "assert 9 == 10" in output
    assert Path(varint.__file__).read_text() == before
    # The file is put back, and what was compiled with the bug is not taken for it: it has as many bytes.
    report = copy.run([str(test)])
    # Below which folder pytest names a test depends on where this tree is.
    assert [name.rpartition("/")[2] for name in report.passed] == ["test_bug.py::test_imports"]
    assert (report.failed, report.trouble) == ([], "")


def test_what_does_not_run_kills_nothing(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    copy, test = Copy(tmp_path / "worker", source), tmp_path / "test_bug.py"
    # An empty copy: the interpreter finds what is installed, which is the working tree.
    test.write_text("def test_fails() -> None:\n    assert False\n")
    report = copy.run([str(test)])
    assert report.failed
    assert fate_of(planted(), report) == (Fate.NOT_TRIED, f"the tests imported {SOURCE}, not the copy in {copy.source}")


def test_an_interpreter_that_does_not_end_is_killed(tmp_path: Path) -> None:
    source = tmp_path / "src"
    (source / "headwater").mkdir(parents=True)
    (source / "headwater" / "__init__.py").write_text("import os, signal\nos.write(1, b'x')\nsignal.pause()\n")
    copy = Copy(tmp_path / "worker", source)
    report = copy.run(["tests/mutants"], timeout_s=1)
    assert "has not ended in 1 s" in report.trouble
    assert fate_of(planted(), report)[0] is Fate.NOT_TRIED


@pytest.mark.parametrize(
    ("report", "hangs", "fate"),
    [
        (Report(passed=["a"], failed=["b"]), False, Fate.DIED),
        (Report(passed=["a"]), False, Fate.SURVIVED),
        (Report(passed=["a"]), True, Fate.SURVIVED),
        (Report(passed=["a"], skipped=["b"]), False, Fate.SURVIVED),
        (Report(timed_out=["b"]), False, Fate.HUNG),
        (Report(timed_out=["b"]), True, Fate.DIED),
        (Report(uncollected=["b"], trouble="tests could not be collected"), False, Fate.NOT_TRIED),
        (Report(failed=["b"], trouble="the tests imported another source"), False, Fate.NOT_TRIED),
    ],
)
def test_only_a_test_that_fails_kills_a_bug(report: Report, hangs: bool, fate: Fate) -> None:
    assert fate_of(planted(hangs=hangs), report)[0] is fate
