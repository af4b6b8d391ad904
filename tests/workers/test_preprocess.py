from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from space2vec.schemas.alert import Alert, Plane
from space2vec.schemas.errors import Reason
from space2vec.workers.manifest import InputSpec
from space2vec.workers.preprocess import Preprocessor, normalise_triplets, place
from space2vec.workers.quality import Flag

Stamps = NDArray[np.float32]
MakeAlert = Callable[..., Alert]
MakeTriplets = Callable[..., Stamps]
SPEC = InputSpec(size=31)
NAN, INF = np.float32(np.nan), np.float32(np.inf)


def prepared_one(alert: Alert, spec: InputSpec = SPEC) -> tuple[Stamps, tuple[Flag, ...]]:
    found = Preprocessor(spec).prepare([alert])
    assert not found.rejects
    return found.stamps[0], found.flags[0]


# -- the batch ------------------------------------------------------------------------------------------------------


def test_clean_alerts_are_what_training_gets(make_alert: MakeAlert, make_triplets: MakeTriplets) -> None:
    stamps = make_triplets(50)
    found = Preprocessor(SPEC).prepare([make_alert(each) for each in stamps])
    assert np.array_equal(found.stamps, normalise_triplets(stamps, SPEC))
    assert found.stamps.dtype == np.float32
    assert found.stamps.flags.c_contiguous
    assert found.rows == list(range(50))
    assert found.flags == [()] * 50
    assert found.rejects == {}


def test_stamps_of_alerts_are_left_alone(make_alert: MakeAlert, make_triplets: MakeTriplets) -> None:
    stamps = make_triplets(2)
    stamps.flags.writeable = False
    kept = stamps.copy()
    Preprocessor(SPEC).prepare([make_alert(each, negative=True) for each in stamps])
    assert np.array_equal(stamps, kept)


def test_no_alerts() -> None:
    found = Preprocessor(SPEC).prepare([])
    assert found.stamps.shape == (0, 3, 31, 31)
    assert (found.rows, found.flags, found.rejects) == ([], [], {})


def test_a_mixed_batch_gives_each_alert_what_it_gets_alone(
    make_alert: MakeAlert, make_triplets: MakeTriplets
) -> None:
    stamps, small = make_triplets(9), make_triplets(9, size=30, seed=1)
    blank = np.zeros((63, 63), np.float32)
    alerts = [
        make_alert(stamps[0]),
        make_alert(small[1], nominal_size=None),
        make_alert([stamps[2, 0], None, stamps[2, 2]], negative=True),
        make_alert([None, None, None]),
        make_alert(stamps[4, :, :50], y=18.0, x=900.0),
        make_alert([stamps[5, 0], stamps[5, 1], blank]),
        make_alert(small[6], nominal_size=None, x=100.3, y=77.8),
        make_alert(np.where(np.arange(63) < 40, stamps[7], NAN), negative=True, flipped=True),
        make_alert(stamps[8], negative=True),
    ]
    found = Preprocessor(SPEC).prepare(alerts)
    assert found.rows == [0, 1, 2, 4, 6, 7, 8]
    assert sorted(found.rejects) == [3, 5]
    for row, index in enumerate(found.rows):
        alone, flags = prepared_one(alerts[index])
        assert np.array_equal(found.stamps[row], alone), index
        assert found.flags[row] == flags


def test_planes_in_the_order_of_the_manifest(make_alert: MakeAlert, make_triplets: MakeTriplets) -> None:
    (stamps,) = make_triplets(1)
    spec = InputSpec(size=31, planes=(Plane.DIFFERENCE, Plane.SCIENCE), required=(Plane.SCIENCE,))
    found, flags = prepared_one(make_alert(stamps), spec)
    usual, _ = prepared_one(make_alert(stamps))
    assert np.array_equal(found, usual[[2, 0]])
    assert flags == ()


