"""What crosses the pipe comes out as it went in, and anything else is refused."""

import os

import pytest

from headwater.planes.handover import HandedPlane, Handover
from headwater.planes.process import read_handover

PLANE = HandedPlane("metrics", "module:function", [5, 6], ["host.example.org"], is_open=False)
HANDOVER = Handover([PLANE], "127.0.0.1", 4711, "headwater", "s3cret\n\u2028", "warning", "client_id")


def test_a_handover_is_one_line() -> None:
    line = HANDOVER.line()
    assert line.count(b"\n") == 1
    assert Handover.from_line(line) == HANDOVER


@pytest.mark.parametrize("line", [b"", b"x\n", b"3\n", b"[]\n", b'[[], "127.0.0.1"]\n', b"[[[1]],1,1,1,1,1]\n"])
def test_anything_else_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        Handover.from_line(line)


def test_it_is_read_to_the_end_of_its_line_and_no_further() -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, HANDOVER.line())
        assert read_handover(reading) == HANDOVER  # the pipe is still open
    finally:
        os.close(writing)
        os.close(reading)


@pytest.mark.parametrize("sent", [b"", b"[["])
def test_a_pipe_that_ends_too_early_is_refused(sent: bytes) -> None:
    reading, writing = os.pipe()
    os.write(writing, sent)
    os.close(writing)
    try:
        with pytest.raises(ValueError, match="headwater up"):
            read_handover(reading)
    finally:
        os.close(reading)
