"""Reads what is at a URL: a file, or the answer to one GET or POST over HTTP or TLS. Bounded in size and time.

A redirect is an error: whoever allowed a URL has not allowed where it points to. No proxy is used. Certificates are checked
against the system's authorities, or the file that the variable SSL_CERT_FILE names.
"""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

if TYPE_CHECKING:
    from http.client import HTTPResponse

TIMEOUT_S = 10.0


class FetchError(Exception):
    """The URL cannot be read. The message says why, on one line."""


def fetch(url: str, size_bytes_max: int, timeout_s: float = TIMEOUT_S) -> bytes:
    """The content of a `file:`, `http:` or `https:` URL. Raises FetchError. It blocks for at most twice `timeout_s`, and for as long
    as it takes to look up the host's name.
    """
    parts = urlsplit(url)
    try:
        if parts.scheme == "file":
            with Path(unquote(parts.path)).open("rb") as file:
                content = file.read(size_bytes_max + 1)
        else:
            content = ask("GET", url, None, {}, size_bytes_max, timeout_s)
    except OSError as error:
        raise FetchError(error.strerror or str(error) or type(error).__name__) from error
    if len(content) > size_bytes_max:
        raise FetchError(f"it has more than {size_bytes_max} bytes")
    return content


def post_form(
    url: str,
    body: str,
    headers: Mapping[str, str],
    size_bytes_max: int,
    timeout_s: float = TIMEOUT_S,
    authorities: str | None = None,
) -> bytes:
    """The answer to one POST of a form, which must be a success. `authorities` is a file of certificates. Raises FetchError."""
    sent = {"Content-Type": "application/x-www-form-urlencoded", **headers}
    try:
        content = ask("POST", url, body.encode(), sent, size_bytes_max, timeout_s, authorities)
    except OSError as error:
        raise FetchError(error.strerror or str(error) or type(error).__name__) from error
    if len(content) > size_bytes_max:
        raise FetchError(f"the answer has more than {size_bytes_max} bytes")
    return content


def ask(
    method: str,
    url: str,
    body: bytes | None,
    headers: Mapping[str, str],
    size_bytes_max: int,
    timeout_s: float,
    authorities: str | None = None,
) -> bytes:
    """Up to one byte more than allowed of the answer to one request. Raises FetchError and OSError."""
    from http.client import HTTPConnection, HTTPException

    parts = urlsplit(url)
    try:
        connection = HTTPConnection(parts.hostname or "", parts.port)
        with connected(parts, timeout_s, authorities) as stream:
            connection.sock = stream
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            all_headers = {"Accept": "application/json", "User-Agent": "headwater", **headers}
            connection.request(method, path, body, all_headers)
            with connection.getresponse() as answer:
                return read_answer(answer, size_bytes_max)
    except (HTTPException, ValueError) as error:
        raise FetchError(f"{type(error).__name__}: {error}") from error


@contextmanager
def connected(parts: SplitResult, timeout_s: float, authorities: str | None) -> Iterator[socket.socket]:
    """A connection for one request. After `timeout_s` it is cut off, however slowly something still comes: FetchError."""
    import ssl

    host = parts.hostname or ""
    plain = socket.create_connection((host, parts.port or (443 if parts.scheme == "https" else 80)), timeout_s)
    streams = [plain]
    late = threading.Event()

    def cut_off() -> None:
        late.set()
        with suppress(OSError):  # it is closed, or about to be
            socket.socket.shutdown(streams[-1], socket.SHUT_RDWR)

    timer = threading.Timer(timeout_s, cut_off)
    timer.daemon = True
    timer.start()
    try:
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=authorities)
            secured = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
            streams.append(secured)
            secured.do_handshake()
        yield streams[-1]
        if late.is_set():  # what was cut off may look like an end
            raise TimeoutError
    except Exception as error:
        if late.is_set():
            raise FetchError(f"it takes longer than {timeout_s:g} s") from error
        raise
    finally:
        timer.cancel()
        timer.join()
        for stream in streams:
            stream.close()


def read_answer(answer: "HTTPResponse", size_bytes_max: int) -> bytes:
    """Up to one byte more than allowed of a success. Raises FetchError and OSError."""
    if answer.status != 200:
        raise FetchError(f"the answer is {answer.status} {answer.reason}")
    content = answer.read(size_bytes_max + 1)
    if answer.length and len(content) <= size_bytes_max:
        raise FetchError("the answer ends too early")
    return content
