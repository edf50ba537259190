"""Names of certificates as principals."""

import pytest

from headwater.security.tls import TlsError, certificate_principal, distinguished_name, mapping_rules

SUBJECT = ((("countryName", "DE"),), (("organizationName", "Wave, Inc"),), (("commonName", "client"),))


def test_subjects_are_written_as_rfc_2253_has_them() -> None:
    assert distinguished_name(SUBJECT) == r"CN=client,O=Wave\, Inc,C=DE"
    assert certificate_principal({"subject": SUBJECT}, mapping_rules("DEFAULT")).startswith("User:CN=client,")
    assert certificate_principal(None, mapping_rules("DEFAULT")) == "User:ANONYMOUS"


@pytest.mark.parametrize(
    ("rules", "name"),
    [
        ("DEFAULT", "CN=Duke,OU=Users,O=Org"),
        ("RULE:^CN=(.*?),OU=Users.*$/$1/L,DEFAULT", "duke"),
        ("RULE:^CN=(.*?),OU=Users.*$/$1/U", "DUKE"),
        ("RULE:^CN=(.*?),OU=(.*?),.*$/$1@$2/", "Duke@Users"),
        ("RULE:^UID=(.*)$/$1/, DEFAULT", "CN=Duke,OU=Users,O=Org"),
    ],
)
def test_rules_map_names(rules: str, name: str) -> None:
    assert mapping_rules(rules)("CN=Duke,OU=Users,O=Org") == name


@pytest.mark.parametrize("rules", ["nonsense", "RULE:(/x/", "RULE:a/b", "RULE:a/b/Q"])
def test_what_is_not_a_rule_is_refused(rules: str) -> None:
    with pytest.raises(TlsError):
        mapping_rules(rules)