# -- sign -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("negative", "flipped", "turned"),
    [(False, False, 1), (True, False, -1), (True, True, 1), (False, True, 1), (None, False, 1)],
)
def test_the_source_is_positive_in_the_difference(
    negative: bool | None, flipped: bool, turned: int, make_alert: MakeAlert, make_triplets: MakeTriplets
) -> None:
    (stamps,) = make_triplets(1)
    usual, _ = prepared_one(make_alert(stamps))
    found, _ = prepared_one(make_alert(stamps, negative=negative, flipped=flipped))
    assert np.array_equal(found[:2], usual[:2])
    assert np.array_equal(found[2], turned * usual[2])


# -- rejects --------------------------------------------------------------------------------------------------------


def test_all_cutouts_missing_are_named(make_alert: MakeAlert) -> None:
    error = Preprocessor(SPEC).prepare([make_alert([None, None, None])]).rejects[0]
    assert error.reason is Reason.STAMP_MISSING
    assert "science, template and difference" in error.detail
    assert error.field == "cutout_science"
    assert (error.survey, error.alert_id, error.object_id) == ("made", 7, "OBJ")


def test_fault_of_the_required_cutout_is_the_reason(
    make_alert: MakeAlert, make_triplets: MakeTriplets
) -> None:
    (stamps,) = make_triplets(1)
    reasons = {Plane.TEMPLATE: Reason.STAMP_NOT_FITS, Plane.DIFFERENCE: Reason.STAMP_DAMAGED}
    error = Preprocessor(SPEC).prepare([make_alert([stamps[0], None, None], reasons)]).rejects[0]
    assert error.reason is Reason.STAMP_DAMAGED
    assert "template and difference" in error.detail
    assert "science" not in error.detail


def test_plane_neither_there_nor_faulty(make_alert: MakeAlert, make_triplets: MakeTriplets) -> None:
    (stamps,) = make_triplets(1)
    alert = make_alert(stamps)
    bare = Alert(**({name: getattr(alert, name) for name in alert.__slots__} | {"stamps": {}}))
    assert Preprocessor(SPEC).prepare([bare]).rejects[0].reason is Reason.STAMP_MISSING


@pytest.mark.parametrize("value", [0.0, 17.5, np.nan, np.inf, -np.inf])
def test_blank_required_plane_is_rejected(
    value: float, make_alert: MakeAlert, make_triplets: MakeTriplets
) -> None:
    stamps = make_triplets(3)
    stamps[1, 2] = value
    found = Preprocessor(SPEC).prepare([make_alert(each) for each in stamps])
    assert found.rows == [0, 2]
    assert found.stamps.shape == (2, 3, 31, 31)
    assert len(found.flags) == 2
    assert found.rejects[1].reason is Reason.STAMP_BLANK
    assert found.rejects[1].detail.endswith(": difference")


def test_constant_but_for_nan_is_blank(make_alert: MakeAlert, make_triplets: MakeTriplets) -> None:
    (stamps,) = make_triplets(1)
    stamps[0] = 5.0
    stamps[0, :30] = np.nan
    assert Preprocessor(SPEC).prepare([make_alert(stamps)]).rejects[0].reason is Reason.STAMP_BLANK


@pytest.mark.parametrize("shape", [(0, 0), (0, 63), (63, 0)])
def test_stamp_without_pixels_is_blank(shape: tuple[int, int], make_alert: MakeAlert) -> None:
    alert = make_alert(np.zeros((3, *shape), np.float32), nominal_size=None)
    assert Preprocessor(SPEC).prepare([alert]).rejects[0].reason is Reason.STAMP_BLANK


# -- flags ----------------------------------------------------------------------------------------------------------


def spoil(stamps: Stamps, plane: int, rows: Any, cols: Any, value: float) -> Stamps:
    stamps[plane, rows, cols] = value
    return stamps


