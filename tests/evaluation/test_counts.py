"""Counts add up, and agree with scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from zoo.errors import ResultError
from zoo.evaluation.counts import Counts

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
    assert Counts.concatenate(halves).to_dict() == counts.to_dict()
    assert Counts.from_dict(counts.to_dict()).to_dict() == counts.to_dict()


def test_images_of_nodata_alone_count_nothing() -> None:
    counts = Counts.from_masks(torch.ones(1, 2, 2, dtype=torch.bool), torch.full((1, 2, 2), 255))
    assert counts.pixels.tolist() == [0]
    assert not counts.has_landslide[0]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"tp": [1], "fp": [1], "fn": [1]}, "lack tn"),
        ({"tp": [1], "fp": [1], "fn": [1], "tn": [1, 2]}, "differ in shape"),
        ({"tp": [-1], "fp": [1], "fn": [1], "tn": [1]}, "negative"),
        ({"tp": [0.5], "fp": [1], "fn": [1], "tn": [1]}, "not integers"),
    ],
)
def test_counts_that_cannot_be_are_refused(values: dict[str, list[int]], reason: str) -> None:
    with pytest.raises(ResultError, match=reason):
        Counts.from_dict(values)


def test_masks_of_another_shape_are_refused() -> None:
    with pytest.raises(ResultError, match="differ in shape"):
        Counts.from_masks(torch.zeros(1, 2, 2, dtype=torch.bool), torch.zeros(1, 2, 3))
