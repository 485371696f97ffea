"""Evaluations of parts of a split add up to the one of the whole, image by image and in its order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoo.schema import to_plain
from zoo.training.compute import ComputeFormat
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


def measured(images: Tensor, masks: Tensor) -> Evaluation:
    predictor = Predictor(Bright(), [0.0], [1.0])
    batches = ({"image": image[None], "mask": mask[None]} for image, mask in zip(images, masks, strict=True))
    return evaluate(predictor, ComputeFormat("fp32", False), batches, 0.5)


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


def test_parts_without_valid_pixels_have_no_loss(split: tuple[Tensor, Tensor]) -> None:
    images, masks = split
    assert np.isnan(Evaluation.concatenate([measured(images[4:5], masks[4:5])], [[0]]).loss)
