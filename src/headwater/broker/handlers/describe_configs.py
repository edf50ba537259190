"""DescribeConfigs, 1 to 4: every configuration of a topic or of this broker, with its source and synonyms.

Resources: topics (2), brokers (4), groups (32: Kafka's defaults, none can be set yet). Broker loggers (8) and client
metrics (16) have nothing to describe.
"""

from collections.abc import Iterable

from headwater.broker import configs
from headwater.broker.configs import ConfigSource, ConfigType
from headwater.broker.core import BrokerCore
from headwater.broker.dispatch import Request
from headwater.broker.settings import kafka_configs
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResponse

TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
Entry = DescribeConfigsResponse.DescribeConfigsResourceResult
Synonym = DescribeConfigsResponse.DescribeConfigsSynonym
Result = DescribeConfigsResponse.DescribeConfigsResult


def handle(core: BrokerCore, request: Request) -> DescribeConfigsResponse:
    body: DescribeConfigsRequest = request.body
    response = DescribeConfigsResponse()
    for resource in body.resources:
        result = describe(core, resource)
        keys = resource.configuration_keys
        if keys is not None:
            result.configs = [entry for entry in result.configs if entry.name in keys]
        for entry in result.configs:
            if not body.include_synonyms:
                entry.synonyms = []
            entry.documentation = None
        response.results.append(result)
    return response


def describe(core: BrokerCore, resource: DescribeConfigsRequest.DescribeConfigsResource) -> Result:
    kind, name = resource.resource_type, resource.resource_name
    match kind:
        case 2:
            topic = core.metadata.topics.get(name)
            if topic is None:
                return Result(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, None, kind, name)
            return Result(0, None, kind, name, list(topic_entries(core, topic.configs)))
        case 4:
            if name not in ("", str(core.settings.node_id)):
                message = f"Unexpected broker id, expected {core.settings.node_id}, but received {name}"
                return Result(ErrorCode.INVALID_REQUEST, message, kind, name)
            return Result(0, None, kind, name, list(broker_entries(core)) if name else [])
        case 32:
            return Result(0, None, kind, name, list(group_entries()))
        case 8 | 16:
            return Result(0, None, kind, name)
        case _:
            return Result(ErrorCode.INVALID_REQUEST, f"Unsupported resource type: {kind}", kind, name)


def topic_entries(core: BrokerCore, own: dict[str, str]) -> Iterable[Entry]:
    for name in configs.topic_entries():
        value = configs.effective(name, own, core.settings.given)
        synonyms = [Synonym(*synonym) for synonym in value.synonyms]
        yield Entry(name, value.value, False, value.source, False, synonyms, value.type)


def broker_entries(core: BrokerCore) -> Iterable[Entry]:
    """What was given, then what has an effect here, then Kafka's default."""
    given, own = core.settings.given, core.settings.described()
    known = {entry["name"]: entry for entry in kafka_configs()["broker"]}
    for name in sorted({*known, *own, *given}):
        entry = known.get(name, {"type": ConfigType.STRING, "default": own.get(name), "sensitive": False})
        default = own.get(name, entry["default"])
        is_given = name in given
        value = given[name] if is_given else default
        source = ConfigSource.STATIC_BROKER if is_given else ConfigSource.DEFAULT
        synonyms = [Synonym(name, value, source)]
        if is_given and default is not None:
            synonyms.append(Synonym(name, default, ConfigSource.DEFAULT))
        is_sensitive = entry["sensitive"]
        if is_sensitive:
            value, synonyms = None, []
        yield Entry(name, value, True, source, is_sensitive, synonyms, entry["type"])


def group_entries() -> Iterable[Entry]:
    for entry in kafka_configs()["group"]:
        synonyms = [Synonym(entry["name"], entry["default"], ConfigSource.DEFAULT)]
        yield Entry(entry["name"], entry["default"], False, ConfigSource.DEFAULT, False, synonyms, entry["type"])
