"""Reads what is at a URL: a file, or the answer to one GET over HTTP or TLS. Bounded in size and time.

A redirect is an error: whoever allowed a URL has not allowed where it points to. No proxy is used. Certificates are checked
against the system's authorities, or the file that the variable SSL_CERT_FILE names.
"""

from pathlib import Path
from time import monotonic
from urllib.parse import unquote, urlsplit

TIMEOUT_S = 10.0
CHUNK_BYTES = 16 << 10


class FetchError(Exception):
    """The URL cannot be read. The message says why, on one line."""


def fetch(url: str, size_bytes_max: int, timeout_s: float = TIMEOUT_S) -> bytes:
    """The content of a `file:`, `http:` or `https:` URL. Raises FetchError. It blocks for at most about twice `timeout_s`."""
    parts = urlsplit(url)
    try:
        if parts.scheme == "file":
            with Path(unquote(parts.path)).open("rb") as file:
                content = file.read(size_bytes_max + 1)
        else:
            content = get(url, size_bytes_max, timeout_s)
    except OSError as error:
        raise FetchError(error.strerror or str(error) or type(error).__name__) from error
    if len(content) > size_bytes_max:
        raise FetchError(f"it has more than {size_bytes_max} bytes")
    return content


def get(url: str, size_bytes_max: int, timeout_s: float) -> bytes:
    """Up to one byte more than allowed of the answer. Raises FetchError and OSError."""
    from http.client import HTTPConnection, HTTPException, HTTPSConnection

    parts = urlsplit(url)
    connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    deadline_s = monotonic() + timeout_s
    try:
        connection = connect(parts.hostname or "", parts.port, timeout=timeout_s)
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", path, headers={"Accept": "application/json", "User-Agent": "headwater"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise FetchError(f"the answer is {answer.status} {answer.reason}")
            content = b""
            while len(content) <= size_bytes_max and (chunk := answer.read1(CHUNK_BYTES)):
                content += chunk
                if monotonic() > deadline_s:
                    raise FetchError(f"it takes longer than {timeout_s:.0f} s")
        finally:
            connection.close()
    except (HTTPException, ValueError) as error:
        raise FetchError(f"{type(error).__name__}: {error}") from error
    return content
