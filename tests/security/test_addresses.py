"""Addresses are compared in one form."""

import pytest

from headwater.security.addresses import normalized


@pytest.mark.parametrize(
    ("address", "canonical"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_an_address_has_one_form(address: str, canonical: str) -> None:
    assert normalized(address) == canonical


@pytest.mark.parametrize("address", ["", "localhost", "10.0.0", "10.0.0.256"])
def test_what_is_not_an_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        normalized(address)