@pytest.mark.parametrize(
    ("plane", "rows", "cols", "value", "flags"),
    [
        (0, 31, 31, NAN, (Flag.NAN,)),
        (1, 16, 46, NAN, (Flag.NAN,)),
        (2, 47, slice(None), NAN, ()),
        (2, slice(0, 16), slice(None), NAN, ()),
        (2, slice(0, 17), slice(None), NAN, (Flag.NAN,)),
        (0, 31, 31, INF, (Flag.NAN, Flag.OUT_OF_RANGE)),
        (0, 0, 0, -INF, (Flag.OUT_OF_RANGE,)),
        (1, slice(0, 20), 40, np.finfo(np.float32).min, (Flag.NAN, Flag.OUT_OF_RANGE)),
        (1, slice(None), slice(0, 40), 0.0, (Flag.OUT_OF_RANGE,)),
        (1, slice(None), slice(None), 0.0, (Flag.BLANK,)),
        (1, slice(None), slice(None), NAN, (Flag.NAN, Flag.BLANK)),
        (0, 31, 31, 6e4, ()),
    ],
)
def test_flags(
    plane: int, rows: Any, cols: Any, value: float, flags: tuple[Flag, ...],
    make_alert: MakeAlert, make_triplets: MakeTriplets,
) -> None:  # fmt: skip
    (stamps,) = make_triplets(1)
    _, found = prepared_one(make_alert(spoil(stamps, plane, rows, cols, value)))
    assert found == flags


def test_missing_optional_plane_is_zeros_and_flagged(
    make_alert: MakeAlert, make_triplets: MakeTriplets
) -> None:
    (stamps,) = make_triplets(1)
    found, flags = prepared_one(make_alert([stamps[0], None, stamps[2]]))
    usual, _ = prepared_one(make_alert(stamps))
    assert flags == (Flag.PLANE_MISSING,)
    assert not found[1].any()
    assert np.array_equal(found[[0, 2]], usual[[0, 2]])


def test_planes_of_different_shapes(make_alert: MakeAlert, make_triplets: MakeTriplets) -> None:
    (stamps,) = make_triplets(1)
    planes = [stamps[0], stamps[1, 10:53, 10:53].copy(), stamps[2]]
    _, flags = prepared_one(make_alert(planes, nominal_size=None))
    assert flags == (Flag.OFF_CENTRE,)


# -- where the source is --------------------------------------------------------------------------------------------


def detector_with_a_source(row: int, col: int) -> Stamps:
    detector = np.random.default_rng(9).normal(100, 5, (3, 400, 300)).astype(np.float32)
    detector[:, row, col] += 5000
    return detector


def cut_out(detector: Stamps, row: int, col: int, size: int) -> Stamps:
    """What ZTF ships: the part of the ``size`` pixels around the source that lies on the detector."""
    half = size // 2
    return detector[:, max(0, row - half) : row + half + 1, max(0, col - half) : col + half + 1].copy()


@pytest.mark.parametrize("row", [0, 4, 30, 31, 200, 368, 369, 390, 399])
@pytest.mark.parametrize("col", [0, 22, 150, 280, 299])
def test_source_is_put_back_at_the_centre_of_cut_stamps(row: int, col: int, make_alert: MakeAlert) -> None:
    stamps = cut_out(detector_with_a_source(row, col), row, col, 63)
    for shift in (-0.4, 0.0, 0.4):
        alert = make_alert(stamps, x=col + shift, y=row - shift)
        found, flags = prepared_one(alert, InputSpec(size=63))
        assert np.argmax(found[2]) == 31 * 63 + 31
        cut = stamps.shape[1:] != (63, 63)
        assert flags == ((Flag.TRUNCATED,) if cut else ())
        # All of the stamp is there: one pixel at most, the median itself, has become zero.
        assert (found[0] != 0).sum() in (stamps[0].size, stamps[0].size - 1)


def test_cut_stamp_of_unknown_position_is_off_centre(make_alert: MakeAlert) -> None:
    stamps = cut_out(detector_with_a_source(5, 150), 5, 150, 63)
    for unknown in (None, float("nan")):
        _, flags = prepared_one(make_alert(stamps, x=unknown, y=unknown))
        assert flags == (Flag.TRUNCATED, Flag.OFF_CENTRE)


