"""DescribeConfigs, 1 to 4: every configuration of a topic, broker or group, with its source, synonyms and documentation.

Resources: topics (2), brokers (4), loggers of brokers (8), groups (32). Client metrics (16) have no configurations here.
"""

from collections.abc import Iterable
from typing import TypeAlias

from headwater.broker.authorization import config_refusal
from headwater.broker.configs import catalog, loggers, topic_configs
from headwater.broker.configs.catalog import ConfigType, shorten
from headwater.broker.configs.dynamic import (
    NODE_ID,
    ConfigSource,
    broker_synonyms,
    broker_types,
    described_settings,
    dynamic_keys,
    is_custom,
)
from headwater.broker.configs.settings import is_secret
from headwater.broker.connection import Request
from headwater.broker.metadata import check_topic_name
from headwater.broker.parts import ConfigParts
from headwater.effects.work import Steps
from headwater.protocol.config_resources import ConfigResourceType
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.errors import ApiError
from headwater.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResponse
from headwater.security.acls import Operation

Entry = DescribeConfigsResponse.DescribeConfigsResourceResult
Synonym = DescribeConfigsResponse.DescribeConfigsSynonym
Result = DescribeConfigsResponse.DescribeConfigsResult
# By a topic's own configurations. Most topics of a request have the same ones, and so share their entries.
SharedEntries: TypeAlias = dict[tuple[tuple[str, str], ...], list[Entry]]


def handle(broker: ConfigParts, request: Request) -> Steps[DescribeConfigsResponse]:
    body: DescribeConfigsRequest = request.body
    response = DescribeConfigsResponse()
    shared: SharedEntries = {}
    resources = {(resource.resource_type, resource.resource_name): resource for resource in body.resources}
    for resource in resources.values():
        yield
        refused = config_refusal(broker, request, Operation.DESCRIBE_CONFIGS, resource)
        if refused:
            response.results.append(Result(refused, None, resource.resource_type, resource.resource_name))
            continue
        result = describe(broker, resource, shared)
        no_text = "" if resource.resource_type == ConfigResourceType.BROKER_LOGGER else None  # as Kafka has it
        texts = catalog.documentation(resource.resource_type) if body.include_documentation else {}
        if resource.configuration_keys is not None:
            keys = frozenset(resource.configuration_keys)
            result.configs = [entry for entry in result.configs if entry.name in keys]
        for entry in result.configs:
            if not body.include_synonyms:
                entry.synonyms = []
            entry.documentation = texts.get(entry.name, no_text)
        response.results.append(result)
    return response


def describe(
    broker: ConfigParts, resource: DescribeConfigsRequest.DescribeConfigsResource, shared: SharedEntries
) -> Result:
    kind, name = resource.resource_type, resource.resource_name
    match kind:
        case ConfigResourceType.TOPIC:
            try:
                check_topic_name(name)
            except ApiError as error:
                return Result(error.code, error.message, kind, name)
            topic = broker.metadata.topics.get(name)
            if topic is None:
                return Result(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, None, kind, name)
            own = tuple(sorted(topic.configs.items()))
            if own not in shared:
                shared[own] = list(topic_entries(broker, topic.configs))
            return Result(0, "", kind, name, shared[own])
        case ConfigResourceType.BROKER:
            message = node_problem(broker, name, " or empty string,") if name else None
            if message is not None:
                return Result(ErrorCode.INVALID_REQUEST, message, kind, name)
            return Result(0, "", kind, name, list(broker_entries(broker) if name else default_entries(broker)))
        case ConfigResourceType.BROKER_LOGGER:
            message = node_problem(broker, name, "")
            if message is not None:
                return Result(ErrorCode.INVALID_REQUEST, message, kind, name)
            return Result(0, "", kind, name, list(logger_entries()))
        case ConfigResourceType.CLIENT_METRICS | ConfigResourceType.GROUP if not name:
            what = "Group name" if kind == ConfigResourceType.GROUP else "Client metrics subscription name"
            return Result(ErrorCode.INVALID_REQUEST, f"{what} must not be empty", kind, name)
        case ConfigResourceType.GROUP:
            return Result(0, "", kind, name, list(group_entries(broker, name)))
        case ConfigResourceType.CLIENT_METRICS:
            return Result(0, "", kind, name)
        case _:
            return Result(ErrorCode.INVALID_REQUEST, f"Unsupported resource type: {kind}", kind, name)


