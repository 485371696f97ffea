"""Counts of pixels, landslides and boundaries agree with scikit-learn and with plain Python."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.metrics import confusion_matrix

from zoo.errors import ResultError
from zoo.evaluation.counts import DISTANCES, SIZE_BINS, SIZE_EDGES, BoundaryCounts, Counts, ObjectCounts, size_names
from zoo.schema import decode_json, encode_json, from_plain, to_plain

masks = st.integers(0, 2**32 - 1).map(
    lambda seed: (
        torch.from_numpy(np.random.default_rng(seed).integers(0, 2, (3, 5, 4)).astype(bool)),
        torch.from_numpy(np.random.default_rng(seed + 1).choice([0, 1, 2, 255], (3, 5, 4))),
    )
)


@given(masks)
def test_counts_agree_with_scikit_learn_image_by_image(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    predicted, truth = pair
    counts = Counts.from_masks(predicted, truth)
    for image in range(3):
        known = truth[image] != 255
        expected = confusion_matrix(
            (truth[image][known] > 0).numpy(), predicted[image][known].numpy(), labels=[False, True]
        )
        tn, fp, fn, tp = expected.ravel()
        one = counts.select([image])
        assert (one.tp[0], one.fp[0], one.fn[0], one.tn[0]) == (tp, fp, fn, tn)


@given(masks)
def test_counts_add_up_and_pool(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    predicted, truth = pair
    counts = Counts.from_masks(predicted, truth)
    assert counts.pixels.tolist() == (truth != 255).flatten(1).sum(1).tolist()
    assert counts.pooled().pixels.tolist() == [int((truth != 255).sum())]
    halves = [Counts.from_masks(predicted[:1], truth[:1]), Counts.from_masks(predicted[1:], truth[1:])]
    assert to_plain(Counts.concatenate(halves)) == to_plain(counts)
    assert to_plain(from_plain(to_plain(counts), Counts)) == to_plain(counts)


@given(st.integers(0, 2**31), st.tuples(*[st.integers(0, 5)] * 4), st.sampled_from([0.0, 0.2]))
def test_ignored_pixels_change_no_count(seed: int, rim: tuple[int, int, int, int], share: float) -> None:
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.random((2, 4, 4)) < 0.4, np.ones((1, 4, 4), bool)).astype(np.int64)
    truth[rng.random(truth.shape) < share] = 255
    predicted = np.kron(rng.random((2, 8, 8)) < 0.3, np.ones((1, 2, 2), bool))
    sides = [(0, 0), rim[:2], rim[2:]]
    around = np.pad(truth, sides, constant_values=255)
    guessed = np.where(np.pad(np.ones_like(predicted), sides), np.pad(predicted, sides), rng.random(around.shape) < 0.5)
    for kind in (ObjectCounts, BoundaryCounts):
        assert to_plain(kind.from_masks(guessed, around)) == to_plain(kind.from_masks(predicted, truth))
    one, other = (Counts.from_masks(*map(torch.from_numpy, pair)) for pair in ((guessed, around), (predicted, truth)))
    assert to_plain(one) == to_plain(other)


def test_images_of_nodata_have_no_counts() -> None:
    counts = Counts.from_masks(torch.ones(1, 2, 2, dtype=torch.bool), torch.full((1, 2, 2), 255))
    assert counts.pixels.tolist() == [0]
    assert not counts.has_landslide[0]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"tp": [1], "fp": [1], "fn": [1]}, "missing required field tn"),
        ({"tp": [1], "fp": [1], "fn": [1], "tn": [1, 2]}, "differ in shape"),
        ({"tp": [-1], "fp": [1], "fn": [1], "tn": [1]}, "negative"),
        ({"tp": [0.5], "fp": [1], "fn": [1], "tn": [1]}, "field 'tp': expected array of int64"),
    ],
)
def test_counts_that_cannot_be_are_refused(values: dict[str, list[int]], reason: str) -> None:
    with pytest.raises(ResultError, match=reason):
        from_plain(values, Counts)


def test_masks_of_another_shape_are_refused() -> None:
    with pytest.raises(ResultError, match="differ in shape"):
        Counts.from_masks(torch.zeros(1, 2, 2, dtype=torch.bool), torch.zeros(1, 2, 3))


Pixels = set[tuple[int, int]]


def components(mask: NDArray[np.bool_]) -> list[Pixels]:
    left = {(int(row), int(col)) for row, col in zip(*np.nonzero(mask), strict=True)}
    found = []
    while left:
        front = [left.pop()]
        component = set(front)
        while front:
            row, col = front.pop()
            for step in [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)]:
                near = (row + step[0], col + step[1])
                if near in left:
                    left.remove(near)
                    component.add(near)
                    front.append(near)
        found.append(component)
    return found


def by_hand(predicted: NDArray[np.bool_], truth: NDArray[np.int64]) -> dict[str, object]:
    called = {(int(r), int(c)) for r, c in zip(*np.nonzero(predicted & (truth != 255)), strict=True)}
    slides = components((truth != 0) & (truth != 255))
    counts = {name: [0] * SIZE_BINS for name in ("total", "touched", "found")}
    for slide in slides:
        size = sum(len(slide) >= edge for edge in SIZE_EDGES)
        hit = len(slide & called)
        counts["total"][size] += 1
        counts["touched"][size] += hit > 0
        counts["found"][size] += 2 * hit >= len(slide)
    guesses = components(predicted & (truth != 255))
    real = set().union(*slides) if slides else set()
    return {**counts, "predicted": len(guesses), "false_alarms": sum(not guess & real for guess in guesses)}


@given(st.integers(0, 2**31), st.integers(0, 3))
def test_counts_are_those_of_a_flood_fill(seed: int, images: int) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.random((images, 5, 5)) < 0.35
    truth = np.kron(coarse, np.ones((1, 4, 4), bool)).astype(np.int64)
    truth[rng.random(truth.shape) < 0.05] = 255
    predicted = rng.random(truth.shape) < 0.3
    counts = ObjectCounts.from_masks(predicted, truth)
    expected = [by_hand(predicted[image], truth[image]) for image in range(images)]
    for name, values in to_plain(counts).items():
        assert values == [one[name] for one in expected], name


def test_sizes_fall_into_their_bins() -> None:
    truth = np.zeros((1, 64, 64), np.int64)
    for place, pixels in enumerate((15, 16, 63, 64, 255, 256)):
        truth[0, 4 * place : 4 * place + 4].reshape(-1)[:pixels] = 1
        truth[0, 4 * place + 3 :] = 0
    areas = [len(component) for component in components(truth[0] == 1)]
    counts = ObjectCounts.from_masks(truth == 1, truth)
    assert counts.total[0].tolist() == np.bincount(np.digitize(areas, SIZE_EDGES), minlength=SIZE_BINS).tolist()
    assert (counts.found == counts.total).all()


def test_half_of_the_pixels_finds_a_landslide_and_one_touches_it() -> None:
    truth = np.zeros((2, 4, 10), np.int64)
    truth[:, 1, :10] = 1
    predicted = np.zeros(truth.shape, bool)
    predicted[0, 1, :5] = True
    predicted[1, 1, :4] = True
    counts = ObjectCounts.from_masks(predicted, truth)
    assert counts.found.sum(axis=1).tolist() == [1, 0]
    assert counts.touched.sum(axis=1).tolist() == [1, 1]


def test_images_of_a_batch_are_not_one_volume() -> None:
    truth = np.ones((3, 2, 2), np.int64)
    assert ObjectCounts.from_masks(truth == 1, truth).total.sum(axis=1).tolist() == [1, 1, 1]


def test_object_counts_survive_a_result_file_and_edits_are_seen() -> None:
    truth = np.ones((2, 5, 5), np.int64)
    counts = ObjectCounts.from_masks(truth == 1, truth)
    values = to_plain(counts)
    assert to_plain(from_plain(values, ObjectCounts)) == values
    empty = ObjectCounts.from_masks(np.zeros((0, 5, 5), bool), np.zeros((0, 5, 5), np.int64))
    assert to_plain(from_plain(to_plain(empty), ObjectCounts)) == to_plain(empty)
    assert ObjectCounts.concatenate([counts, empty, counts]).total.shape == (4, SIZE_BINS)
    with pytest.raises(ResultError, match="found than exist"):
        from_plain({**values, "found": [[0, 9, 0, 0], [0, 1, 0, 0]]}, ObjectCounts)
    with pytest.raises(ResultError, match="missing required field touched"):
        from_plain({name: value for name, value in values.items() if name != "touched"}, ObjectCounts)
    with pytest.raises(ResultError, match="field 'false_alarms'"):
        from_plain({**values, "false_alarms": [0.5, 0]}, ObjectCounts)


def test_bins_are_named_in_square_metres_where_pixels_have_a_size() -> None:
    assert size_names(10.0) == ("< 1,600 m2", "1,600-6,400 m2", "6,400-25,600 m2", ">= 25,600 m2")
    assert size_names(None)[0] == "< 16 px"


def boundary(mask: NDArray[np.bool_], unknown: NDArray[np.bool_]) -> NDArray[np.int64]:
    rows, columns = mask.shape
    found = []
    for row, col in np.argwhere(mask):
        near = [(row + a, col + b) for a, b in ((-1, 0), (1, 0), (0, -1), (0, 1))]
        inside = [(r, c) for r, c in near if 0 <= r < rows and 0 <= c < columns]
        if any(not mask[place] and not unknown[place] for place in inside):
            found.append((row, col))
    return np.array(found, dtype=np.int64).reshape(-1, 2)


@settings(max_examples=40)
@given(st.integers(0, 2**31))
def test_counts_are_those_of_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.random((2, 4, 4)) < 0.4, np.ones((1, 4, 4), bool)).astype(np.int64)
    truth[rng.random(truth.shape) < 0.04] = 255
    predicted = np.kron(rng.random((2, 8, 8)) < 0.3, np.ones((1, 2, 2), bool))
    counts = BoundaryCounts.from_masks(predicted, truth)
    for image in range(2):
        unknown = truth[image] == 255
        called = boundary(predicted[image] & ~unknown, unknown)
        real = boundary((truth[image] == 1), unknown)
        assert counts.predicted[image] == len(called)
        assert counts.truth[image] == len(real)
        if len(called) and len(real):
            distances = cdist(called, real)
            assert counts.predicted_near[image].tolist() == [(distances.min(1) <= d).sum() for d in DISTANCES]
            assert counts.truth_near[image].tolist() == [(distances.min(0) <= d).sum() for d in DISTANCES]
        else:
            assert not counts.predicted_near[image].any()
            assert not counts.truth_near[image].any()


def test_a_shift_of_two_pixels_is_forgiven_at_two_and_not_at_one() -> None:
    truth = np.zeros((1, 32, 32), np.int64)
    truth[0, 8:20, 8:20] = 1
    exact = BoundaryCounts.from_masks(truth == 1, truth).f1()
    shifted = BoundaryCounts.from_masks(np.roll(truth == 1, 2, axis=2), truth).f1()
    assert exact.tolist() == [1, 1, 1]
    assert shifted[0] < 0.75 < shifted[1] == shifted[2] == 1


def test_without_predictions_dice_is_zero_and_without_pixels_undefined() -> None:
    truth = np.zeros((1, 8, 8), np.int64)
    assert np.isnan(BoundaryCounts.from_masks(truth == 1, truth).f1()).all()
    truth[0, 2:5, 2:5] = 1
    assert BoundaryCounts.from_masks(np.zeros(truth.shape, bool), truth).f1().tolist() == [0, 0, 0]


def test_boundary_counts_survive_a_result_file_and_edits_are_seen() -> None:
    truth = np.zeros((2, 8, 8), np.int64)
    truth[:, 2:5, 2:5] = 1
    counts = BoundaryCounts.from_masks(truth == 1, truth)
    values = to_plain(counts)
    assert to_plain(from_plain(values, BoundaryCounts)) == values
    assert BoundaryCounts.concatenate([counts, counts]).truth_near.shape == (4, 3)
    assert from_plain(to_plain(BoundaryCounts.concatenate([])), BoundaryCounts).truth.shape == (0,)
    with pytest.raises(ResultError, match="near than exist"):
        from_plain({**values, "truth": [1, 1]}, BoundaryCounts)
    with pytest.raises(ResultError, match="missing required field predicted_near"):
        from_plain({"predicted": []}, BoundaryCounts)


@pytest.mark.parametrize(
    "counts",
    [
        Counts(*np.ones((4, 3), np.int64)),
        Counts.concatenate([]),
        ObjectCounts.concatenate([]),
        ObjectCounts.from_masks(np.eye(8, dtype=bool)[None], np.eye(8, dtype=np.int64)[None]),
        BoundaryCounts.concatenate([]),
        BoundaryCounts.from_masks(np.eye(8, dtype=bool)[None], np.eye(8, dtype=np.int64)[None]),
    ],
    ids=lambda counts: f"{type(counts).__name__}-{len(counts)}",
)
def test_counts_are_decoded_by_the_schema(counts: Counts | ObjectCounts | BoundaryCounts) -> None:
    text = encode_json(counts)
    again = decode_json(text, type(counts))
    assert encode_json(again) == text
    assert to_plain(again) == to_plain(counts)


@pytest.mark.parametrize("values", [5, {"tp": 1}, {"tp": [1.5], "fp": [0], "fn": [0], "tn": [0]}, {"tp": [[1]]}])
def test_counts_of_another_shape_name_the_field(values: object) -> None:
    with pytest.raises(ResultError, match=r"not a valid result file: (field|Object|object|Expected|expected)"):
        decode_json(json.dumps(values), Counts, what="result file")


def test_counts_that_do_not_fit_name_what_is_wrong() -> None:
    values = {"tp": [1, 2], "fp": [0], "fn": [0, 0], "tn": [0, 0]}
    with pytest.raises(ResultError, match="not a valid result file: counts differ in shape: fp has 1 values"):
        decode_json(json.dumps(values), Counts, what="result file")
