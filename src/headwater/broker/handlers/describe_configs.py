"""DescribeConfigs, 1 to 4: every configuration of a topic or of this broker, with its source and synonyms.

Resources: topics (2), brokers (4), groups (32). Broker loggers (8) and client metrics (16) have nothing to describe.
"""

from collections.abc import Iterable

from headwater.broker import configs
from headwater.broker.authorization import config_refusal
from headwater.broker.configs import ConfigSource
from headwater.broker.core import BrokerCore
from headwater.broker.definitions import ConfigType, kafka_configs
from headwater.broker.dispatch import Request
from headwater.broker.dynamic_configs import broker_types, described_settings, dynamic_keys
from headwater.broker.settings import is_secret
from headwater.effects.work import Steps
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResponse
from headwater.security.acls import Operation

TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
Entry = DescribeConfigsResponse.DescribeConfigsResourceResult
Synonym = DescribeConfigsResponse.DescribeConfigsSynonym
Result = DescribeConfigsResponse.DescribeConfigsResult


def handle(core: BrokerCore, request: Request) -> Steps[DescribeConfigsResponse]:
    body: DescribeConfigsRequest = request.body
    response = DescribeConfigsResponse()
    resources = {(resource.resource_type, resource.resource_name): resource for resource in body.resources}
    for resource in resources.values():
        yield
        refused = config_refusal(core, request, Operation.DESCRIBE_CONFIGS, resource)
        if refused:
            response.results.append(Result(refused, None, resource.resource_type, resource.resource_name))
            continue
        result = describe(core, resource)
        if resource.configuration_keys is not None:
            keys = frozenset(resource.configuration_keys)
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
            if name not in ("", *map(str, core.cluster.node_ids)):
                message = f"Unexpected broker id, expected {core.settings.node_id}, but received {name}"
                return Result(ErrorCode.INVALID_REQUEST, message, kind, name)
            return Result(0, None, kind, name, list(broker_entries(core) if name else default_entries(core)))
        case 32:
            return Result(0, None, kind, name, list(group_entries(core, name)))
        case 8 | 16:
            return Result(0, None, kind, name)
        case _:
            return Result(ErrorCode.INVALID_REQUEST, f"Unsupported resource type: {kind}", kind, name)


def topic_entries(core: BrokerCore, own: dict[str, str]) -> Iterable[Entry]:
    for name in configs.topic_entries():
        value = configs.effective(name, own, core.config_layers)
        synonyms = [Synonym(*synonym) for synonym in value.synonyms]
        yield Entry(name, value.value, False, value.source, False, synonyms, value.type)


def broker_entries(core: BrokerCore) -> Iterable[Entry]:
    """What was set at run time, then what was given, then what has an effect here, then Kafka's default."""
    own = described_settings(core)
    known = {entry["name"]: entry for entry in kafka_configs()["broker"] if "since" not in entry}
    dynamic = dynamic_keys()
    for name in sorted({*known, *own, *(key for layer, _ in core.config_layers for key in layer)}):
        entry = known.get(name, {"type": ConfigType.STRING, "default": own.get(name), "sensitive": False})
        default = own.get(name, entry["default"])
        synonyms = [Synonym(name, layer[name], source) for layer, source in core.config_layers if name in layer]
        if default is not None or not synonyms:
            synonyms.append(Synonym(name, default, ConfigSource.DEFAULT))
        value, source = synonyms[0].value, synonyms[0].source
        is_sensitive = is_secret(name)
        if is_sensitive:
            value, synonyms = None, []
        yield Entry(name, value, name not in dynamic, source, is_sensitive, synonyms, entry["type"])


def default_entries(core: BrokerCore) -> Iterable[Entry]:
    """What was set at run time for all nodes."""
    types, source = broker_types(), ConfigSource.DYNAMIC_DEFAULT_BROKER
    for name, stored in core.metadata.broker_configs.get("", {}).items():
        is_sensitive, kind = is_secret(name), types.get(name, ConfigType.STRING)
        value, synonyms = (None, []) if is_sensitive else (stored, [Synonym(name, stored, source)])
        yield Entry(name, value, False, source, is_sensitive, synonyms, kind)


def group_entries(core: BrokerCore, group_id: str) -> Iterable[Entry]:
    own = core.metadata.group_configs.get(group_id, {})
    for entry in kafka_configs()["group"]:
        name = entry["name"]
        of_broker = f"group.{name}"  # the broker's configuration that gives the default, where there is one
        default_name = of_broker if of_broker in broker_types() else name
        synonyms = [Synonym(name, own[name], ConfigSource.GROUP)] if name in own else []
        synonyms += [Synonym(of_broker, layer[of_broker], s) for layer, s in core.config_layers if of_broker in layer]
        synonyms.append(Synonym(default_name, entry["default"], ConfigSource.DEFAULT))
        yield Entry(name, synonyms[0].value, False, synonyms[0].source, False, synonyms, entry["type"])
