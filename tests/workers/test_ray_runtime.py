"""Joining a Ray cluster that is there, and one that is not."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from space2vec.workers import ray_runtime

NOBODY = "127.0.0.1:1"


@pytest.mark.parametrize("address", [NOBODY, f"ray://{NOBODY}", "[::1]:1", "no-such-host.invalid:6379"])
def test_a_cluster_that_is_not_there_is_not_waited_for_without_end(address, monkeypatch) -> None:
    monkeypatch.setattr(ray_runtime, "_PATIENCE_S", 0.6)
    with pytest.raises(OSError, match=r".+"):
        ray_runtime._await_answer(address)


def test_one_that_is_there_and_one_that_is_to_be_found_are_let_pass() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ray_runtime._await_answer(f"127.0.0.1:{port}")
        ray_runtime._await_answer(f"ray://127.0.0.1:{port}")
    ray_runtime._await_answer("auto")


def test_the_error_names_the_address() -> None:
    # In a process of its own: Ray may be running in this one.
    code = (
        "from space2vec.workers import ray_runtime as r\n"
        "from space2vec.schemas.settings import RaySettings\n"
        "r._PATIENCE_S = 0.1\n"
        f"with r.ray_runtime(RaySettings(address={NOBODY!r})): pass\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False
    )
    assert f"ConfigError: cannot have Ray at {NOBODY}: " in told.stderr
    assert "refused" in told.stderr
