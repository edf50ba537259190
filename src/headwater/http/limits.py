"""What one client may take: bytes, time and connections. Every limit has an answer, or ends the connection."""

from typing import NamedTuple


class Limits(NamedTuple):
    """The limits of one server. Times are in seconds.

    `head_bytes_max` and `head_s`: the request line and the headers; more ends the connection. `body_bytes_max`: answered
    with 413. `body_s`: from the headers to the end of the body, answered with 408. `answer_s`: what a handler may take,
    answered with 504. `flush_s`: what a client may take to read an answer. `idle_s`: a connection without a request.
    `stop_s`: what requests under way may take when the server stops. `connections_max`: one more closes the connection
    that has been without a request for longest, or, where every one has a request, the newest.
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
