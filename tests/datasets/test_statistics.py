"""Statistics of the training split against plain numpy, and the normalisation made of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zoo.datasets.base import Patch, PatchDataset
from zoo.datasets.statistics import BandStatistics, Statistics, compute_statistics, normalisation_scale, normalise
from zoo.errors import ConfigError, DataError
from zoo.physics.bands import Band
from zoo.schema import decode_json, encode_json, from_plain, to_plain
from zoo.training.predictor import Predictor


class Memory(PatchDataset):
    """Images held in memory, every pixel background."""

    def __init__(self, images, nodata=None, split="train") -> None:
        self.images = np.asarray(images, dtype=np.float32)
        self.bands = tuple(Band(f"b{index}", "1", nodata=nodata) for index in range(self.images.shape[1]))
        self.split = split
        self.patches = tuple(Patch(f"p{index}", "g") for index in range(len(self.images)))
        self.transforms = lambda sample: {**sample, "image": sample["image"] * math.nan}

    def read(self, index):
        return self.images[index].copy(), np.zeros(self.images.shape[2:], np.uint8)

    def _verify(self) -> None: ...

    def fingerprint(self) -> str:
        return "f" * 64


def test_statistics_agree_with_numpy():
    rng = np.random.default_rng(0)
    images = rng.normal([[[[5]], [[-300]], [[0.01]]]], [[[[2]], [[50]], [[0.001]]]], (20, 3, 16, 12))
    done = []
    found = compute_statistics(Memory(images), progress=lambda *counts: done.append(counts))
    exact = images.astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(found.mean, exact.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(found.std, exact.std((0, 2, 3)), rtol=1e-12)
    for band, statistics in enumerate(found.bands):
        values = exact[:, band]
        assert (statistics.minimum, statistics.maximum) == (values.min(), values.max())
        np.testing.assert_allclose((statistics.low, statistics.high), np.percentile(values, (0.5, 99.5)), rtol=1e-6)
        assert statistics.count == 20 * 16 * 12
    assert (found.patches, found.source) == (20, "f" * 64)
    assert done[-1] == (20, 20)


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.just(2), st.integers(1, 5), st.integers(1, 5)),
        elements=st.one_of(st.just(np.nan), st.just(np.float32(-9999)), st.floats(-1e4, 1e4, width=32)),
    )
)
def test_missing_pixels_count_nowhere(images):
    valid = [image[np.isfinite(image) & (image != -9999)].astype(np.float64) for image in np.moveaxis(images, 1, 0)]
    dataset = Memory(images, nodata=-9999.0)
    if not all(values.size for values in valid):
        with pytest.raises(DataError, match=r"band 'b\d' has no valid pixel"):
            compute_statistics(dataset)
        return
    found = compute_statistics(dataset)
    for values, band in zip(valid, found.bands, strict=True):
        assert band.count == values.size
        assert band.mean == pytest.approx(values.mean(), rel=1e-9, abs=1e-9)
        assert band.std == pytest.approx(values.std(), rel=1e-6, abs=1e-6)


def test_digits_are_kept_on_a_high_plateau():
    # The textbook sum of squares loses every digit here, in float32 and nearly so in float64.
    steps = np.tile([0.0, 1.0], 128)
    images = (8_000_000 + steps).reshape(1, 1, 16, 16).repeat(50, 0)
    band = compute_statistics(Memory(images)).bands[0]
    assert band.std == pytest.approx(0.5, rel=1e-9)
    assert band.mean == pytest.approx(8_000_000.5, rel=1e-15)


def test_percentiles_of_more_pixels_than_are_sampled():
    rng = np.random.default_rng(1)
    images = rng.exponential(1, (160, 1, 128, 128))
    band = compute_statistics(Memory(images)).bands[0]
    assert images.size > 2_000_000
    assert (images < band.low).mean() == pytest.approx(0.005, abs=2e-4)
    assert (images < band.high).mean() == pytest.approx(0.995, abs=2e-4)


def test_percentiles_of_a_band_with_few_valid_pixels(monkeypatch):
    monkeypatch.setattr("zoo.physics.running.MAX_SAMPLED_VALUES", 2)
    images = np.full((9, 1, 8, 8), np.nan)
    images[1:, 0, 3, 4] = 7
    band = compute_statistics(Memory(images)).bands[0]
    assert (band.low, band.high, band.count) == (7, 7, 8)


@pytest.mark.parametrize("split", ["val", "test"])
def test_only_the_training_split_has_statistics(split):
    with pytest.raises(ConfigError, match=rf"statistics need the training split, but this is the '{split}' split"):
        compute_statistics(Memory(np.ones((1, 1, 2, 2)), split=split))


def test_infinities_and_empty_splits_are_refused():
    images = np.ones((2, 1, 4, 4))
    images[1, 0, 0, 0] = np.inf
    with pytest.raises(DataError, match=r"band 'b0' of p1: contains an infinite value"):
        compute_statistics(Memory(images))
    with pytest.raises(DataError, match=r"the training split is empty"):
        compute_statistics(Memory(np.ones((0, 1, 4, 4))))


@pytest.mark.parametrize("nodata", [None, -1.0, math.nan])
def test_statistics_survive_json(nodata):
    found = compute_statistics(Memory(np.random.default_rng(0).random((3, 2, 4, 4)), nodata=nodata))
    again = decode_json(encode_json(found), Statistics)
    assert repr(again) == repr(found)


@pytest.mark.parametrize(
    "change",
    [
        lambda band: band.pop("mean"),
        lambda band: band.update(std=math.inf),
        lambda band: band.update(mean="five"),
        lambda band: band.update(count=None),
    ],
)
def test_broken_statistics_are_refused(change):
    values = to_plain(compute_statistics(Memory(np.random.default_rng(0).random((3, 2, 4, 4)))))
    change(values["bands"][1])
    with pytest.raises(DataError, match=r"not a valid set of band statistics"):
        from_plain(values, Statistics, what="set of band statistics", error=DataError)


def statistics(*bands):
    return Statistics(
        tuple(
            BandStatistics(f"b{index}", mean, std, -1, 1, -1, 1, 9, nodata)
            for index, (mean, std, nodata) in enumerate(bands)
        ),
        1,
    )


def test_normalise_gives_mean_zero_and_deviation_one():
    images = np.random.default_rng(0).normal(50, 7, (10, 2, 8, 8))
    dataset = Memory(images)
    found = compute_statistics(dataset)
    out = normalise(torch.from_numpy(dataset.images), found)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std((0, 2, 3), correction=0), torch.ones(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(out[3], normalise(torch.from_numpy(dataset.images[3]), found))


def test_normalise_turns_missing_pixels_into_the_mean():
    image = torch.tensor([[[1.0, -9999.0, math.nan]], [[-9999.0, 4.0, math.nan]]])
    out = normalise(image, statistics((3.0, 2.0, -9999.0), (0.0, 2.0, None)))
    assert out.tolist() == [[[-1.0, 0.0, 0.0]], [[-4999.5, 2.0, 0.0]]]
    assert image[0, 0, 1] == -9999


def test_normalise_only_centres_a_constant_band():
    out = normalise(torch.full((1, 2, 2), 5.0), statistics((5.0, 0.0, None)))
    assert (out == 0).all()
    assert normalise(torch.full((1, 2, 2), 7.0), statistics((5.0, 0.0, None))).unique().tolist() == [2.0]
    assert statistics((0.0, 0.0, None), (5.0, 1e-12, None), (5.0, 2.0, None)).scale.tolist() == [1.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("mean", "std", "scale"),
    [
        (0.0, 0.0, 1.0),
        (5.0, 0.0, 1.0),
        (1000.0, 1e-5, 1.0),
        (-1000.0, 1e-5, 1.0),
        (1000.0, 1e-3, 1e-3),
        (0.0, 1e-12, 1e-12),
        (5.0, 2.0, 2.0),
    ],
)
def test_a_band_is_constant_when_float32_cannot_hold_its_differences(mean, std, scale):
    assert normalisation_scale([mean], [std]).tolist() == [scale]


@pytest.mark.parametrize("std", [0.0, 1e-12, 1e-5, 1e-3, 250.0])
def test_the_predictor_and_the_data_set_normalise_alike(std):
    image = torch.tensor([999.5, 1000.0, 1001.0, math.nan]).reshape(1, 1, 2, 2)
    predictor = Predictor(torch.nn.Identity(), [1000.0], [std])
    assert torch.equal(predictor.normalise(image), normalise(image, statistics((1000.0, std, None))))


def test_normalise_takes_integers_and_keeps_precision():
    one = statistics((1.0, 2.0, None))
    assert normalise(torch.ones(1, 2, 2, dtype=torch.uint8), one).dtype == torch.float32
    assert normalise(torch.ones(1, 2, 2, dtype=torch.float64), one).dtype == torch.float64


@pytest.mark.parametrize("shape", [(3, 4, 4), (2, 3, 4, 4), (4, 4)])
def test_normalise_refuses_another_number_of_bands(shape):
    with pytest.raises(DataError, match=r"the image has \d bands, but the statistics have 2"):
        normalise(torch.zeros(shape), statistics((0.0, 1.0, None), (0.0, 1.0, None)))
