"""Joining a Ray cluster, or starting a small one here."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from space2vec.schemas.errors import ConfigError
from space2vec.schemas.settings import RaySettings

_STORE_BYTES = 512 << 20  # batches of stamps in flight are a few MB each
_PATIENCE_S = 15.0  # with a cluster that may be coming up beside us
_HOST_PORT = re.compile(r"(?:ray://)?\[?([^/\[\]]+)\]?:([0-9]{1,5})")
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray has its workers give way to every other process (niceness 15): beside a busy broker an alert would wait.
    "RAY_worker_niceness": "0",
    # Actors write lines as the application does, JSON too: Ray must not put names and colours before them, nor keep
    # them back for five seconds to say how often they came.
    "RAY_DISABLE_WORKER_LOG_PREFIX": "1",
    "RAY_DEDUP_LOGS": "0",
}


@contextmanager
def ray_runtime(settings: RaySettings, models: int = 1, cpus: int | None = None) -> Iterator[None]:
    """Have Ray for the length of the block; a Ray that is already there is used and left running.

    A local Ray listens on this machine only and needs no token: ``RAY_AUTH_MODE`` is set before Ray
    is imported, since a local start would otherwise leave a token behind that a later cluster demands.
    It has room for the classifiers of ``models`` bundles, and as many again: a swap starts the new ones first;
    or ``cpus`` of them where the caller knows better.

    Raises
    ------
    ConfigError
        If the cluster at ``settings.address`` cannot be joined.
    """
    if settings.address is None:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        # A control store that dies here is not started again, so it need not be waited for (a minute by default): the
        # sooner this process ends, the sooner whoever looks after it starts it again.
        os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "10")
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield
        return
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        if settings.address is None:
            classifiers = max(settings.classifiers, settings.max_classifiers)
            actors = max(settings.workers, settings.max_workers) + 2 * models * classifiers
            ray.init(
                address="local",  # not one that somebody else has started on this machine
                num_cpus=cpus or max(os.cpu_count() or 1, actors),
                object_store_memory=_STORE_BYTES,
                include_dashboard=False,
                configure_logging=False,
            )
        else:
            _await_answer(settings.address)
            ray.init(address=settings.address, configure_logging=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"cannot have Ray at {settings.address or 'this machine'}: {error}") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray puts one in its place that ends the process
    try:
        yield
    finally:
        ray.shutdown()


def _await_answer(address: str) -> None:
    """Wait until something listens at a cluster's address: Ray itself would wait for that without end.

    Raises
    ------
    OSError
        If nothing does in time.
    """
    found = _HOST_PORT.fullmatch(address)
    if found is None:  # "auto", say
        return
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            socket.create_connection((found[1], int(found[2])), timeout=_PATIENCE_S).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return
