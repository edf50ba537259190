"""Producer, Consumer and Admin over librdkafka. See README.md."""
