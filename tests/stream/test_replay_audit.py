"""What an audit finds of a replay into a folder: parts that are gone or changed, and files that nobody knows."""

from __future__ import annotations

from pathlib import Path

import pytest
from replaying import replayed

from space2vec.schemas.errors import ConfigError
from space2vec.schemas.settings import Settings
from space2vec.stream.replay_archives import Archive
from space2vec.stream.replay_audit import audit_replay


def test_an_audit_finds_a_part_that_is_gone_or_changed(archive: Archive, tmp_path: Path) -> None:
    replayed(archive, f"parquet:{tmp_path / 'out'}")
    first, second, *_ = sorted((tmp_path / "out/alerts").rglob("*.parquet"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    (account,) = audit_replay(Settings(), f"parquet:{tmp_path / 'out'}")
    assert not account.balanced
    assert [(f.first, f.last) for f in account.findings] == [(0, 31), (32, 63)]
    assert account.missing == 64


def test_an_audit_finds_files_that_no_manifest_names(archive: Archive, tmp_path: Path) -> None:
    out = tmp_path / "out"
    replayed(archive, f"parquet:{out}")
    part = next((out / "alerts").rglob("*-000000032-000000064.parquet"))
    part.with_name(part.name.replace("000000064", "000000050")).write_bytes(part.read_bytes())
    (account,) = audit_replay(Settings(), f"parquet:{out}")
    assert not account.balanced
    assert [(f.first, f.last) for f in account.findings] == [(32, 49)]
    assert "doubled" in str(account.findings[0])
    assert account.doubled == 18


def test_nothing_is_not_balanced(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing has been replayed there"):
        audit_replay(Settings(), f"parquet:{tmp_path}")
