"""Boundary F1 agrees with distances computed pair by pair."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from zoo.errors import ResultError
from zoo.evaluation.boundaries import DISTANCES, BoundaryCounts


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


def test_nothing_predicted_is_zero_and_nothing_at_all_is_undefined() -> None:
    truth = np.zeros((1, 8, 8), np.int64)
    assert np.isnan(BoundaryCounts.from_masks(truth == 1, truth).f1()).all()
    truth[0, 2:5, 2:5] = 1
    assert BoundaryCounts.from_masks(np.zeros(truth.shape, bool), truth).f1().tolist() == [0, 0, 0]


def test_counts_survive_a_result_file_and_edits_are_seen() -> None:
    truth = np.zeros((2, 8, 8), np.int64)
    truth[:, 2:5, 2:5] = 1
    counts = BoundaryCounts.from_masks(truth == 1, truth)
    values = counts.to_dict()
    assert BoundaryCounts.from_dict(values).to_dict() == values
    assert BoundaryCounts.concatenate([counts, counts]).truth_near.shape == (4, 3)
    assert BoundaryCounts.from_dict(BoundaryCounts.concatenate([]).to_dict()).truth.shape == (0,)
    with pytest.raises(ResultError, match="near than there are"):
        BoundaryCounts.from_dict({**values, "truth": [1, 1]})
    with pytest.raises(ResultError, match="lack predicted_near, truth"):
        BoundaryCounts.from_dict({"predicted": []})
