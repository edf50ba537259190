"""Requests for which librdkafka has no call: our own frames on a blocking socket, with TLS and SASL PLAIN where asked for."""

import socket
import ssl
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from headwater.cli.errors import CommandError
from headwater.cli.options import client_settings
from headwater.protocol.api_classes import response_class
from headwater.protocol.apis import APIS, ApiKey
from headwater.protocol.compiled import decode
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.frames import request_frame, response_header_version
from headwater.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from headwater.protocol.messages.sasl_handshake import SaslHandshakeRequest

TIMEOUT_S = 10.0
FRAME_BYTES_MAX = 64 << 20


class Connection:
    """One connection to the first bootstrap server. Raises CommandError for all that goes wrong."""

    def __init__(self, bootstrap: str, client: Sequence[str] | None) -> None:
        settings = client_settings(bootstrap, client)
        host, _, port = settings["bootstrap.servers"].split(",")[0].rpartition(":")
        protocol = str(settings.get("security.protocol", "PLAINTEXT")).upper()
        try:
            self.socket = socket.create_connection((host, int(port)), TIMEOUT_S)
            if protocol.endswith("SSL"):
                context = ssl.create_default_context(cafile=settings.get("ssl.ca.location"))
                self.socket = context.wrap_socket(self.socket, server_hostname=host)
        except (OSError, ValueError) as error:
            raise CommandError(
                f"no answer from the broker at {host}:{port} ({error}); is --bootstrap-server right?"
            ) from error
        if protocol.startswith("SASL"):
            self.authenticate(settings)

    def authenticate(self, settings: dict[str, Any]) -> None:
        mechanism = settings.get("sasl.mechanism", settings.get("sasl.mechanisms", "PLAIN"))
        if mechanism != "PLAIN":
            raise CommandError("this command authenticates with -X sasl.mechanism=PLAIN only")
        self.call(ApiKey.SASL_HANDSHAKE, 1, SaslHandshakeRequest("PLAIN"))
        token = f"\0{settings.get('sasl.username', '')}\0{settings.get('sasl.password', '')}".encode()
        answer = self.call(ApiKey.SASL_AUTHENTICATE, 1, SaslAuthenticateRequest(token))
        check(answer.error_code, answer.error_message)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def call(self, key: ApiKey, version: int, message: Any) -> Any:
        """The answer to a request."""
        api = APIS[key]
        try:
            self.socket.sendall(request_frame(api, version, 1, "headwater", message))
            size = int.from_bytes(self.read(4), "big")
            if size > FRAME_BYTES_MAX:
                raise CommandError(f"the broker's answer has {size} bytes")
            frame = self.read(size)
        except OSError as error:
            raise CommandError(f"the connection to the broker broke: {error}") from error
        class_ = response_class(key)
        return decode(class_, version, frame, 5 if response_header_version(api, version) else 4)[0]

    def read(self, size: int) -> bytes:
        parts = []
        while size:
            part = self.socket.recv(size)
            if not part:
                raise CommandError(
                    "the broker closed the connection; does it want TLS or SASL (-X security.protocol=…)?"
                )
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def check(code: int, message: str | None = None) -> None:
    """Raises CommandError for an error's code."""
    if code:
        name = ErrorCode(code).name if code in ErrorCode._value2member_map_ else str(code)
        raise CommandError(f"{message or name.replace('_', ' ').capitalize()} ({name})")
