"""What is installed is what is in the tree, under one name."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("schemas", "stream", "training", "workers")


def _files_of_the_rooms() -> list[PurePosixPath]:
    """Files of the rooms, relative to the tree; byte code left out."""
    return [
        PurePosixPath(path.relative_to(ROOT))
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy so that the tree stays clean."""
    copy = tmp_path_factory.mktemp("tree")
    for room in ROOMS:
        shutil.copytree(ROOT / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", "dist", "."]
    done = subprocess.run(
        command, cwd=copy, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (copy / "dist").glob("*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_rooms_and_nothing_else(wheel):
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert inside == {f"space2vec/{path}" for path in _files_of_the_rooms()}


def test_the_wheel_carries_the_licence_and_the_command(wheel):
    files = zipfile.ZipFile(wheel)
    told = {PurePosixPath(name).name: name for name in files.namelist() if ".dist-info/" in name}
    assert "Apache License" in files.read(told["LICENSE"]).decode()
    assert "space2vec = space2vec.stream.cli:main" in files.read(told["entry_points.txt"]).decode()


def test_importing_every_module_never_imports_a_room_under_its_bare_name():
    modules = [
        ".".join(("space2vec", *path.with_suffix("").parts)).removesuffix(".__init__")
        for path in _files_of_the_rooms()
        if path.suffix == ".py" and path.name != "__main__.py"
    ]
    script = (
        "import importlib, sys\n"
        f"for module in {modules!r}: importlib.import_module(module)\n"
        f"print(sorted(set({ROOMS!r}) & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *(need for name in extras if name != "rubin" for need in extras[name]),
    ]
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in _pins()}
    names = {need.partition(">=")[0].partition("[")[0].lower().replace("_", "-") for need in wanted}
    assert names <= pinned


def test_every_pin_is_exact():
    assert [line for line in _pins() if line.count("==") != 1] == []


def _pins() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]
