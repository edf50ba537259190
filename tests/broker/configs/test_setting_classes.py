"""Every configuration of Kafka is honoured, without effect or refused."""

import re
from pathlib import Path

import pytest

import headwater as hw
from headwater.broker.configs.catalog import definitions, topic_entries, units_of
from headwater.broker.configs.setting_classes import REFUSED, WITHOUT_EFFECT, classes_of, config_classes_of
from headwater.broker.configs.settings import own_defaults

OWN = frozenset(own_defaults())


@pytest.mark.parametrize("name", sorted(definitions("broker")))
def test_every_setting_of_kafka_is_in_one_class(name: str) -> None:
    assert len(classes_of(name, OWN)) == 1


@pytest.mark.parametrize(("scope", "name"), [(s, n) for s in ("topic", "group") for n in sorted(definitions(s))])
def test_every_configuration_of_topics_and_groups_is_in_one_class(scope: str, name: str) -> None:
    assert len(config_classes_of(scope, name)) == 1


def test_the_classes_name_only_what_kafka_has() -> None:
    tables = [*(keys for keys in WITHOUT_EFFECT.values()), *(refusal.keys for refusal in REFUSED)]
    for key in (key for keys in tables for key in keys):
        assert any(name == key or (key.endswith(".") and name.startswith(key)) for name in definitions("broker")), key


def test_what_is_honoured_is_read_somewhere() -> None:
    """A field that nothing reads would be a setting that is accepted and ignored."""
    package = Path(hw.__file__).parent
    own = {"settings.py", "setting_classes.py", "contradictions.py"}
    text = "\n".join(path.read_text() for path in package.rglob("*.py") if path.name not in own)
    topics = {key for name in topic_entries() for key, _ in units_of(name)}
    unread = [
        name
        for name in own_defaults()
        if not re.search(rf"\b{name.replace('.', '_')}\b", text) and f'"{name}"' not in text and name not in topics
    ]
    assert unread == ["sasl.enabled.mechanisms"]  # read by Settings.sasl_mechanisms
    log_config = (package / "storage" / "config.py").read_text()
    storage = "\n".join(p.read_text() for p in package.rglob("*.py") if p.name != "topic_configs.py")
    fields = re.findall(r"^    (\w+):", log_config, re.MULTILINE)
    assert [name for name in fields if not re.search(rf"\.{name}\b", storage)] == []
