"""Places for connections: limits, and who goes for whom."""

from dataclasses import dataclass

import pytest

from headwater.broker.configs.settings import Settings, SettingsError
from headwater.broker.connection_limits import ConnectionLimits, RefusedError


@dataclass(eq=False)
class Visitor:
    address: str = "10.0.0.1"
    listener_name: str = "PLAINTEXT"
    accepted_s: float = 0.0


def limits(descriptors: int = 1000, **pairs: str) -> ConnectionLimits[Visitor]:
    settings = Settings.from_pairs({key.replace("_", "."): value for key, value in pairs.items()})
    return ConnectionLimits(lambda: settings, descriptors)


def test_thousands_of_strangers_have_half_of_the_places_and_give_way_to_newcomers() -> None:
    places = limits(descriptors=100)
    strangers = [Visitor(accepted_s=n) for n in range(5000)]
    left = [places.admit(each) for each in strangers]
    assert len(places.places) == 50
    assert left[50:] == strangers[:4950]
    newcomer = Visitor(accepted_s=6000.0)
    assert places.admit(newcomer) is strangers[4950]


def test_strangers_do_not_shut_out_clients_that_have_shown_themselves() -> None:
    places = limits(descriptors=100)
    for n in range(1000):
        client = Visitor(accepted_s=n)
        places.admit(client)
        if n < 90:
            places.recognize(client)
    assert len(places.places) - len(places.strangers) == 90
    assert len(places.places) == 100


def test_a_stranger_of_this_moment_stays_and_the_newcomer_is_refused() -> None:
    places = limits(max_connections="2")
    first, second = Visitor(accepted_s=1.0), Visitor(accepted_s=1.0)
    places.admit(first)
    places.admit(second)
    with pytest.raises(RefusedError, match=r"max\.connections"):
        places.admit(Visitor(accepted_s=1.01))
    places.leave(first)
    assert places.admit(Visitor(accepted_s=1.01)) is None


def test_when_all_places_are_taken_by_clients_the_newcomer_is_refused() -> None:
    places = limits(max_connections="3")
    for _ in range(3):
        client = Visitor()
        places.admit(client)
        places.recognize(client)
    with pytest.raises(RefusedError, match="3 connections are open"):
        places.admit(Visitor(accepted_s=1000.0))


def test_a_client_that_can_be_spared_goes_before_a_newcomer_is_refused() -> None:
    settings = Settings.from_pairs({"max.connections": "2"})
    spare: list[Visitor] = []
    places: ConnectionLimits[Visitor] = ConnectionLimits(
        lambda: settings, 1000, lambda now_s: spare[0] if spare else None
    )
    clients = [Visitor(), Visitor()]
    for client in clients:
        places.admit(client)
        places.recognize(client)
    spare.append(clients[1])
    newcomer = Visitor(accepted_s=9.0)
    assert places.admit(newcomer) is clients[1]
    assert places.places == {clients[0], newcomer}


def test_the_limit_of_an_address_and_its_overrides() -> None:
    places = limits(max_connections_per_ip="2", max_connections_per_ip_overrides="10.0.0.9:0, ::1:3,[2001:db8::1]:1")
    for _ in range(2):
        places.admit(Visitor("10.0.0.1"))
    with pytest.raises(RefusedError, match=r"2 connections from 10\.0\.0\.1"):
        places.admit(Visitor("10.0.0.1", accepted_s=9.0))
    for _ in range(3):
        last = Visitor("::1")
        places.admit(last)
    with pytest.raises(RefusedError):
        places.admit(Visitor("::1"))
    with pytest.raises(RefusedError):
        places.admit(Visitor("10.0.0.9"))
    places.leave(last)
    places.leave(last)
    places.admit(Visitor("::1"))
    assert places.by_address == {"10.0.0.1": 2, "::1": 3}


@pytest.mark.parametrize("text", ["10.0.0.1", "10.0.0.1:x", "host:3", "10.0.0.1:-2", ":4"])
def test_overrides_that_cannot_be_read(text: str) -> None:
    with pytest.raises(SettingsError, match=r"max\.connections\.per\.ip\.overrides"):
        limits(max_connections_per_ip_overrides=text)


def test_a_listener_has_a_limit_of_its_own() -> None:
    settings = Settings.from_pairs({"listener.name.inside.max.connections": "1"})
    places: ConnectionLimits[Visitor] = ConnectionLimits(lambda: settings, 1000)
    old = Visitor(listener_name="INSIDE")
    places.admit(old)
    with pytest.raises(RefusedError, match=r"listener\.name\.inside\.max\.connections"):
        places.admit(Visitor(listener_name="INSIDE", accepted_s=0.01))
    assert places.admit(Visitor(listener_name="OUTSIDE", accepted_s=0.01)) is None
    assert places.admit(Visitor(listener_name="INSIDE", accepted_s=5.0)) is old


def test_limits_that_change_are_in_force_at_once() -> None:
    settings = [Settings.from_pairs({"max.connections": "1"})]
    places: ConnectionLimits[Visitor] = ConnectionLimits(lambda: settings[0], 1000)
    places.admit(Visitor())
    with pytest.raises(RefusedError):
        places.admit(Visitor())
    settings[0] = Settings.from_pairs({"max.connections": "2"})
    assert places.admit(Visitor()) is None
