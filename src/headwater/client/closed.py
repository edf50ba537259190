"""Replaces a librdkafka client that has ended: any use of it raises an error that says so."""

from typing import NoReturn

from headwater.client.errors import ClientError


class Closed:
    """Raises `kind` for every use. Its length is 0: nothing is on its way."""

    def __init__(self, kind: type[ClientError], message: str) -> None:
        self._kind, self._message = kind, message

    def __getattr__(self, name: str) -> NoReturn:
        raise self._kind(self._message)

    def __len__(self) -> int:
        return 0
