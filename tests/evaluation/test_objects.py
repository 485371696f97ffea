"""Landslides are counted one by one, as a flood fill in plain Python counts them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from zoo.errors import ResultError
from zoo.evaluation.objects import BINS, SIZE_EDGES, ObjectCounts, size_names

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
    counts = {name: [0] * BINS for name in ("total", "touched", "found")}
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
    for name, values in counts.to_dict().items():
        assert values == [one[name] for one in expected], name


def test_sizes_fall_into_their_bins() -> None:
    truth = np.zeros((1, 64, 64), np.int64)
    for place, pixels in enumerate((15, 16, 63, 64, 255, 256)):
        truth[0, 4 * place : 4 * place + 4].reshape(-1)[:pixels] = 1
        truth[0, 4 * place + 3 :] = 0
    areas = [len(component) for component in components(truth[0] == 1)]
    counts = ObjectCounts.from_masks(truth == 1, truth)
    assert counts.total[0].tolist() == np.bincount(np.digitize(areas, SIZE_EDGES), minlength=BINS).tolist()
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


def test_counts_survive_a_result_file_and_edits_are_seen() -> None:
    truth = np.ones((2, 5, 5), np.int64)
    counts = ObjectCounts.from_masks(truth == 1, truth)
    values = counts.to_dict()
    assert ObjectCounts.from_dict(values).to_dict() == values
    empty = ObjectCounts.from_masks(np.zeros((0, 5, 5), bool), np.zeros((0, 5, 5), np.int64))
    assert ObjectCounts.from_dict(empty.to_dict()).to_dict() == empty.to_dict()
    assert ObjectCounts.concatenate([counts, empty, counts]).total.shape == (4, BINS)
    with pytest.raises(ResultError, match="found than there are"):
        ObjectCounts.from_dict({**values, "found": [[0, 9, 0, 0], [0, 1, 0, 0]]})
    with pytest.raises(ResultError, match="lack touched"):
        ObjectCounts.from_dict({name: value for name, value in values.items() if name != "touched"})
    with pytest.raises(ResultError, match="false_alarms are not"):
        ObjectCounts.from_dict({**values, "false_alarms": [0.5, 0]})


def test_bins_are_named_in_square_metres_where_pixels_have_a_size() -> None:
    assert size_names(10.0) == ("< 1,600 m2", "1,600-6,400 m2", "6,400-25,600 m2", ">= 25,600 m2")
    assert size_names(None)[0] == "< 16 px"
