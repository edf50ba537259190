"""`headwater topic`: create, list, describe, alter, delete."""

from typing import TYPE_CHECKING, Annotated, Any

from headwater.cli.command import Commands
from headwater.cli.completion import complete_topics
from headwater.cli.connection import NO_OPTIONS, Connection
from headwater.cli.errors import CommandError, quantity
from headwater.cli.markers import Argument, Option
from headwater.cli.options import Output, OutputOption, pair_of, show

if TYPE_CHECKING:
    from headwater.client.admin import Admin
    from headwater.client.descriptions import TopicDetails

app = Commands()
Names = Annotated[list[str], Argument("TOPIC...", complete=complete_topics)]
New = Annotated[list[str], Argument("TOPIC...")]
Configs = Annotated[list[str] | None, Option("--config", "-c", help="A configuration, KEY=VALUE.")]


def config_pairs(texts: list[str] | None) -> dict[str, str]:
    return dict(pair_of(text, "--config", "key=value") for text in texts or ())


@app.command(help="Create topics.")
def create(
    names: New,
    partitions: Annotated[int | None, Option("--partitions", "-p", min=1, help="Default: the broker's.")] = None,
    replication: Annotated[
        int | None, Option("--replication-factor", "-r", min=1, help="Default: the broker's.")
    ] = None,
    config: Configs = None,
    if_not_exists: Annotated[bool, Option("--if-not-exists", help="Succeed if the topic already exists.")] = False,
    connection: Connection = NO_OPTIONS,
) -> None:
    from headwater.client.errors import TopicExistsError

    configs = config_pairs(config)
    kafka = connection.admin()
    for name in names:
        try:
            kafka.create_topic(name, partitions or -1, replicas=replication or -1, configs=configs)
        except TopicExistsError:
            if not if_not_exists:
                raise
        else:
            print(f"Created {name}")


@app.command("list", help="List topics and their numbers of partitions.")
def list_topics(
    internal: Annotated[bool, Option("--internal", help="Include the broker's internal topics.")] = False,
    output: OutputOption = Output.TABLE,
    connection: Connection = NO_OPTIONS,
) -> None:
    topics = sorted(connection.admin().topics().values())
    rows = [{"topic": t.name, "partitions": t.partitions} for t in topics if internal or not t.is_internal]
    show(rows, output)


@app.command(help="Show partitions, offsets, and configurations that differ from the defaults.")
def describe(
    names: Names,
    everything: Annotated[bool, Option("--all-configs", help="Show defaults too.")] = False,
    output: OutputOption = Output.TABLE,
    connection: Connection = NO_OPTIONS,
) -> None:
    kafka = connection.admin()
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
        partitions = quantity(len(result["partitions"]), "partition", "partitions")
        print(f"{result['topic']}  id {result['id']}  {partitions}")
        show(result["partitions"], output)
        show(result["configs"], output)


def partition_rows(kafka: "Admin", topic: "TopicDetails") -> list[dict[str, Any]]:
    from headwater.client.positions import Partition

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


def config_rows(kafka: "Admin", name: str, everything: bool) -> list[dict[str, Any]]:
    return [
        {"config": key, "value": config.value, "source": "default" if config.is_default else "set"}
        for key, config in sorted(kafka.describe_configs(name).items())
        if everything or config.is_own
    ]


@app.command(help="Change configurations, or add partitions.")
def alter(
    name: Annotated[str, Argument("TOPIC", complete=complete_topics)],
    config: Configs = None,
    delete_config: Annotated[
        list[str] | None, Option("--delete-config", help="A configuration to reset to its default.")
    ] = None,
    partitions: Annotated[int | None, Option("--partitions", "-p", min=1, help="The new number of partitions.")] = None,
    connection: Connection = NO_OPTIONS,
) -> None:
    if not config and not delete_config and not partitions:
        raise CommandError("nothing to change: give --config, --delete-config or --partitions")
    configs: dict[str, str | None] = {**config_pairs(config), **dict.fromkeys(delete_config or ())}
    kafka = connection.admin()
    if partitions:
        kafka.add_partitions(name, partitions)
        print(f"{name} has {quantity(partitions, 'partition', 'partitions')}")
    if configs:
        kafka.set_configs(name, configs)
        print(f"Changed {name}")


@app.command(help="Delete topics and their records.")
def delete(names: Names, connection: Connection = NO_OPTIONS) -> None:
    kafka = connection.admin()
    for name in names:
        kafka.delete_topic(name)
        print(f"Deleted {name}")
