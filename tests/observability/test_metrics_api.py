"""`/metrics` and `/healthz`: of a broker that answers, of one that is gone, and to whom."""

import socket

import pytest

from headwater.http.origins import Origins
from headwater.observability.counters import Counters, snapshot
from headwater.observability.metrics_api import application
from headwater.planes import broker_access
from headwater.planes.broker_access import BrokerAccess
from headwater.planes.counters_writer import CountersWriter
from tests.http.asgi import ask
from tests.planes.running import RunningBroker, running_broker


def count(broker: RunningBroker) -> None:
    broker.call(lambda core: CountersWriter(core, lambda: snapshot(core, Counters(core.occurrences))).start())


async def test_a_broker_that_answers() -> None:
    with running_broker({"super.users": "User:admin"}) as broker:
        access = BrokerAccess(broker.handover, Origins())
        api = application(access)
        before = await ask(api, "GET", "/metrics")
        assert before.body.endswith(b"headwater_up 1.0\n")  # nothing has been written yet
        count(broker)
        while (metrics := await ask(api, "GET", "/metrics")).body == before.body:
            assert metrics.status == 200
        assert b"\nheadwater_topics 1.0\n" in metrics.body
        assert metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        healthz = await ask(api, "GET", "/healthz")
        assert (healthz.status, healthz.body) == (200, b"ok\n")
        access.close()


async def test_a_broker_that_is_gone_and_comes_back() -> None:
    with running_broker({}) as broker:
        access = BrokerAccess(broker.handover, Origins())
        api = application(access)
        assert (await ask(api, "GET", "/healthz")).status == 200
    metrics = await ask(api, "GET", "/metrics")
    assert (metrics.status, metrics.body.splitlines()[2:]) == (200, [b"headwater_up 0.0"])
    healthz = await ask(api, "GET", "/healthz")
    assert healthz.status == 503
    assert healthz.json["message"].startswith("The broker does not answer: no answer from the broker at 127.0.0.1:")
    access.close()


async def test_a_broker_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_access, "TIMEOUT_MS", 50.0)
    with socket.create_server(("127.0.0.1", 0)) as silent, running_broker({}) as broker:
        handover = broker.handover._replace(port=silent.getsockname()[1])
        access = BrokerAccess(handover, Origins())
        assert (await ask(application(access), "GET", "/healthz")).status == 503
        access.close()


async def test_a_secret_of_another_start_is_refused() -> None:
    with running_broker({}) as broker:
        access = BrokerAccess(broker.handover._replace(secret="0" * 64), Origins())
        answer = await ask(application(access), "GET", "/healthz")
        assert answer.status == 503
        assert "0" * 64 not in answer.body.decode()
        access.close()


async def test_the_broker_tells_which_passwords_are_right() -> None:
    with running_broker({"super.users": "User:admin"}) as broker:
        access = BrokerAccess(broker.handover, Origins())
        account = broker.account
        assert await access.may_log_in(account.user, account.secret)
        assert not await access.may_log_in(account.user, "wrong")
        assert not await access.may_log_in("nobody", account.secret)
        access.close()


async def test_pages_of_other_names_are_refused() -> None:
    with running_broker({}) as broker:
        access = BrokerAccess(broker.handover, Origins(("broker.example.org",)))
        api = application(access)
        assert (await ask(api, "GET", "/metrics", headers={"host": "broker.example.org:9464"})).status == 200
        assert (await ask(api, "GET", "/metrics", headers={"host": "evil.example"})).status == 421
        access.close()
