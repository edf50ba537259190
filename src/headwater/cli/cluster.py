"""`headwater cluster`: the nodes and the features of a cluster.

The nodes, the controller and the id come from DescribeCluster. The features (KIP-584) come from ApiVersions, for which
librdkafka has no call. A broker does not say which release it is. Like Kafka's own `kafka-features`, this command names the
release of the `metadata.version` in force: no broker of the cluster can be older.
"""

from typing import Any

from headwater.cli.connection import NO_OPTIONS, Connection
from headwater.cli.options import Output, OutputOption, show

METADATA_VERSION = "metadata.version"
# The first level of each release (Kafka's MetadataVersion.java).
RELEASES = {
    7: "3.3",
    8: "3.4",
    9: "3.5",
    12: "3.6",
    15: "3.7",
    20: "3.8",
    21: "3.9",
    22: "4.0",
    26: "4.1",
    28: "4.2",
    30: "4.3",
}


def release_of(level: int | None) -> str | None:
    """The release of a level of metadata.version; None if the level is not known, since it may be newer."""
    if level is None or not min(RELEASES) <= level <= max(RELEASES):
        return None
    return RELEASES[max(first for first in RELEASES if first <= level)]


def features(connection: Connection) -> list[dict[str, Any]]:
    """Each feature with its supported levels and the one in force. Raises CommandError."""
    from headwater.cli.wire import check, wire_of
    from headwater.protocol.messages.api_versions import ApiVersionsRequest

    with wire_of(connection) as wire:
        answer = wire.ask(ApiVersionsRequest("headwater", "1"))
    check(answer.error_code, "asking for features")
    levels = {found.name: found.max_version_level for found in answer.finalized_features}
    return [
        {"feature": f.name, "lowest": f.min_version, "highest": f.max_version, "level": levels.get(f.name, 0)}
        for f in sorted(answer.supported_features, key=lambda f: str(f.name))
    ]


def cluster(output: OutputOption = Output.TABLE, connection: Connection = NO_OPTIONS) -> None:
    """The command."""
    found = connection.admin().cluster()
    supported = features(connection)
    level = next((row["level"] for row in supported if row["feature"] == METADATA_VERSION), None)
    nodes = [
        {
            "node": node.id,
            "host": node.host,
            "port": node.port,
            "rack": node.rack,
            "controller": node.id == found.controller,
        }
        for node in sorted(found.nodes.values())
    ]
    version = release_of(level)
    if output is Output.JSON:
        result = {
            "id": found.id,
            "controller": found.controller,
            "version": version,
            "nodes": nodes,
            "features": supported,
        }
        show([result], output)
        return
    print(f"{found.id}  Kafka {version or '(unknown version)'}")
    show(nodes, output)
    show(supported, output)
