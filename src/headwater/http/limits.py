"""The limits for one client: bytes, time and connections. A client that exceeds one gets an answer, or loses its connection."""

from typing import NamedTuple


class Limits(NamedTuple):
    """The limits of one server. Times are in seconds.

    `head_bytes_max` and `head_s` limit the request line and the headers; beyond them the connection is broken.
    `body_bytes_max` limits the body (413), `body_s` the time from the headers to its end (408), `answer_s` the handler's
    time (504). `flush_s` is the time that a client has to read an answer; `idle_s`, how long a connection may have no
    request; `stop_s`, the time that pending requests have when the server stops. With `connections_max` connections, one
    more closes the one that has been idle for longest or, if all of them have a request, the newest.
    """

    head_bytes_max: int = 32 << 10
    head_s: float = 10.0
    body_bytes_max: int = 4 << 20
    body_s: float = 30.0
    answer_s: float = 60.0
    flush_s: float = 30.0
    idle_s: float = 30.0
    stop_s: float = 5.0
    connections_max: int = 64
