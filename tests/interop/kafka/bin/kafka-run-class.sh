#!/usr/bin/env bash
# Runs a class of the caller's CLASSPATH with Kafka's jars: librdkafka's suite has Java programs of its own.
set -euo pipefail
jars=$("$(dirname "$0")/../kafka.sh" jars)
exec java -cp "${CLASSPATH:-}:$jars" "$@"
