#!/bin/sh
# Make every image that the trial of deploy/compose.yaml needs, also where there is no Docker Hub.
#
#   deploy/containers/engine.sh deploy/containers/images.sh
#
# What can be pulled is; the rest is made of Debian's packages (mmdebstrap, as root) and Maven Central. Tags, wherever
# they come from:
#
#   space2vec-base, space2vec-kafka, space2vec-prometheus, space2vec:cpu
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
began=$(date +%s)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { echo "images: $(($(date +%s) - began)) s: $*" >&2; }

install() {
    say "installing $*"
    timeout 300 apt-get -qq update
    DEBIAN_FRONTEND=noninteractive timeout 600 apt-get -qq install --yes --no-install-recommends "$@" >/dev/null
}

# pulled TAG IMAGE: whether IMAGE can be had, as TAG.
pulled() {
    timeout 300 docker pull --quiet "$2" >/dev/null 2>&1 && docker tag "$2" "$1"
}

base() {
    docker image inspect space2vec-base >/dev/null 2>&1 && return
    pulled space2vec-base python:3.11-slim-bookworm && return
    say "python:3.11-slim-bookworm cannot be pulled: making a base of Debian"
    command -v mmdebstrap >/dev/null || install mmdebstrap
    # Whom this machine trusts, its images trust: a proxy that opens TLS has its own authority.
    timeout 900 mmdebstrap --quiet --variant=minbase --include=ca-certificates,python3,python3-venv \
        --customize-hook='cp /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/"' bookworm "$work/base.tar"
    docker import "$work/base.tar" space2vec-base >/dev/null
    rm "$work/base.tar"
}

# made TAG DOCKERFILE CONTEXT [OPTION...]: build on the base; what it says is shown if it fails.
made() {
    say "making $1"
    tag=$1 dockerfile=$2 context=$3
    shift 3
    log=$work/log
    timeout 1500 docker build --build-arg BASE_IMAGE=space2vec-base -f "$dockerfile" -t "$tag" "$@" "$context" >"$log" 2>&1 || {
        tail -n 40 "$log" >&2
        say "$tag cannot be made"
        return 1
    }
}

kafka() {
    version=$($python -c 'from space2vec.stream.broker_jars import KAFKA_VERSION as v; print(v)')
    pulled space2vec-kafka "apache/kafka:$version" && return
    command -v mvn >/dev/null || install maven
    context=$work/kafka
    mkdir "$context"
    cp deploy/containers/kafka.sh "$context/"
    cp -r "$($python -c 'from space2vec.stream.broker_jars import kafka_jars; print(kafka_jars())')" "$context/jars"
    made space2vec-kafka deploy/containers/kafka.Dockerfile "$context"
}

prometheus() {
    pulled space2vec-prometheus prom/prometheus:v3.5.0 ||
        made space2vec-prometheus deploy/containers/prometheus.Dockerfile deploy/containers
}

base
kafka
prometheus
made space2vec:cpu deploy/Dockerfile . --target cpu
say "done"
