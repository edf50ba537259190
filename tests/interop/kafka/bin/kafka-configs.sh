#!/usr/bin/env bash
# Stands in for the script of this name in Apache Kafka's distribution.
exec "$(dirname "$0")/../kafka.sh" tool org.apache.kafka.tools.ConfigCommand "$@"
