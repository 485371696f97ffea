from __future__ import annotations

import numpy as np
import torch

from zoo.blocks import StandardiseImage


def test_a_common_gain_and_an_offset_of_each_band_change_nothing() -> None:
    images = torch.rand(2, 3, 16, 16) * torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    changed = 1.7 * images + torch.tensor([0.3, -0.2, 5.0])[:, None, None]
    torch.testing.assert_close(StandardiseImage(0.0)(changed), StandardiseImage(0.0)(images), atol=1e-4, rtol=1e-4)


def test_the_result_is_that_of_numpy_and_keeps_the_contrast_of_the_bands() -> None:
    image = np.random.default_rng(0).normal([1.0, 2.0], [0.5, 4.0], (16, 16, 2)).transpose(2, 0, 1).astype(np.float32)
    centred = image - image.mean((1, 2), keepdims=True)
    expected = centred / np.sqrt((centred**2).mean() + 1e-2)
    found = StandardiseImage()(torch.from_numpy(image)[None])[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert found[1].std() > 5 * found[0].std()


def test_nodata_stays_zero_and_does_not_count() -> None:
    image = torch.rand(1, 3, 8, 8) + 1
    border = torch.zeros(1, 3, 8, 12)
    border[..., :8] = image
    found = StandardiseImage()(border)
    torch.testing.assert_close(found[..., :8], StandardiseImage()(image))
    assert (found[..., 8:] == 0).all()


def test_an_image_of_nodata_or_of_one_value_gives_zeros() -> None:
    for value in (0.0, 3.0):
        assert (StandardiseImage()(torch.full((2, 3, 8, 8), value)).abs() < 1e-6).all()


def test_half_precision_keeps_its_dtype() -> None:
    assert StandardiseImage()(torch.rand(1, 3, 8, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16
