"""Connections from which nothing is read for a while, since their clients have used more than their quota (KIP-219)."""

import asyncio
from typing import Protocol

WAIT_S_MAX = 86_400.0  # one timer's; a client that has to wait longer gets another


class MutedClient(Protocol):
    """What is known here of a connection."""

    last_active_s: float
    closing: bool

    def pause(self, reason: str) -> None: ...

    def resume(self, reason: str) -> None: ...


class Muting:
    """Who is muted, and until when."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.until_s: dict[MutedClient, float] = {}

    def mute(self, client: MutedClient, wait_ms: float) -> None:
        """Reads nothing more from a client for so long; an earlier mute that lasts longer stays."""
        if client.closing:
            return
        until_s = self.loop.time() + wait_ms / 1000
        before_s = self.until_s.get(client)
        self.until_s[client] = until_s if before_s is None else max(before_s, until_s)
        if before_s is None:
            client.pause("quota")
            self.wait(client)

    def wait(self, client: MutedClient) -> None:
        wait_s = min(WAIT_S_MAX, max(0.0, self.until_s[client] - self.loop.time()))
        self.loop.call_later(wait_s, self.check, client)

    def check(self, client: MutedClient) -> None:
        until_s = self.until_s.get(client)
        if until_s is None:
            return
        now_s = self.loop.time()
        if now_s < until_s:
            self.wait(client)
            return
        del self.until_s[client]
        client.last_active_s = now_s  # that it sent nothing was not its slowness
        client.resume("quota")

    def forget(self, client: MutedClient) -> None:
        """The connection is gone."""
        self.until_s.pop(client, None)
