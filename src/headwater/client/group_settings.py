"""The settings of librdkafka that make a consumer a member of its group, and what callers can choose."""

from typing import Any, Literal, get_args

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END

from headwater.client.connections import BrokerLike, Notes, Settings, merge_settings
from headwater.client.errors import ConfigurationError

Start = Literal["earliest", "latest"]
Commit = Literal["auto", "manual"]
Protocol = Literal["classic", "consumer"]
BATCH_MAX_MAX = 1_000_000  # librdkafka's
KEEP_ALIVE_SHARE = 0.4  # of max.poll.interval.ms
STARTS = {  # by every name that librdkafka knows
    **dict.fromkeys(("earliest", "beginning", "smallest"), OFFSET_BEGINNING),
    **dict.fromkeys(("latest", "end", "largest"), OFFSET_END),
}
DEFAULTS: dict[str, Any] = {
    "client.id": "headwater",
    "enable.auto.offset.store": False,
    "allow.auto.create.topics": True,
    # A topic that is created after its consumer is found soon.
    "topic.metadata.refresh.interval.ms": 30_000,
    "max.poll.interval.ms": 300_000,
}


def checked_choice(name: str, value: object, choices: Any) -> None:
    """Raises ConfigurationError, which lists the choices, for any other value."""
    if value not in get_args(choices):
        known = " or ".join(map(repr, get_args(choices)))
        raise ConfigurationError(f"{name} is {known}, not {value!r}")


class GroupSettings:
    """The settings of a consumer, and what follows from them; `Consumer` says what they mean. Raises ConfigurationError."""

    def __init__(
        self,
        broker: BrokerLike,
        group: str,
        *,
        start: Start = "earliest",
        commit: Commit = "auto",
        protocol: Protocol = "classic",
        instance_id: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.broker, self.group, self.given, self.notes = broker, group, settings, Notes()
        checked_choice("start", start, Start)
        checked_choice("commit", commit, Commit)
        checked_choice("protocol", protocol, Protocol)
        own: dict[str, Any] = {
            **DEFAULTS,
            "auto.offset.reset": start,
            "group.id": group,
            "group.protocol": protocol,
            "enable.auto.commit": commit == "auto",
        }
        if instance_id is not None:
            own["group.instance.id"] = instance_id
        found = self.settings = merge_settings(broker, own, settings, self.notes)
        self.start = STARTS.get(found["auto.offset.reset"])
        strategies = str(found.get("partition.assignment.strategy", ""))
        self.is_incremental = found["group.protocol"] == "consumer" or "cooperative" in strategies
        self.commits_by_itself = bool(found["enable.auto.commit"])
        try:
            self.keep_alive_ms = float(found["max.poll.interval.ms"]) * KEEP_ALIVE_SHARE
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"max.poll.interval.ms is {found['max.poll.interval.ms']!r}") from error


def checked_batch_max(number: object) -> int:
    """A size of batches, checked. Raises ConfigurationError."""
    if not isinstance(number, int) or not 0 < number <= BATCH_MAX_MAX:
        raise ConfigurationError(f"a batch has 1 to {BATCH_MAX_MAX} events, not {number!r}")
    return number
