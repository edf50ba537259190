"""Lines of strace become calls: hexadecimal strings, descriptors by what they are, and calls that others interrupt."""

import pytest

from tests.syncs.calls import Call, Kind
from tests.syncs.strace import TraceError, parse

DATA = "/d"


def hexed(text: str | bytes) -> str:
    data = text.encode() if isinstance(text, str) else text
    return "".join(f"\\x{byte:02x}" for byte in data)


def parsed(*lines: str) -> list[Call]:
    return list(parse(lines, DATA))


def test_a_file_is_made_written_and_synced() -> None:
    path = hexed("/d/f")
    assert parsed(
        f'7 openat(AT_FDCWD<{hexed("/")}>, "{path}", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 3<{path}>',
        f'7 pwrite64(3<{path}>, "{hexed(b"ab)")}", 3, 4096) = 2',
        f'7 pwritev(3<{path}>, [{{iov_base="{hexed("cd")}", iov_len=2}}, {{iov_base="{hexed("e")}", iov_len=1}}], 2, 9) = 3',
        f'7 pwritev2(3<{path}>, [{{iov_base="{hexed("fg")}", iov_len=2}}], 1, 7, 0) = 2',
        f"7 fdatasync(3<{path}>)              = 0",
        f"7 ftruncate(3<{path}>, 12)          = 0",
    ) == [
        Call(Kind.CREATE, 0, 0, 7, "/d/f"),
        Call(Kind.WRITE, 1, 1, 7, "/d/f", position=4096, data=b"ab"),  # a short write
        Call(Kind.WRITE, 2, 2, 7, "/d/f", position=9, data=b"cde"),
        Call(Kind.WRITE, 3, 3, 7, "/d/f", position=7, data=b"fg"),
        Call(Kind.SYNC, 4, 4, 7, "/d/f"),
        Call(Kind.TRUNCATE, 5, 5, 7, "/d/f", position=12),
    ]


def test_names() -> None:
    one, two = hexed("/d/one"), hexed("/d/two")
    assert parsed(
        f'7 mkdir("{one}", 0700) = 0',
        f'7 rename("{one}", "{two}") = 0',
        f'7 unlink("{two}") = 0',
        f'7 rmdir("{two}") = 0',
    ) == [
        Call(Kind.MAKE_DIRECTORY, 0, 0, 7, "/d/one"),
        Call(Kind.RENAME, 1, 1, 7, "/d/one", "/d/two"),
        Call(Kind.REMOVE, 2, 2, 7, "/d/two"),
        Call(Kind.REMOVE, 3, 3, 7, "/d/two"),
    ]


def test_a_call_lasts_while_others_are_made() -> None:
    path = hexed("/d/f")
    assert parsed(
        f"8 fdatasync(3<{path}> <unfinished ...>",
        f'7 pwrite64(4<{path}>, "{hexed("x")}", 1, 0) = 1',
        "8 <... fdatasync resumed>)               = 0",
    ) == [Call(Kind.WRITE, 1, 1, 7, "/d/f", data=b"x"), Call(Kind.SYNC, 0, 2, 8, "/d/f")]


def test_clients() -> None:
    accepted = "6<TCP:[127.0.0.1:9092->127.0.0.1:4000]>"
    assert parsed(
        f'7 read({accepted}, "{hexed("no")}", 9) = 2',  # another process's: nobody was accepted there
        f"7 accept4(4<TCP:[127.0.0.1:9092]>, NULL, NULL, SOCK_CLOEXEC) = {accepted}",
        f'7 read({accepted}, "{hexed("ask")}", 65536) = 3',
        f'7 read({accepted}, "", 65536) = 0',
        f'7 writev({accepted}, [{{iov_base="{hexed("an")}", iov_len=2}}, {{iov_base="{hexed("swer")}", iov_len=4}}], 2) = 5',
        f"7 accept4(4<TCP:[127.0.0.1:9092]>, NULL, NULL, SOCK_CLOEXEC) = {accepted}",
        f'7 sendto({accepted}, "{hexed("x")}", 1, 0, NULL, 0) = 1',
    ) == [
        Call(Kind.RECEIVE, 2, 2, 7, data=b"ask", connection=1),
        Call(Kind.SEND, 4, 4, 7, data=b"answe", connection=1),
        Call(Kind.SEND, 6, 6, 7, data=b"x", connection=5),
    ]


def test_what_failed_or_is_elsewhere_is_left_out() -> None:
    assert (
        parsed(
            f"7 fdatasync(3<{hexed('/d/f')}>) = -1 EIO (Input/output error)",
            f"7 fsync(3<{hexed('/data/f')}>) = 0",
            f'7 write(1<{hexed("/log")}>, "{hexed("x")}", 1) = 1',
            '7 read(0<UNIX-STREAM:[1->2]>, "\\x00", 1) = 1',
            "7 fdatasync(3<" + hexed("/d/f") + "> <unfinished ...>",
            "7 <... fdatasync resumed>) = ?",
            "7 +++ killed by SIGKILL +++",
        )
        == []
    )


def test_a_sync_of_the_data_directory_and_of_its_parent() -> None:
    calls = parsed(f"7 fsync(3<{hexed('/d')}>) = 0")
    assert calls == [Call(Kind.SYNC, 0, 0, 7, "/d")]
    (parent,) = parse([f"7 fsync(3<{hexed('/e')}>) = 0"], "/e/d")
    assert parent.path == "/e"


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "7 what is this",
        f'7 pwrite64(3<{hexed("/d/f")}>, "{hexed("x")}"..., 100, 0) = 100',
        f'7 write(3<{hexed("/d/f")}>, "{hexed("x")}", 1) = 1',
    ],
)
def test_what_is_not_understood_proves_nothing(line: str) -> None:
    with pytest.raises(TraceError):
        parsed(line)
