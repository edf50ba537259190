"""Quotas for the connections of an address beside a real Apache Kafka. What Kafka's tool says, test_same_output.py compares."""

import contextlib

from headwater.protocol.apis import ApiKey
from headwater.protocol.messages.alter_client_quotas import AlterClientQuotasRequest
from headwater.protocol.messages.api_versions import ApiVersionsRequest
from tests.broker.wire import Wire

from .servers import HeadwaterServer

RATE = "connection_creation_rate"
TRIES_MAX = 1000


def is_served(address: str, stack: contextlib.ExitStack) -> bool:
    """Whether a new connection gets an answer; otherwise it is closed."""
    wire = stack.enter_context(Wire(address))
    try:
        wire.call(ApiKey.API_VERSIONS, 3, ApiVersionsRequest("quota", "1"))
    except ConnectionError:
        return False
    return True


def test_what_an_address_opens_too_fast_is_closed(kafka: str, headwater: HeadwaterServer) -> None:
    data = AlterClientQuotasRequest
    for address in (kafka, headwater.address):
        with contextlib.ExitStack() as stack:
            wire = stack.enter_context(Wire(address))

            def set_rate(rate: float, *, remove: bool = False, wire: Wire = wire) -> None:
                change = data([data.EntryData([data.EntityData("ip", "127.0.0.1")], [data.OpData(RATE, rate, remove)])])
                assert wire.call(ApiKey.ALTER_CLIENT_QUOTAS, 1, change).entries[0].error_code == 0

            set_rate(1)
            served = 0
            while is_served(address, stack):  # a Kafka applies the quota after a moment
                served += 1
                assert served < TRIES_MAX
            assert served >= 10
            assert [is_served(address, stack) for _ in range(3)] == [False] * 3
            set_rate(1, remove=True)
            assert any(is_served(address, stack) for _ in range(TRIES_MAX))
