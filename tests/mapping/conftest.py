"""Small scenes and predictors, and a bundle that any scene of two bands can be mapped with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import Affine, from_origin
from torch import Tensor, nn

from tests.rasters.geotiffs import write_geotiff
from zoo.datasets.statistics import BandStatistics, Statistics
from zoo.physics.bands import Band
from zoo.registry import create_model
from zoo.training.bundle import Bundle, TrainingData
from zoo.training.bundle_layout import ComputeFormat, Environment
from zoo.training.predictor import Predictor
from zoo.training.recipes import get_recipe

BANDS = (Band("NDVI", "1"), Band("slope", "degree"))
PIXEL = 10.0
CORNER = (600_000.0, 3_800_000.0)


class SmallNet(nn.Module):
    """Two 5x5 convolutions: a pixel sees four more on every side, and zeros beyond the edge of the image."""

    REACH = 4

    def __init__(self, bands: int = 2) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(bands, 6, 5, padding=2), nn.Tanh(), nn.Conv2d(6, 2, 5, padding=2)
        ).requires_grad_(False)
        for parameter in self.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


@pytest.fixture
def predictor() -> Predictor:
    """:class:`SmallNet` behind the statistics of :func:`make_image`."""
    return Predictor(SmallNet(), [0.2, 25.0], [0.3, 12.0]).eval()


def make_image(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """NDVI and slope with hills and noise, float32 (2, rows, columns)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    hills = np.sin(x / 17.0) * np.cos(y / 23.0)
    image = np.stack([0.2 + 0.3 * hills, 25 + 12 * np.cos(x / 31.0 + y / 13.0)])
    return (image + rng.normal(0, [[[0.1]], [[3.0]]], image.shape)).astype(np.float32)


WriteScene = Callable[..., Path]


@pytest.fixture
def write_scene(tmp_path: Path) -> WriteScene:
    """Write an image with its bands as ``szène.tif``, or under another name."""

    def write(
        image: np.ndarray,
        name: str = "szène.tif",
        *,
        bands: tuple[Band, ...] | None = BANDS,
        crs: str | None = "EPSG:32643",
        transform: Affine | None = None,
        **profile: Any,
    ) -> Path:
        path = tmp_path / name
        about = {"crs": crs, "transform": transform or from_origin(*CORNER, PIXEL, PIXEL), "nodata": np.nan, **profile}
        write_geotiff(path, image, names=[(band.name, band.unit) for band in bands or ()], **about)
        return path

    return write


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow U-Net on :data:`BANDS` with random weights, saved."""
    options = {"widths": [4, 4, 4, 4, 4]}
    torch.manual_seed(0)
    model = create_model("unet", 2, 2, **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            # Statistics as training leaves them; with 0 and 1 the small weights would give 0.5 everywhere.
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.05, 0.2)
    entries = tuple(
        BandStatistics(band.name, mean, std, minimum=0.0, maximum=1.0, low=0.0, high=1.0, count=10)
        for band, mean, std in zip(BANDS, (0.2, 25.0), (0.3, 12.0), strict=True)
    )
    made = Bundle(
        model="unet",
        options=options,
        bands=BANDS,
        statistics=Statistics(bands=entries, patches=3, source="abc"),
        compute_format=ComputeFormat("fp32", True),
        class_names=("background", "landslide"),
        threshold=0.4,
        metrics={"dice": 0.5},
        data=TrainingData("folder", {"root": "data"}, {"test": "abc"}),
        recipe=get_recipe("quick"),
        seed=1,
        environment=Environment(cores=2),
        state=model.state_dict(),
    )
    folder = tmp_path_factory.mktemp("bündel")
    made.save(folder)
    return folder


def read(path: Path) -> np.ndarray:
    """The first band of a file, as it is written."""
    with rasterio.open(path) as file:
        values: np.ndarray = file.read(1)
        return values
