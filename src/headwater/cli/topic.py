"""`headwater topic`: create, list, describe, alter, delete."""

from typing import Annotated, Any

import typer
from confluent_kafka import TopicCollection
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from headwater.cli.completion import complete_topics
from headwater.cli.config import is_own
from headwater.cli.errors import CommandError, counted
from headwater.cli.options import (
    DEFAULT_BOOTSTRAP,
    TIMEOUT_S,
    Administrator,
    Bootstrap,
    Client,
    Output,
    OutputOption,
    admin,
    not_empty,
    show,
)

app = typer.Typer(no_args_is_help=True)
Names = Annotated[list[str], typer.Argument(callback=not_empty, metavar="TOPIC...", autocompletion=complete_topics)]
New = Annotated[list[str], typer.Argument(callback=not_empty, metavar="TOPIC...")]
Configs = Annotated[list[str] | None, typer.Option("--config", "-c", help="A configuration, key=value.")]


def config_pairs(texts: list[str] | None) -> dict[str, str]:
    pairs = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise CommandError(f"--config {text!r} is not of the form key=value")
        pairs[key] = value
    return pairs


@app.command(help="Create topics.")
def create(
    names: New,
    partitions: Annotated[int | None, typer.Option("--partitions", "-p", min=1, help="Default: the broker's.")] = None,
    replication: Annotated[
        int | None, typer.Option("--replication-factor", "-r", min=1, help="Default: the broker's.")
    ] = None,
    config: Configs = None,
    if_not_exists: Annotated[
        bool, typer.Option("--if-not-exists", help="Succeed if the topic already exists.")
    ] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    client: Client = None,
) -> None:
    wanted = [NewTopic(name, partitions or -1, replication or -1, config=config_pairs(config)) for name in names]
    kafka = admin(bootstrap, client)
    for name, future in kafka.create_topics(wanted, operation_timeout=TIMEOUT_S).items():
        try:
            kafka.wait(future, name)
        except CommandError as error:
            if if_not_exists and "TOPIC_ALREADY_EXISTS" in str(error):
                continue
            raise
        print(f"Created {name}")


@app.command("list", help="List topics.")
def list_topics(
    internal: Annotated[bool, typer.Option("--internal", help="Also the broker's own.")] = False,
    output: OutputOption = Output.TABLE,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    client: Client = None,
) -> None:
    kafka = admin(bootstrap, client)
    topics = kafka.metadata().topics
    names = sorted(name for name in topics if internal or not name.startswith("__"))
    if output is Output.TABLE:
        for name in names:
            print(name)
    else:
        show([{"topic": name, "partitions": len(topics[name].partitions)} for name in names], output)


@app.command(help="Show partitions, offsets and the configurations that are not defaults.")
def describe(
    names: Names,
    everything: Annotated[bool, typer.Option("--all-configs", help="Show defaults too.")] = False,
    output: OutputOption = Output.TABLE,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    client: Client = None,
) -> None:
    kafka = admin(bootstrap, client)
    described = kafka.describe_topics(TopicCollection(names))
    results: list[dict[str, Any]] = []
    for name in names:
        topic = kafka.wait(described[name], f"topic {name}")
        results.append(
            {
                "topic": name,
                "id": str(topic.topic_id),
                "partitions": partition_rows(kafka, name, topic.partitions),
                "configs": config_rows(kafka, name, everything),
            }
        )
    if output is Output.JSON:
        show(results, output)
        return
    for result in results:
        partitions = counted(len(result["partitions"]), "partition", "partitions")
        print(f"{result['topic']}  id {result['id']}  {partitions}")
        show(result["partitions"], output)
        show(result["configs"], output)


def partition_rows(kafka: Administrator, name: str, partitions: Any) -> list[dict[str, Any]]:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import OffsetSpec

    keys = [TopicPartition(name, p.id) for p in partitions]
    first = kafka.list_offsets(dict.fromkeys(keys, OffsetSpec.earliest()))
    last = kafka.list_offsets(dict.fromkeys(keys, OffsetSpec.latest()))
    rows = []
    for p, key in zip(partitions, keys, strict=True):
        start, end = kafka.wait(first[key]).offset, kafka.wait(last[key]).offset
        rows.append(
            {
                "partition": p.id,
                "leader": p.leader.id if p.leader else None,
                "replicas": ",".join(str(node.id) for node in p.replicas),
                "first": start,
                "end": end,
                "records": end - start,
            }
        )
    return rows


def config_rows(kafka: Administrator, name: str, everything: bool) -> list[dict[str, Any]]:
    resource = ConfigResource(ResourceType.TOPIC, name)
    entries = kafka.wait(next(iter(kafka.describe_configs([resource]).values())))
    return [
        {
            "config": key,
            "value": entry.value,
            "source": "default" if entry.source == ConfigSource.DEFAULT_CONFIG.value else "set",
        }
        for key, entry in sorted(entries.items())
        if everything or is_own(resource, entry)
    ]


@app.command(help="Change configurations, or add partitions.")
def alter(
    name: Annotated[str, typer.Argument(callback=not_empty, metavar="TOPIC", autocompletion=complete_topics)],
    config: Configs = None,
    delete_config: Annotated[list[str] | None, typer.Option("--delete-config", help="Reset to the default.")] = None,
    partitions: Annotated[
        int | None, typer.Option("--partitions", "-p", min=1, help="The new number of partitions.")
    ] = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    client: Client = None,
) -> None:
    if not config and not delete_config and not partitions:
        raise CommandError("nothing to change: give --config, --delete-config or --partitions")
    kafka = admin(bootstrap, client)
    if partitions:
        kafka.wait(kafka.create_partitions([NewPartitions(name, partitions)])[name], f"topic {name}")
        print(f"{name} has {counted(partitions, 'partition', 'partitions')}")
    entries = [
        ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        for key, value in config_pairs(config).items()
    ]
    entries += [ConfigEntry(key, None, incremental_operation=AlterConfigOpType.DELETE) for key in delete_config or ()]
    if entries:
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
        kafka.wait(next(iter(kafka.incremental_alter_configs([resource]).values())), f"topic {name}")
        print(f"Changed {name}")


@app.command(help="Delete topics with their records.")
def delete(names: Names, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, client: Client = None) -> None:
    kafka = admin(bootstrap, client)
    for name, future in kafka.delete_topics(names, operation_timeout=TIMEOUT_S).items():
        kafka.wait(future, f"topic {name}")
        print(f"Deleted {name}")
