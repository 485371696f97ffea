"""The record of how good a model is: figures, intervals, one line of text, and warnings."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.errors import ResultError
from zoo.evaluation.counts import Counts
from zoo.evaluation.histograms import LogitHistogram
from zoo.evaluation.quality import (
    MAX_GROUPS,
    BlockCoverage,
    Calibration,
    MeasuredSplit,
    PredictionSets,
    UsualDistance,
    headline,
    measure_split,
    merge_evaluations,
    quality_line,
    quality_warnings,
    share_warnings,
)
from zoo.schema import decode_json, encode_json, from_plain


def counts(images: int = 40, seed: int = 0) -> Counts:
    rng = np.random.default_rng(seed)
    return Counts(*(rng.integers(1, 100, images) for _ in range(4)))


def measure(**given: object) -> tuple[MeasuredSplit, ...]:
    one = counts()
    groups = ["a"] * 25 + ["b"] * 15
    return measure_split(one, groups, threshold=0.4, data="patches", split_sha256="ab", **given)  # type: ignore[arg-type]


def test_a_split_and_its_scenes_are_measured_from_the_same_counts() -> None:
    whole, first, second = measure()
    cells = counts()
    tp, fp, fn, tn = (int(cell.sum()) for cell in cells.cells)
    assert whole.dice == pytest.approx(2 * tp / (2 * tp + fp + fn))
    assert whole.precision == pytest.approx(tp / (tp + fp))
    assert whole.recall == pytest.approx(tp / (tp + fn))
    assert whole.iou == pytest.approx(tp / (tp + fp + fn))
    assert whole.landslide_share == pytest.approx((tp + fn) / (tp + fp + fn + tn))
    assert (whole.group, whole.patches, whole.pixels) == (None, 40, tp + fp + fn + tn)
    assert (first.group, first.patches, second.group, second.patches) == ("a", 25, "b", 15)
    assert first.pixels + second.pixels == whole.pixels
    for one in (whole, first, second):
        assert one.dice_interval is not None
        assert one.dice is not None
        assert one.dice_interval[0] < one.dice < one.dice_interval[1]
        assert one.interval_unit == "tile"


def test_a_single_patch_has_no_interval() -> None:
    whole, many, one = measure_split(counts(6), ["a"] * 5 + ["b"], threshold=0.5)
    assert None not in (whole.dice_interval, many.dice_interval)
    assert (one.group, one.patches, one.dice_interval, one.interval_unit) == ("b", 1, None, "")
    assert "interval" not in str(one)


def test_eight_events_are_drawn_whole_and_too_many_scenes_are_not_listed() -> None:
    events = measure_split(counts(), [f"e{index % 8}" for index in range(40)], threshold=0.5)
    assert events[0].interval_unit == "event"
    assert len(events) == 9
    names = [f"e{index % (MAX_GROUPS + 1)}" for index in range(42)]
    assert len(measure_split(counts(42), names, threshold=0.5)) == 1


def test_undefined_figures_are_none() -> None:
    nothing = Counts(*(np.zeros(3, np.int64) for _ in range(3)), np.full(3, 9))
    (found,) = measure_split(nothing, ["a"] * 3, threshold=0.5)
    assert (found.dice, found.precision, found.recall, found.dice_interval) == (None, None, None, None)
    assert str(found) == "test Dice undefined; unnamed data, 3 patches"
    with pytest.raises(ResultError, match="empty test split"):
        measure_split(Counts.concatenate([]), [], threshold=0.5)


def test_the_record_survives_json_and_nonsense_is_refused() -> None:
    histogram = LogitHistogram.empty()
    histogram.positive[200:] += 30
    histogram.negative[:150] += 70
    usual = UsualDistance(128, 0.4, 0.95, 0.7)
    sets = PredictionSets(0.9, 0.3, 0.6)
    found = measure(calibration=Calibration.of([histogram] * 2, 1.5, sets, usual, ["a", "b"]))
    assert decode_json(encode_json(found), tuple[MeasuredSplit, ...]) == found
    assert found[0].calibration is not None
    assert sum(one.pixels for one in found[0].calibration.reliability) == 2 * (30 * 40 + 70 * 150)
    assert found[0].calibration.ece != found[0].calibration.ece_scaled
    assert found[0].calibration.coverage is not None
    assert found[0].calibration.coverage.by_block is not None
    assert Calibration.of([]) is None
    for values in ({"dice": 1.5}, {"dice_interval": [0.8, 0.2]}, {"patches": -1}, {"threshold": "high"}):
        with pytest.raises(ResultError, match=next(iter(values))):
            from_plain(values, MeasuredSplit)


def test_coverage_is_measured_in_each_block_that_has_enough_pixels() -> None:
    """Bins are 0.1 of a logit wide: bin 110 is p 0.25 to 0.27, bin 130 is p 0.71 to 0.73."""

    def image(landslide: tuple[int, int], background: tuple[int, int]) -> LogitHistogram:
        found = LogitHistogram.empty()
        found.positive[[110, 130]], found.negative[[110, 130]] = landslide, background
        return found

    images = [image((100, 300), (900, 100)), image((0, 50), (0, 0)), image((0, 50), (50, 50)), image((9, 40), (0, 500))]
    found = PredictionSets(0.9, 0.5, 0.5).covered(images, ["a", "b", "b", "c"])
    assert found is not None
    assert found.landslide == pytest.approx(440 / 549)
    assert found.background == pytest.approx(950 / 1600)
    # Block c has 49 landslide pixels, which are too few.
    assert found.by_block == BlockCoverage(3, (0.75, 0.875, 1.0), (0.0, 0.5, 0.9))
    assert str(found.by_block) == (
        "in 3 held-out blocks: landslide pixels 75.0% to 100.0%, median 87.5%; background 0.0% to 90.0%, median 50.0%"
    )
    alone = PredictionSets(0.9, 0.5, 0.5).covered(images, ["a"] * 4)
    assert alone is not None
    assert alone.by_block is None
    assert str(BlockCoverage(2, (), ())) == ""


def test_the_usual_distance_is_that_of_enough_patches() -> None:
    distances = np.arange(1.0, 21.0)[::-1]
    # ceil(21 x 0.95) = 20 of 20 patches.
    assert UsualDistance.of(distances, 64) == UsualDistance(64, 10.5, 0.95, 20.0)
    assert UsualDistance.of(np.append(np.arange(1.0, 40.0), [np.nan, np.inf]), 64) == UsualDistance(
        64, 20.0, 0.95, 38.0
    )
    assert UsualDistance.of(distances[:18], 64) is None


def test_the_headline_is_the_first_whole_split_of_the_way_the_model_is_used() -> None:
    plain, scene = MeasuredSplit(dice=0.5), MeasuredSplit(dice=0.9, group="S1")
    adapted = MeasuredSplit(dice=0.6, adapted=True)
    records = (scene, plain, adapted, MeasuredSplit(dice=0.1, data="other"))
    assert headline(records, {}) is plain
    assert headline(records, {}, adapted=True) is adapted
    assert headline((plain,), {}, adapted=True) is plain
    assert headline((adapted,), {}) is adapted
    assert headline((), {"precision": 0.4}) is None
    old = headline((), {"dice": 0.712, "precision": 0.7, "recall": None, "mcc": -0.5}, data="bijie")
    assert quality_line(old) == "model: test Dice 0.712, precision 0.700; bijie"


def test_one_line_summarises_the_quality_of_a_model() -> None:
    found = MeasuredSplit(data="patches", dice=0.5, precision=0.6, recall=0.4, dice_interval=(0.45, 0.55), patches=1200)
    text = "test Dice 0.500 (95 % interval 0.450 to 0.550), precision 0.600, recall 0.400; patches, 1,200 patches"
    assert quality_line(found, label="demo") == f"demo model: {text}"
    assert quality_line(found, adapted=True) == f"model: {text}; measured without adaptation"
    assert quality_line(None, adapted=True) == "model: quality not measured"
    blocks = MeasuredSplit(data="L4S", split="held-out blocks", dice=0.7, group="S2", adapted=True)
    assert str(blocks) == "Dice 0.700; L4S, S2, held-out blocks, adapted without labels"


def test_the_same_measurement_replaces_the_old_one_in_its_place() -> None:
    old = measure()
    new = (MeasuredSplit(data="patches", split="test", group="b", dice=0.1), MeasuredSplit(data="more", dice=0.2))
    merged = merge_evaluations(old, new)
    assert merged == (old[0], old[1], *new)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, ""),
        (MeasuredSplit(), ""),
        (MeasuredSplit(dice=0.2, precision=0.1), ""),
        (MeasuredSplit(dice=0.0, precision=0.0, landslide_share=0.0), ""),
        (MeasuredSplit(dice=0.03, precision=0.5), "test Dice is 0.030, below 0.2"),
        (MeasuredSplit(dice=0.5, precision=0.04), "96% of the pixels"),
    ],
)
def test_a_poor_model_is_called_poor(found: MeasuredSplit | None, expected: str) -> None:
    text = " ".join(quality_warnings(found))
    assert expected in text
    assert bool(text) is bool(expected)


@pytest.mark.parametrize(
    ("mapped", "trained", "expected"),
    [
        (0.38, None, ""),
        (0.38, 0.0, ""),
        (0.38, 0.02, "more than 3 times"),
        (0.06, 0.02, ""),
        (0.0002, 0.02, ""),
        (0.0001, 0.02, "less than 1/100"),
        (0.0, 0.02, "less than 1/100"),
        (1.0, 0.6, ""),
    ],
)
def test_an_unlikely_share_of_landslides_causes_a_warning(mapped: float, trained: float | None, expected: str) -> None:
    text = " ".join(share_warnings(mapped, trained))
    assert ("--adapt" in text) is bool(text)
    assert "--adapt" not in " ".join(share_warnings(mapped, trained, adapted=True))
    assert expected in text
    assert bool(text) is bool(expected)


def odds_of(rng: np.random.Generator, landslides: int, background: int) -> tuple[np.ndarray, np.ndarray]:
    """Log odds of landslide and background pixels, which overlap."""
    return rng.normal(1.0, 1.5, landslides), rng.normal(-3.0, 1.5, background)


def histogram(landslides: np.ndarray, background: np.ndarray) -> LogitHistogram:
    edges = np.linspace(-12, 12, 241)
    return LogitHistogram(np.histogram(landslides, edges)[0], np.histogram(background, edges)[0])


def test_prediction_sets_cover_each_class_of_the_validation_split() -> None:
    landslides, background = odds_of(np.random.default_rng(0), 500, 20_000)
    sets = PredictionSets.of(histogram(landslides, background), 0.9)
    low, high = (
        np.log(sets.landslide_from / (1 - sets.landslide_from)),
        np.log(sets.background_below / (1 - sets.background_below)),
    )
    assert np.sum(landslides >= low) >= np.ceil(501 * 0.9) > np.sum(landslides >= low + 0.1)
    assert np.sum(background < high) >= np.ceil(20_001 * 0.9) > np.sum(background < high - 0.1)
    found = sets.covered([histogram(landslides, background)])
    assert found is not None
    assert found.landslide == pytest.approx(np.mean(landslides >= low), abs=1e-9)
    assert found.background == pytest.approx(np.mean(background < high), abs=1e-9)
    assert "stated coverage 90% hold the class of 9" in str(found)


def test_the_stated_coverage_holds_on_average_for_exchangeable_pixels() -> None:
    """Over many draws of both splits; a share of exactly 0.9 would be ideal, and bins of 0.1 add a little."""
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(300):
        sets = PredictionSets.of(histogram(*odds_of(rng, 60, 600)), 0.9)
        found = sets.covered([histogram(*odds_of(rng, 60, 600))])
        assert found is not None
        covered.append((found.landslide, found.background))
    means = np.mean(covered, axis=0)
    assert (means > 0.895).all()
    assert (means < 0.925).all()


def test_too_few_pixels_of_a_class_put_it_into_every_set() -> None:
    sets = PredictionSets.of(histogram(np.full(8, 5.0), np.full(9, -5.0)), 0.9)
    assert sets.landslide_from == 0.0
    assert 0 < sets.background_below < 0.01
    empty = PredictionSets.of(LogitHistogram.empty())
    assert (empty.landslide_from, empty.background_below) == (0.0, 1.0)
    assert empty.covered([LogitHistogram.empty()]) is None
    held = empty.holds(np.array([0.0, 0.5, 1.0], np.float32))
    assert [one.tolist() for one in held] == [[True] * 3] * 2
    beyond = PredictionSets.of(LogitHistogram(*(np.eye(240, dtype=int)[place] * 100 for place in (0, 239))))
    assert (beyond.landslide_from, beyond.background_below) == (0.0, 1.0), "the outer bins are open"


def test_a_temperature_is_above_zero() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Calibration(0.1, temperature=0.0)
