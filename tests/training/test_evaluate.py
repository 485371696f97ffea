"""Evaluations of parts of a split add up to the one of the whole, image by image and in its order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoo.schema import to_plain
from zoo.training.bundle_layout import ComputeFormat
from zoo.training.evaluate import IGNORE_INDEX, Evaluation, evaluate
from zoo.training.predictor import Predictor


class Bright(nn.Module):
    """Calls bright pixels a landslide."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([-images, images], 1)


@pytest.fixture
def split() -> tuple[Tensor, Tensor]:
    """Six images of one band and their masks, one of which knows nothing."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(6, 1, 8, 8, generator=generator)
    masks = (images[:, 0] + torch.randn(6, 8, 8, generator=generator) > 0.5).long()
    masks[4] = IGNORE_INDEX
    masks[1, :3] = IGNORE_INDEX
    return images, masks


def measured(images: Tensor, masks: Tensor, threshold: float = 0.5) -> Evaluation:
    predictor = Predictor(Bright(), [0.0], [1.0])
    batches = ({"image": image[None], "mask": mask[None]} for image, mask in zip(images, masks, strict=True))
    return evaluate(predictor, ComputeFormat("fp32", False), batches, threshold)


@pytest.mark.parametrize("places", [[[0, 1, 2, 3, 4, 5]], [[1, 4], [0, 5], [2, 3]], [[4], [5, 0, 1, 2, 3]]])
def test_parts_join_to_the_whole(split: tuple[Tensor, Tensor], places: list[list[int]]) -> None:
    images, masks = split
    whole = measured(images, masks)
    joined = Evaluation.concatenate([measured(images[one], masks[one]) for one in places], places)
    assert len(joined) == 6
    assert joined.threshold == whole.threshold
    assert joined.loss == pytest.approx(whole.loss)
    for name in ("counts", "objects", "boundaries", "histogram", "logit_histogram"):
        assert to_plain(getattr(joined, name)) == to_plain(getattr(whole, name)), name
    np.testing.assert_array_equal(joined.masks, whole.masks)
    assert to_plain(joined.logit_histograms) == to_plain(whole.logit_histograms)
    np.testing.assert_array_equal(joined.distances, whole.distances)
    mean, std = images.double().mean((1, 2, 3)), images.double().std((1, 2, 3), correction=0)
    np.testing.assert_allclose(joined.distances, (mean.square() + std.log().square()).sqrt(), rtol=1e-4)
    assert joined.side == 8


def test_parts_of_different_thresholds_keep_the_mean(split: tuple[Tensor, Tensor]) -> None:
    images, masks = split
    parts = [measured(images[:2], masks[:2], 0.2), measured(images[2:], masks[2:], 0.5)]
    assert Evaluation.concatenate(parts, [[0, 1], [2, 3, 4, 5]]).threshold == pytest.approx(0.4)


def test_parts_without_valid_pixels_have_no_loss(split: tuple[Tensor, Tensor]) -> None:
    images, masks = split
    assert np.isnan(Evaluation.concatenate([measured(images[4:5], masks[4:5])], [[0]]).loss)


class LeftNeighbour(nn.Module):
    """Logits of the pixel to the left, so that every view says something else."""

    def forward(self, images: Tensor) -> Tensor:
        moved = images.roll(1, 3)
        return torch.cat([-moved, moved], 1)


def test_views_are_turned_back_before_their_mean(split: tuple[Tensor, Tensor]) -> None:
    """The eight views see each of the four neighbours twice."""
    images, masks = split
    predictor = Predictor(LeftNeighbour(), [0.0], [1.0])
    batches = [{"image": images, "mask": masks}]
    found = evaluate(predictor, ComputeFormat("fp32", False), batches, 0.5, tta=True)
    values = images[:, 0].numpy().astype(np.float64)
    probability = [1 / (1 + np.exp(-2 * np.roll(values, step, axis))) for axis in (1, 2) for step in (1, -1)]
    called = np.mean(probability, axis=0) >= 0.5
    np.testing.assert_array_equal(found.counts.tp, (called & (masks.numpy() == 1)).sum((1, 2)))
    np.testing.assert_array_equal(found.counts.fp, (called & (masks.numpy() == 0)).sum((1, 2)))
    plain = evaluate(predictor, ComputeFormat("fp32", False), batches, 0.5)
    assert not np.array_equal(plain.counts.tp, found.counts.tp)
