"""Updates `src/headwater/broker/configs/data/configs.json`, and its documentation, from a running Apache Kafka.

Start a fresh Kafka with default settings (`tests/interop/kafka/kafka.sh start PORT DIRECTORY`, which runs the published
jars), then run `python codegen/read_configs.py 127.0.0.1:PORT`. Names, types, defaults, synonyms and texts come from Kafka's
own classes (LogConfig, KafkaConfig, GroupConfig), as DescribeConfigs answers them. That answer has no ranges or allowed
values: those in the file are kept. Keys of the broker that Kafka does not describe are marked as internal.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from headwater.protocol.apis import ApiKey  # noqa: E402
from headwater.protocol.messages.describe_configs import DescribeConfigsRequest  # noqa: E402
from tests.broker.wire import Wire  # noqa: E402

DATA = ROOT / "src" / "headwater" / "broker" / "configs" / "data"
SOURCE = (
    "Apache Kafka 4.4.0 (Apache License 2.0): as its DescribeConfigs tells it; ranges, allowed values and internal keys "
    "from its ConfigDefs"
)
TOPIC, BROKER, GROUP = 2, 4, 32
DEFAULT_SOURCE = 5


def described(wire: Wire, kind: int, name: str) -> list[Any]:
    """A resource's configurations by name, with synonyms and documentation."""
    resource = DescribeConfigsRequest.DescribeConfigsResource(kind, name, None)
    result = wire.call(ApiKey.DESCRIBE_CONFIGS, 4, DescribeConfigsRequest([resource], True, True)).results[0]
    assert result.error_code == 0, result.error_message
    return sorted(result.configs, key=lambda config: str(config.name))


def default(config: Any, otherwise: str | None) -> str | None:
    """Kafka's own default, which a setting of the asked broker may have overridden."""
    return next((s.value for s in config.synonyms if s.source == DEFAULT_SOURCE), otherwise)


def entry_with_synonyms(config: Any) -> dict[str, Any]:
    synonyms = [s.name for s in config.synonyms if s.source == DEFAULT_SOURCE]
    value = default(config, config.value)
    return {"name": config.name, "type": config.config_type, "default": value, "synonyms": synonyms}


def broker_entry(config: Any) -> dict[str, Any]:
    return {
        "name": config.name,
        "type": config.config_type,
        "default": default(config, None),
        "dynamic": not config.read_only,
        "sensitive": config.is_sensitive,
    }


def merged(known: list[dict[str, Any]], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The configurations that Kafka described, completed with what the file knows of each; all others are internal."""
    names = {entry["name"] for entry in found}
    before = {entry["name"]: entry for entry in known}
    entries = [before.get(entry["name"], {}) | entry for entry in found]
    for entry in entries:
        entry.pop("internal", None)
    entries += [entry | {"internal": True} for entry in known if entry["name"] not in names]
    return sorted(entries, key=lambda entry: str(entry["name"]))


def lines(entries: list[str]) -> str:
    return ",\n".join("  " + entry for entry in entries)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    with Wire(parser.parse_args().address) as wire:
        wire.create_topic("described")
        answers = {
            "topic": (described(wire, TOPIC, "described"), entry_with_synonyms),
            "broker": (described(wire, BROKER, "1"), broker_entry),
            "group": (described(wire, GROUP, "described"), entry_with_synonyms),
        }
    known = json.loads((DATA / "configs.json").read_text())
    tables, texts = [f' "source": {json.dumps(SOURCE)}'], [f' "source": {json.dumps(SOURCE)}']
    for kind, (configs, entry_of) in answers.items():
        entries = merged(known[kind], [entry_of(config) for config in configs])
        tables.append(f' "{kind}": [\n{lines([json.dumps(entry) for entry in entries])}\n ]')
        documented = [f"{json.dumps(c.name)}: {json.dumps(c.documentation)}" for c in configs]
        texts.append(f' "{kind}": {{\n{lines(documented)}\n }}')
    (DATA / "configs.json").write_text("{\n" + ",\n".join(tables) + "\n}\n")
    (DATA / "config_docs.json").write_text("{\n" + ",\n".join(texts) + "\n}\n")


if __name__ == "__main__":
    main()
