#!/bin/sh
# Run a command where a Docker engine answers.
#
#   deploy/containers/engine.sh COMMAND...
#
# An engine that answers is used as it is. Where there is none, on Debian and as root, docker.io is installed and an engine
# is started for this command alone: on a socket of its own (DOCKER_HOST), so that nobody else takes it for the machine's, its
# data in ~/.cache/space2vec/docker, where images and layers wait for the next time. It ends with the command, and every
# container with it. Exit status: the command's; 77 where no engine is to be had.
set -eu
cache=${XDG_CACHE_HOME:-$HOME/.cache}/space2vec
state=/run/space2vec-docker
daemon=

say() { echo "engine: $*" >&2; }

answers() { timeout 20 docker info >/dev/null 2>&1; }

none() {
    say "no Docker engine: $*"
    exit 77
}

install() {
    say "installing $*"
    { timeout 300 apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
        timeout 600 apt-get -qq install --yes --no-install-recommends "$@" >/dev/null; } || none "$* cannot be installed"
}

start() {
    command -v dockerd >/dev/null && command -v iptables >/dev/null || install docker.io iptables
    mkdir -p "$cache" "$state"
    # One at a time: the ports of compose.yaml are this machine's.
    exec 9>"$state/lock"
    flock --timeout 1800 9 || none "another one has run for half an hour"
    if [ -e "$state/pid" ]; then # of one that was killed
        end "$(cat "$state/pid")"
    fi
    setsid setpriv --pdeathsig TERM dockerd --host "$DOCKER_HOST" --data-root "$cache/docker" --exec-root "$state/exec" --pidfile "$state/pid" \
        --shutdown-timeout 10 >"$state/log" 2>&1 </dev/null 9>&- &
    daemon=$!
    for _ in $(seq 60); do
        answers && return
        kill -0 "$daemon" 2>/dev/null || break
        sleep 1
    done
    tail -n 20 "$state/log" >&2
    none "dockerd does not answer; above is the end of what it said"
}

# end PID: the daemon, with its containers.
end() {
    case $(ps -o comm= -p "$1" 2>/dev/null) in dockerd) ;; *) return 0 ;; esac
    running=$(timeout 20 docker ps --quiet) && [ -n "$running" ] && timeout 60 docker kill $running >/dev/null 2>&1
    kill "$1" 2>/dev/null || return 0
    for _ in $(seq 40); do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.5
    done
    say "dockerd does not end: killed"
    kill -9 "$1" 2>/dev/null || true
}

if ! command -v docker >/dev/null || ! answers; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || none "and not root on Debian, so none is installed"
    export DOCKER_HOST="unix://$state/socket"
    trap '[ -z "$daemon" ] || end "$daemon"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    start
fi
status=0
"$@" || status=$?
exit "$status"
