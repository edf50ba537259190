"""Reads what is at a URL: a file, or the answer to one GET or POST over HTTP or TLS. Bounded in size and time.

A redirect is an error: whoever allowed a URL has not allowed where it points to. No proxy is used. Certificates are checked
against the system's authorities, or the file that the variable SSL_CERT_FILE names.
"""

from collections.abc import Mapping
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
    import ssl
    from http.client import HTTPConnection, HTTPException, HTTPSConnection

    parts = urlsplit(url)
    deadline_s = monotonic() + timeout_s
    try:
        host, port = parts.hostname or "", parts.port
        connection = (
            HTTPSConnection(host, port, timeout=timeout_s, context=ssl.create_default_context(cafile=authorities))
            if parts.scheme == "https"
            else HTTPConnection(host, port, timeout=timeout_s)
        )
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            all_headers = {"Accept": "application/json", "User-Agent": "headwater", **headers}
            connection.request(method, path, body, all_headers)
            with connection.getresponse() as answer:
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
