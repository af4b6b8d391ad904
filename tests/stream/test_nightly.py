"""Topics named by the night: yesterday's and today's, and no other."""

from __future__ import annotations

from datetime import UTC, datetime

from space2vec.stream.nightly import topics_on


def test_a_night_stands_for_yesterday_and_today() -> None:
    now = datetime(2026, 3, 1, 4, 30, tzinfo=UTC)
    assert topics_on(["ztf_{night}_programid1"], now) == (
        "ztf_20260228_programid1",
        "ztf_20260301_programid1",
    )


def test_other_names_stay_as_they_are() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    assert topics_on(["lsst-alerts-v11", "^decam.*"], now) == ("lsst-alerts-v11", "^decam.*")


def test_midnight_moves_both_on() -> None:
    before = topics_on(["n{night}"], datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC))
    after = topics_on(["n{night}"], datetime(2027, 1, 1, tzinfo=UTC))
    assert before == ("n20261230", "n20261231")
    assert after == ("n20261231", "n20270101")
