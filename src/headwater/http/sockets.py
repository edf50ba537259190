"""Makes listening sockets, separately from the server that uses them.

So one process can listen before the process that serves has started, or while it restarts: clients wait in the system's
queue and are not refused. This module imports nothing from a web server.
"""

import socket

BACKLOG = 128


def listening_sockets(host: str, port: int) -> list[socket.socket]:
    """Sockets on every address of a host; with port 0 all use the first one's port. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listening = socket.socket(family, kind, protocol)
            sockets.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            wanted = port or (sockets[0].getsockname()[1] if len(sockets) > 1 else 0)
            listening.bind((address[0], wanted, *address[2:]))
            listening.listen(BACKLOG)
            listening.setblocking(False)
    except BaseException:
        for listening in sockets:
            listening.close()
        raise
    return sockets
