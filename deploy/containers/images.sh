#!/bin/sh
# Make every image that the trial of deploy/compose.yaml needs, also where there is no Docker engine and no Docker Hub.
#
#   deploy/containers/images.sh        then: make containers, or SPACE2VEC_TEST_BROKER=docker make test
#
# An engine that answers is used as it is. Where there is none, on Debian and as root, docker.io, docker-compose and
# debootstrap are installed and an engine is started, which stays (kill "$(cat /run/docker.pid)" ends it). What can be
# pulled is; the rest is made from Debian's packages and Maven Central. Tags, wherever they come from:
#
#   space2vec-base, space2vec-kafka, space2vec-prometheus, space2vec:cpu
set -eu
cd "$(dirname "$0")/../.."
python=.venv/bin/python

say() { echo "images: $*" >&2; }

engine_answers() { docker info >/dev/null 2>&1; }

compose_is_there() { docker compose version >/dev/null 2>&1 || docker-compose version >/dev/null 2>&1; }

install() {
    say "installing $*"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "$@" >/dev/null
}

engine() {
    compose_is_there || install docker-compose
    engine_answers && return
    command -v dockerd >/dev/null || install docker.io iptables
    # Where the package could not start it as a service.
    engine_answers || setsid dockerd >/var/log/dockerd.log 2>&1 </dev/null &
    for _ in $(seq 60); do
        engine_answers && return
        sleep 1
    done
    say "no Docker engine answers; the end of /var/log/dockerd.log:"
    tail -n 20 /var/log/dockerd.log >&2
    return 1
}

# pulled TAG IMAGE: whether TAG is there, or IMAGE can be had for it.
pulled() {
    docker image inspect "$1" >/dev/null 2>&1 && return
    docker pull --quiet "$2" >/dev/null 2>&1 && docker tag "$2" "$1"
}

base() {
    pulled space2vec-base python:3.11-slim-bookworm && return
    say "python:3.11-slim-bookworm cannot be pulled: making a base of Debian"
    command -v debootstrap >/dev/null || install debootstrap
    root=$(mktemp -d)
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv bookworm "$root" >/dev/null
    # Whom this machine trusts, its images trust: a proxy that opens TLS has its own authority.
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    tar -C "$root" -c . | docker import - space2vec-base >/dev/null
    rm -rf "$root"
}

# made NAME CONTEXT: build NAME.Dockerfile on the base.
made() {
    say "making space2vec-$1"
    docker build --quiet --build-arg BASE_IMAGE=space2vec-base -f "deploy/containers/$1.Dockerfile" \
        -t "space2vec-$1" "$2" >/dev/null
}

kafka() {
    version=$($python -c 'from space2vec.stream.broker_jars import KAFKA_VERSION as v; print(v)')
    pulled space2vec-kafka "apache/kafka:$version" && return
    command -v mvn >/dev/null || install maven
    context=$(mktemp -d)
    cp deploy/containers/kafka.sh "$context/"
    cp -r "$($python -c 'from space2vec.stream.broker_jars import kafka_jars; print(kafka_jars())')" "$context/jars"
    made kafka "$context"
    rm -rf "$context"
}

prometheus() {
    pulled space2vec-prometheus prom/prometheus:v3.5.0 || made prometheus deploy/containers
}

ours() {
    say "making space2vec:cpu"
    docker build --quiet --build-arg BASE_IMAGE=space2vec-base -f deploy/Dockerfile --target cpu -t space2vec:cpu . >/dev/null
}

engine
base
kafka
prometheus
ours