def test_position_that_contradicts_the_cut_is_off_centre(make_alert: MakeAlert) -> None:
    stamps = cut_out(detector_with_a_source(5, 150), 5, 150, 63)
    _, flags = prepared_one(make_alert(stamps, x=150.0, y=20.0))
    assert flags == (Flag.TRUNCATED, Flag.OFF_CENTRE)


def test_counting_positions_from_one_does_not_move_the_source(make_alert: MakeAlert) -> None:
    stamps = cut_out(detector_with_a_source(5, 150), 5, 150, 63)
    found, flags = prepared_one(make_alert(stamps, x=151.0, y=6.0), InputSpec(size=63))
    assert np.argmax(found[2]) == 31 * 63 + 31
    assert flags == (Flag.TRUNCATED,)


@pytest.mark.parametrize(
    ("position", "expected"), [(100.0, 14), (100.3, 14), (100.49, 14), (99.7, 15), (99.51, 15), (None, 15)]
)
def test_even_stamps_have_the_source_left_or_right_of_the_middle(
    position: float | None, expected: int, make_alert: MakeAlert
) -> None:
    alert = make_alert(np.zeros((3, 30, 30), np.float32), x=position, y=position, nominal_size=None)
    assert place(alert, (30, 30)) == (((30, 30), (expected, expected)), set())


def test_odd_stamps_have_it_in_the_middle(make_alert: MakeAlert) -> None:
    for position in (None, 100.0, 100.4, 99.6, 3.0, float("nan"), 1e12):
        alert = make_alert(np.zeros((3, 31, 31), np.float32), x=position, y=position, nominal_size=None)
        assert place(alert, (31, 31))[0][1] == (15, 15)


def test_stamp_larger_than_nominal_is_not_cut(make_alert: MakeAlert, make_triplets: MakeTriplets) -> None:
    (stamps,) = make_triplets(1, size=81)
    _, flags = prepared_one(make_alert(stamps))
    assert flags == ()


# -- real packets ---------------------------------------------------------------------------------------------------


def test_cut_ztf_packets_have_their_residual_at_the_centre(shared: Any) -> None:
    """Of the real stamps that ZTF cut at a chip edge, nearly all show their source where it was put."""
    from space2vec.schemas.reader import PacketReader

    reader = PacketReader()
    alerts = [
        alert
        for path in sorted((shared / "packets" / "ztf").iterdir())
        for alert in reader.read(path.read_bytes())
        if isinstance(alert, Alert)
    ]
    cut = [alert for alert in alerts if alert.stamps[Plane.DIFFERENCE].shape != (63, 63)]
    assert len(cut) > 10
    found = Preprocessor(InputSpec(size=63)).prepare(cut)
    assert all(Flag.TRUNCATED in flags and Flag.OFF_CENTRE not in flags for flags in found.flags)
    middle = found.stamps[:, 2, 29:34, 29:34].reshape(len(found.rows), -1).max(axis=1)
    background = np.percentile(np.abs(found.stamps[:, 2]).reshape(len(found.rows), -1), 90, axis=1)
    assert (middle > 1.5 * background).mean() > 0.9


def test_pixels_that_ztf_templates_lack_do_not_reach_the_network(shared: Any) -> None:
    """The same real packets score the same whether the survey wrote -3.4e38 or NaN."""
    triplets = np.load(shared / "stamps" / "ztf.npz")["triplets"]
    lacking = triplets[(np.abs(np.nan_to_num(triplets)) > 1e30).any(axis=(1, 2, 3))]
    assert len(lacking) > 5
    cleaned = np.where(np.abs(lacking) > 1e30, NAN, lacking)
    assert np.array_equal(normalise_triplets(lacking, SPEC), normalise_triplets(cleaned, SPEC))
