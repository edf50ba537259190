"""JoinGroup: what it logs."""

import logging

import pytest

from headwater.protocol.apis import ApiKey
from headwater.protocol.messages.join_group import JoinGroupRequest
from tests.broker.harness import Harness


def test_a_group_that_is_named_like_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    broker = Harness()
    protocol = JoinGroupRequest.JoinGroupRequestProtocol("range", b"")
    name = "g\n2026-01-01 00:00:00,000 CRITICAL headwater.broker.core: forged"
    with caplog.at_level(logging.INFO):
        request = JoinGroupRequest(name, 6000, 6000, "", None, "consumer", [protocol])
        joined = broker.send(ApiKey.JOIN_GROUP, 3, request)
        broker.advance(100)
        assert joined.message.error_code == 0
        broker.advance(10_000)  # the member's session is over
    assert any("forged" in record.getMessage() for record in caplog.records)
    assert all("\n" not in record.getMessage() for record in caplog.records)
