from __future__ import annotations

from pathlib import Path

import pytest

from space2vec.schemas.errors import ConfigError, PacketError, Reason
from space2vec.schemas.profiles import Profiles

PROFILES = Profiles.load()
ZTF = {"candid", "objectId", "candidate", "candidate.jd", "candidate.isdiffpos", "candidate.rcid"}
MINE = """
survey = "mine"
detect = ["source.flux", ["source.time", "source.epoch"]]
lacks = ["source.magnitude"]
alert_id = "id"
[stamps]
science = "image"
"""


@pytest.mark.parametrize(
    ("survey", "present"),
    [
        ("ztf", ZTF),
        ("lsst", {"diaSource.diaSourceId", "diaSource.midpointMjdTai", "diaSourceId"}),
        ("lsst", {"diaSource.diaSourceId", "diaSource.midPointTai", "alertId"}),
        ("roman", {"diaSource.diaSourceId", "diaSource.midpointMjd", "diaSource.expId", "cutoutReference"}),
        ("decam", {"candidate.mjd", "candidate.forcediffimflux", "candidate.band", "fp_hists"}),
        ("winter", {"candidate.jd", "candidate.nmtchtm", "candidate.programpi"}),
        ("turbo", {"candidate.jd", "candidate.nmtchtm", "candidate.programpi", "candidate.fid"}),
        ("pgir", {"candidate.jd", "candidate.stackquadid", "candidate.isdiffpos"}),
        ("atlas", {"candidate.mjd", "candidate.RA", "candidate.Dec", "candidate.WPflx"}),
    ],
)
def test_tells_the_survey_by_its_fields(survey: str, present: set[str]) -> None:
    assert PROFILES.match(present).survey == survey


def test_says_what_each_survey_would_need() -> None:
    with pytest.raises(PacketError) as refused:
        PROFILES.match({"candidate.jd"})
    assert refused.value.reason is Reason.UNKNOWN_SURVEY
    for words in (
        "ztf needs candidate.isdiffpos, candidate.rcid;",
        "pgir needs candidate.stackquadid or candidate.subquadpos;",
    ):
        assert words in refused.value.detail + ";"


def test_unknown_survey_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"no profile for survey 'sdss'; there are atlas, decam, lsst"):
        PROFILES["sdss"]


class TestFolder:
    def test_adds_a_survey(self, tmp_path: Path) -> None:
        (tmp_path / "mine.toml").write_text(MINE)
        (tmp_path / "notes.txt").write_text("not a profile")
        profiles = Profiles.load(tmp_path)
        assert profiles.match({"source.flux", "source.epoch"}).survey == "mine"
        assert profiles.match(ZTF).survey == "ztf"
        with pytest.raises(PacketError, match=r"mine needs no source\.magnitude"):
            profiles.match({"source.flux", "source.time", "source.magnitude"})

    def test_of_two_that_fit_the_one_that_asks_for_more(self, tmp_path: Path) -> None:
        (tmp_path / "mine.toml").write_text(MINE)
        (tmp_path / "other.toml").write_text(
            'survey = "other"\ndetect = ["source.flux"]\nalert_id = "id"\n[stamps]\nscience = "image"\n'
        )
        profiles = Profiles.load(tmp_path)
        assert profiles.match({"source.flux", "source.time"}).survey == "mine"
        assert profiles.match({"source.flux"}).survey == "other"

    def test_replaces_a_shipped_one(self, tmp_path: Path) -> None:
        (tmp_path / "ztf.toml").write_text(MINE.replace('"mine"', '"ztf"'))
        assert Profiles.load(tmp_path)["ztf"].alert_id == ("id",)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (("survey =", "surveys ="), "survey"),
            (('alert_id = "id"', ""), "alert_id: Field required"),
            (("[stamps]", "[stamp]"), "stamp"),
            (("science =", "sciance ="), "stamps.sciance: Extra inputs"),
            (('"image"', "5"), "stamps.science"),
            (("detect = [", "detect = "), "line 3"),
            (
                ("[stamps]", '[time]\nfields = "t"\nscale = "hjd"\n[stamps]'),
                "time.scale: Input should be 'jd_utc'",
            ),
        ],
    )
    def test_errors_name_file_and_key(self, tmp_path: Path, change: tuple[str, str], words: str) -> None:
        (tmp_path / "mine.toml").write_text(MINE.replace(*change))
        with pytest.raises(ConfigError) as refused:
            Profiles.load(tmp_path)
        assert "mine.toml" in str(refused.value)
        assert words in str(refused.value)

    def test_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="no such folder"):
            Profiles.load(tmp_path / "nowhere")
