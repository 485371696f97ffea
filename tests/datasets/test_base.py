"""Test what every data set shares: samples, pictures, and cheap imports."""

from __future__ import annotations

import doctest
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from torchgeo.datasets import NonGeoDataset

import zoo.datasets
from zoo.datasets.base import IGNORE, Patch, PatchDataset, stretch
from zoo.physics.bands import PAPER_CHANNELS, Band, display_bands


class Memory(PatchDataset):
    """Three patches held in memory."""

    def __init__(self, bands=PAPER_CHANNELS, transforms=None) -> None:
        self.bands = bands
        self.split = "train"
        self.transforms = transforms
        self.patches = tuple(Patch(f"p{index}", "g") for index in range(3))

    def read(self, index: int) -> tuple[Any, Any]:
        mask = np.zeros((8, 9), np.uint8)
        mask[index], mask[7] = 1, IGNORE
        return np.full((len(self.bands), 8, 9), index, np.float32), mask

    def _verify(self) -> None: ...

    def fingerprint(self) -> str:
        return "0" * 64


def test_samples_have_the_promised_types():
    dataset = Memory()
    assert isinstance(dataset, NonGeoDataset)
    assert len(dataset) == 3
    sample = dataset[1]
    assert set(sample) == {"image", "mask"}
    assert (sample["image"].dtype, sample["image"].shape) == (torch.float32, (7, 8, 9))
    assert (sample["mask"].dtype, sample["mask"].shape) == (torch.int64, (8, 9))
    assert sample["mask"].unique().tolist() == [0, 1, IGNORE]
    assert (dataset[-1]["image"] == 2).all()
    assert [int(sample["image"].max()) for sample in dataset] == [0, 1, 2]


@pytest.mark.parametrize("index", [3, -4])
def test_index_outside_the_split(index):
    with pytest.raises(IndexError, match=r"of a split that holds 3"):
        Memory()[index]


def test_transforms_are_applied():
    sample = Memory(transforms=lambda sample: {**sample, "image": sample["image"] + 10})[1]
    assert (sample["image"] == 11).all()


def test_plot_draws_image_mask_and_prediction():
    before = plt.get_fignums()
    dataset = Memory()
    sample = dataset[0]
    figure = dataset.plot(sample, suptitle="a title")
    assert [ax.get_title() for ax in figure.axes] == ["SMI, NDBI, NDVI", "mask"]
    assert figure.get_suptitle() == "a title"
    figure = dataset.plot({**sample, "prediction": sample["mask"]}, show_titles=False)
    assert [ax.get_title() for ax in figure.axes] == ["", "", ""]
    drawn = figure.axes[2].images[0]
    # The landslide is drawn in its colour, ignored pixels in grey.
    assert drawn.cmap(drawn.norm(drawn.get_array()[0, 0])) == pytest.approx((0.894, 0.341, 0.180, 1), abs=0.01)
    assert drawn.cmap(drawn.norm(drawn.get_array()[7, 0])) == pytest.approx((0.604, 0.627, 0.651, 1), abs=0.01)
    assert plt.get_fignums() == before


def test_plot_of_one_or_two_bands_is_grey():
    dataset = Memory(bands=PAPER_CHANNELS[:2])
    assert dataset.plot(dataset[0]).axes[0].images[0].get_array().shape == (8, 9)


def test_bands_to_look_at():
    def bands(*names):
        return tuple(Band(name, "1") for name in names)

    assert display_bands(bands("Blue", "GREEN", "red", "nir")) == (2, 1, 0)
    assert display_bands(bands("a", "b", "c", "d")) == (0, 1, 2)
    assert display_bands(bands("a", "b")) == (0,)
    assert display_bands(bands("B1", "B2", "B3", "B4", "B8")) == (3, 2, 1)
    dates = [f"{band}_{date}" for date in ("pre", "post") for band in ("B02", "B03", "B04")]
    assert display_bands(bands(*dates)) == (5, 4, 3)


def test_stretch_runs_between_percentiles_and_survives_nan():
    values = np.arange(101, dtype=np.float32).reshape(1, 1, 101).repeat(3, 0)
    values[1] = 5
    values[2] = np.nan
    out = stretch(values)
    assert out.shape == (1, 101, 3)
    assert out[0, 2, 0] == 0
    assert out[0, 98, 0] == 1
    assert out[0, 50, 0] == pytest.approx(0.5)
    assert (out[..., 1] == 0.5).all()
    assert (out[..., 2] == 0).all()


def test_the_example_in_the_docstring_runs():
    found = doctest.DocTestFinder(recurse=False).find(PatchDataset, "PatchDataset", globs={})
    assert sum(len(test.examples) for test in found) >= 6
    for test in found:
        assert doctest.DocTestRunner().run(test).failed == 0


def test_read_is_all_that_a_data_set_must_implement():
    assert PatchDataset.__abstractmethods__ == {"read"}

    class Plain(Memory):
        fingerprint = PatchDataset.fingerprint
        _verify = PatchDataset._verify

    dataset = Plain()
    dataset._verify()
    assert dataset.fingerprint() == Plain().fingerprint()
    assert len(dataset.fingerprint()) == 64
    changed = Plain()
    changed.read = lambda index: (Plain().read(index)[0] + 1, Plain().read(index)[1])
    assert changed.fingerprint() != dataset.fingerprint()


def test_lazy_names_lead_home():
    for name in zoo.datasets.__all__:
        if name != "Synthetic":
            assert getattr(zoo.datasets, name) is not None
        assert name in dir(zoo.datasets)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        zoo.datasets.Nothing  # noqa: B018


def test_package_and_specs_import_nothing_heavy():
    code = "import sys, zoo.datasets.builtin; print(sorted({'torch', 'numpy', 'torchgeo'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
