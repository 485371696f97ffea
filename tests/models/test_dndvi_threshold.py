"""The baseline without training: Otsu's threshold against OpenCV's, and what the rule calls landslide."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import ConfigError, ModelError
from zoo.models.dndvi_threshold import DndviThreshold, otsu


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 255), min_size=2, max_size=300).filter(lambda values: len(set(values)) > 1))
def test_otsu_parts_the_values_as_opencv_does(values: list[int]) -> None:
    image = np.array(values, np.uint8)
    counts = torch.from_numpy(np.bincount(image, minlength=256).astype(np.float64))
    ours = otsu(counts, (-0.5, 255.5))
    theirs, _ = cv2.threshold(image, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)

    def between(threshold: float) -> float:
        low, high = image[image <= threshold].astype(float), image[image > threshold].astype(float)
        return low.size * high.size * (low.mean() - high.mean()) ** 2

    assert between(ours) >= between(theirs) * (1 - 1e-9)


def test_otsu_of_two_groups_lies_in_the_middle_of_the_gap() -> None:
    counts = torch.zeros(100, dtype=torch.float64)
    counts[10], counts[60] = 900, 100
    # Every edge from 0.11 to 0.60 parts the groups.
    assert otsu(counts, (0.0, 1.0)) == pytest.approx((0.11 + 0.60) / 2)


def image(*columns: tuple[float, float]) -> torch.Tensor:
    """Pixels of (dNDVI, slope) side by side."""
    return torch.tensor(columns, dtype=torch.float32).T[:, None]


BANDS = ("DEM", "slope", "dNDVI")


def test_steep_ground_that_lost_its_green_is_landslide() -> None:
    model = DndviThreshold(3, bands=BANDS, threshold=0.2)
    pixels = torch.tensor([[1000, 30, -0.3], [1000, 30, -0.1], [1000, 5, -0.3], [1000, 10, -0.21], [0, 30, 0.4]])
    logits = model(pixels.T[None, :, None])
    assert logits.shape == (1, 2, 1, 5)
    assert logits.softmax(1)[0, 1, 0].gt(0.5).tolist() == [True, False, False, True, False]
    single = DndviThreshold(3, 1, bands=BANDS, threshold=0.2)(pixels.T[None, :, None])
    assert torch.equal(single.gt(0), logits[:, 1:].gt(0))


def test_the_threshold_is_that_of_steep_and_known_pixels_without_labels() -> None:
    model = DndviThreshold(2)
    steep = [(-0.4, 30.0)] * 10 + [(0.0, 30.0)] * 90
    model.calibrate([image(*steep, *[(-1.5, 2.0)] * 500), image((np.nan, 40.0), (-1.5, np.nan), (0.0, 20.0))])
    assert float(model.threshold) == pytest.approx(0.2, abs=0.01)
    fixed = DndviThreshold(2, threshold=0.35)
    fixed.calibrate([image(*steep)])
    assert float(fixed.threshold) == pytest.approx(0.35)


def test_flat_or_constant_images_have_no_threshold() -> None:
    for pixels in ([(-0.4, 3.0), (0.1, 2.0)], [(-0.4, 30.0)] * 3):
        with pytest.raises(ModelError, match="no two different values of dNDVI on slopes of at least 10 degrees"):
            DndviThreshold(2).calibrate([image(*pixels)])


@pytest.mark.parametrize(
    ("options", "error", "problem"),
    [
        ({"bands": ("a", "b")}, ConfigError, "2 names of bands for 3 bands"),
        ({"bands": ("NDVI", "slope", "DEM")}, ModelError, "no band dNDVI"),
        ({"bands": ("dNDVI", "NDVI", "DEM")}, ModelError, "no band slope"),
        ({"threshold": 0.0}, ConfigError, "NDVI cannot fall by 0"),
        ({"threshold": 2.5}, ConfigError, "NDVI cannot fall by 2.5"),
        ({"min_slope": 95.0}, ConfigError, "95 degrees"),
    ],
)
def test_bad_options(options: dict[str, object], error: type[Exception], problem: str) -> None:
    with pytest.raises(error, match=problem):
        DndviThreshold(3, **options)  # type: ignore[arg-type]
