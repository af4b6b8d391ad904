from __future__ import annotations

import inspect

from space2vec.workers import quality
from space2vec.workers.quality import Flag, Status, flags_of, status_of


def test_flags_come_once_and_in_one_order() -> None:
    assert flags_of([Flag.BLANK, Flag.NAN, Flag.BLANK]) == (Flag.NAN, Flag.BLANK)
    assert flags_of(reversed(Flag)) == tuple(Flag)
    assert flags_of([]) == ()


def test_status_follows_from_the_flags() -> None:
    assert status_of(()) is Status.SCORED
    assert all(status_of((flag,)) is Status.DEGRADED for flag in Flag)
    assert status_of(None) is Status.REJECTED


def test_names_are_those_that_consumers_read() -> None:
    assert [str(flag) for flag in Flag] == [
        "nan",
        "truncated",
        "off_centre",
        "plane_missing",
        "blank",
        "out_of_range",
    ]


def test_every_flag_says_what_it_means() -> None:
    source = inspect.getsource(quality.Flag)
    for flag in Flag:
        assert f'{flag.name} = "{flag.value}"\n    """' in source
