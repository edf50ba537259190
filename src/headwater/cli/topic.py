"""`headwater topic`: create, list, describe, alter, delete."""

from typing import Annotated, Any

import typer

from headwater.cli.completion import complete_topics
from headwater.cli.errors import CommandError, counted
from headwater.cli.options import (
    DEFAULT_BOOTSTRAP,
    Bootstrap,
    Client,
    Output,
    OutputOption,
    admin,
    not_empty,
    pair_of,
    show,
)
from headwater.client.admin import Admin
from headwater.client.descriptions import TopicDetails
from headwater.client.errors import TopicExistsError
from headwater.client.positions import Partition

app = typer.Typer(no_args_is_help=True)
Names = Annotated[list[str], typer.Argument(callback=not_empty, metavar="TOPIC...", autocompletion=complete_topics)]
New = Annotated[list[str], typer.Argument(callback=not_empty, metavar="TOPIC...")]
Configs = Annotated[list[str] | None, typer.Option("--config", "-c", help="A configuration, key=value.")]


def config_pairs(texts: list[str] | None) -> dict[str, str]:
    return dict(pair_of(text, "--config", "key=value") for text in texts or ())


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
    configs = config_pairs(config)
    kafka = admin(bootstrap, client)
    for name in names:
        try:
            kafka.create_topic(name, partitions or -1, replicas=replication or -1, configs=configs)
        except TopicExistsError:
            if not if_not_exists:
                raise
        else:
            print(f"Created {name}")


@app.command("list", help="List topics.")
def list_topics(
    internal: Annotated[bool, typer.Option("--internal", help="Also the broker's own.")] = False,
    output: OutputOption = Output.TABLE,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    client: Client = None,
) -> None:
    topics = sorted(admin(bootstrap, client).topics().values())
    rows = [{"topic": t.name, "partitions": t.partitions} for t in topics if internal or not t.is_internal]
    if output is Output.TABLE:
        for row in rows:
            print(row["topic"])
    else:
        show(rows, output)


@app.command(help="Show partitions, offsets and the configurations that are not defaults.")
def describe(
    names: Names,
    everything: Annotated[bool, typer.Option("--all-configs", help="Show defaults too.")] = False,
    output: OutputOption = Output.TABLE,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    client: Client = None,
) -> None:
    kafka = admin(bootstrap, client)
    results: list[dict[str, Any]] = []
    for name in names:
        topic = kafka.describe_topic(name)
        results.append(
            {
                "topic": name,
                "id": topic.id,
                "partitions": partition_rows(kafka, topic),
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


def partition_rows(kafka: Admin, topic: TopicDetails) -> list[dict[str, Any]]:
    starts, ends = kafka.start_offsets(topic.name), kafka.end_offsets(topic.name)
    rows = []
    for p in topic.partitions:
        start, end = starts[Partition(topic.name, p.partition)], ends[Partition(topic.name, p.partition)]
        rows.append(
            {
                "partition": p.partition,
                "leader": p.leader,
                "replicas": ",".join(map(str, p.replicas)),
                "first": start,
                "end": end,
                "records": end - start,
            }
        )
    return rows


def config_rows(kafka: Admin, name: str, everything: bool) -> list[dict[str, Any]]:
    return [
        {"config": key, "value": config.value, "source": "default" if config.is_default else "set"}
        for key, config in sorted(kafka.describe_configs(name).items())
        if everything or config.is_own
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
    configs: dict[str, str | None] = {**config_pairs(config), **dict.fromkeys(delete_config or ())}
    kafka = admin(bootstrap, client)
    if partitions:
        kafka.add_partitions(name, partitions)
        print(f"{name} has {counted(partitions, 'partition', 'partitions')}")
    if configs:
        kafka.set_configs(name, configs)
        print(f"Changed {name}")


@app.command(help="Delete topics with their records.")
def delete(names: Names, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, client: Client = None) -> None:
    kafka = admin(bootstrap, client)
    for name in names:
        kafka.delete_topic(name)
        print(f"Deleted {name}")