def node_problem(broker: ConfigParts, name: str, otherwise: str) -> str | None:
    """Why a resource is not one of this broker's nodes; None if it is."""
    node_ids = [str(node_id) for node_id in broker.cluster.node_ids]
    if not NODE_ID.fullmatch(name):
        return f"Broker id must be an integer, but it is: {shorten(name)}"
    if name not in node_ids:
        return f"Unexpected broker id, expected {' or '.join(node_ids)}{otherwise} but received {name}"
    return None


def topic_entries(broker: ConfigParts, own: dict[str, str]) -> Iterable[Entry]:
    for name in catalog.topic_entries():
        value = topic_configs.effective(name, own, broker.dynamic_configs.layers)
        synonyms = [Synonym(*synonym) for synonym in value.synonyms]
        yield Entry(name, value.value, False, value.source, False, synonyms, value.type)


def broker_entries(broker: ConfigParts) -> Iterable[Entry]:
    """Each entry has the value set at run time, or else the given one, or else the one in effect here, or else Kafka's default."""
    own = described_settings()
    known = {entry["name"]: entry["type"] for entry in catalog.kafka_configs()["broker"] if not entry.get("internal")}
    dynamic = dynamic_keys()
    for name in sorted({*known, *own, *(key for layer, _ in broker.dynamic_configs.layers for key in layer)}):
        type_ = known.get(name, ConfigType.UNKNOWN if is_custom(name) else ConfigType.STRING)
        found = broker_synonyms(name, catalog.broker_family(name), broker.dynamic_configs.layers, own)
        value, source = (found[0][1], found[0][2]) if found else (None, ConfigSource.DEFAULT)
        is_sensitive = is_hidden(name)
        synonyms = [Synonym(key, None if is_sensitive else text, where) for key, text, where in found]
        yield Entry(name, None if is_sensitive else value, name not in dynamic, source, is_sensitive, synonyms, type_)


def is_hidden(name: str) -> bool:
    """Whether a value must not be shown: it is a secret, or its key is unknown and so it may be one."""
    return is_secret(name) or is_custom(name)


def default_entries(broker: ConfigParts) -> Iterable[Entry]:
    """The values that were set at run time for all nodes."""
    types, dynamic, source = broker_types(), dynamic_keys(), ConfigSource.DYNAMIC_DEFAULT_BROKER
    for name, value in broker.dynamic_configs.defaults_of_all_nodes().items():
        is_sensitive = is_hidden(name)
        shown_value = None if is_sensitive else value
        synonyms = [Synonym(name, shown_value, source)]
        type_ = types.get(name, ConfigType.UNKNOWN)
        yield Entry(name, shown_value, name not in dynamic, source, is_sensitive, synonyms, type_)


def logger_entries() -> Iterable[Entry]:
    source, type_ = ConfigSource.DYNAMIC_BROKER_LOGGER, ConfigType.UNKNOWN
    return (Entry(name, level, False, source, False, [], type_) for name, level in loggers.levels().items())


def group_entries(broker: ConfigParts, group_id: str) -> Iterable[Entry]:
    own = broker.metadata.group_configs.get(group_id, {})
    for entry in catalog.kafka_configs()["group"]:
        name = entry["name"]
        (of_broker,) = entry["synonyms"]  # the broker's configuration that is the default, or the group's own
        synonyms = [Synonym(name, own[name], ConfigSource.GROUP)] if name in own else []
        synonyms += [
            Synonym(of_broker, layer[of_broker], s) for layer, s in broker.dynamic_configs.layers if of_broker in layer
        ]
        synonyms.append(Synonym(of_broker, entry["default"], ConfigSource.DEFAULT))
        yield Entry(name, synonyms[0].value, False, synonyms[0].source, False, synonyms, entry["type"])
