"""README is true: its table of settings is the code's, and the tests that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

from space2vec.stream.config import settings_table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_table_of_settings_is_current() -> None:
    between = re.search(r"<!-- settings: begin .*? -->\n(.*?)<!-- settings: end -->", README, re.DOTALL)
    assert between is not None
    assert between[1].strip() == settings_table().strip()


def test_every_test_that_is_named_exists() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    files = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    named = re.findall(r"`((?:tests/[\w/]*)?test_\w+(?:\.py)?…?)`", README)
    assert len(named) > 20
    for name in named:
        if name.endswith(".py"):
            assert Path(name).name in files, name
        else:
            assert f"def {name.removesuffix('…')}" in sources, name


def test_every_page_that_is_linked_exists() -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / link).is_file(), link
