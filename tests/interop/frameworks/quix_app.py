"""Quix Streams, with exactly-once processing."""

import sys
import tempfile

from quixstreams import Application

app = Application(
    broker_address=sys.argv[1],
    consumer_group="quix",
    auto_offset_reset="earliest",
    processing_guarantee="exactly-once",
    state_dir=tempfile.mkdtemp(),
    commit_interval=0.2,
)
numbers = app.topic("numbers", value_deserializer="json")
doubled = app.topic("doubled", value_serializer="json")
stream = app.dataframe(numbers)
stream = stream.apply(lambda number: {"value": number["value"] * 2})
stream = stream.to_topic(doubled)

if __name__ == "__main__":
    app.run()
