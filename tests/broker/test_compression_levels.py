"""compression.gzip.level and its siblings (KIP-390): the level at which the broker compresses a batch again."""

from random import Random

import pytest

from headwater.broker.configs import topic_configs
from headwater.broker.configs.dynamic import ConfigSource
from headwater.broker.validation import LongInspectionError, prepare, prepare_in_steps
from headwater.effects.work import at_once
from headwater.protocol.compression import Compression, decompress
from headwater.protocol.records import HEADER_BYTES, Record, build_batch
from headwater.storage.log import Log
from tests.broker.harness import Harness
from tests.broker.topic_configs import TopicConfigs

NOW_MS = 1_700_000_000_000


def batch_of(size: int) -> bytes:
    random = Random(7)
    words = [b"%06d" % random.randrange(3000) for _ in range(size // 6)]
    return bytes(build_batch([Record(None, b"".join(words), (), NOW_MS)]))


def log_of(broker: Harness, topic: str) -> Log:
    return broker.core.partitions.log(broker.core.metadata.topics[topic], 0)


def stored(broker: Harness, topic: str) -> tuple[Compression, int]:
    """The compression and the size of the newest batch of a topic's first partition."""
    log = log_of(broker, topic)
    header, batch = prepare(log, batch_of(6000), NOW_MS)
    return header.compression, len(batch)


@pytest.mark.parametrize(
    ("codec", "low", "high"),
    [
        ("gzip", TopicConfigs(compression_gzip_level="1"), TopicConfigs(compression_gzip_level="9")),
        ("lz4", TopicConfigs(compression_lz4_level="9"), TopicConfigs(compression_lz4_level="17")),
        ("zstd", TopicConfigs(compression_zstd_level="-50"), TopicConfigs(compression_zstd_level="19")),
    ],
)
def test_a_topics_level_is_used(codec: str, low: TopicConfigs, high: TopicConfigs) -> None:
    broker = Harness()
    sizes = []
    for name, level in (("low", low), ("high", high)):
        level["compression_type"] = codec
        broker.create_topic(name, **level)
        found, size = stored(broker, name)
        assert found.name.lower() == codec
        sizes.append(size)
    assert sizes[1] < sizes[0]


def test_the_brokers_level_is_the_default_and_only_that_of_the_topics_compression_counts() -> None:
    given = {"compression.gzip.level": "9", "compression.zstd.level": "7"}
    layers = ((given, ConfigSource.STATIC_BROKER),)
    levels = [
        topic_configs.log_config(own, layers).compression_level
        for own in (
            {"compression.type": "gzip"},
            {"compression.type": "gzip", "compression.gzip.level": "2", "compression.zstd.level": "1"},
            {"compression.type": "zstd"},
            {"compression.type": "lz4"},
            {"compression.type": "snappy"},
            {"compression.type": "producer"},
        )
    ]
    assert levels == [9, 2, 7, 9, -1, -1]


def test_a_slow_level_compresses_a_large_batch_elsewhere() -> None:
    broker = Harness()
    broker.create_topic("t", compression_type="zstd", compression_zstd_level="19")
    log, batch = log_of(broker, "t"), batch_of(20_000)
    with pytest.raises(LongInspectionError):
        prepare(log, batch, NOW_MS)
    header, changed = at_once(prepare_in_steps(log, batch, NOW_MS))
    assert header.compression is Compression.ZSTD
    assert bytes(decompress(Compression.ZSTD, changed[HEADER_BYTES:], 1 << 20)) == batch[HEADER_BYTES:]
    broker.create_topic("fast", compression_type="zstd", compression_zstd_level="1")
    assert len(changed) < len(prepare(log_of(broker, "fast"), batch, NOW_MS)[1])
