#!/bin/sh
# Try deploy/compose.yaml for real, and the tests of the stream against Kafka in a container (make containers).
#
#   deploy/containers/engine.sh deploy/containers/trial.sh [pytest's arguments]
set -eu
cd "$(dirname "$0")/../.."
compose_is_there() { docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null; }

deploy/containers/images.sh
compose_is_there || DEBIAN_FRONTEND=noninteractive timeout 600 apt-get -qq install --yes --no-install-recommends docker-compose >/dev/null
export SPACE2VEC_TEST_BROKER=docker SPACE2VEC_KAFKA_IMAGE=space2vec-kafka
exec "${PYTHON:-.venv/bin/python}" -m pytest -s tests/deploy/containers.py tests/stream/test_kafka_to_kafka.py "$@"
