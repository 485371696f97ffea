from functools import partial

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torchgeo.datasets import NonGeoDataset

from zoo.datasets import PatchDataset, Synthetic
from zoo.datasets.synthetic import SceneConfig
from zoo.datasets.synthetic.synthetic_dataset import split_scenes
from zoo.errors import ConfigError, UnknownNameError
from zoo.physics import PAPER_CHANNELS


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("synthetic")


@pytest.fixture(scope="module")
def test_split(root):
    return Synthetic(root, "test", scenes=3)


def test_it_is_a_torchgeo_data_set_of_the_zoo(test_split):
    assert isinstance(test_split, PatchDataset)
    assert isinstance(test_split, NonGeoDataset)
    assert test_split.bands == PAPER_CHANNELS
    assert test_split.pixel_size == 10.0
    assert len(test_split) == 16


def test_a_sample(test_split):
    sample = test_split[0]
    assert sample["image"].shape == (7, 128, 128)
    assert sample["image"].dtype == torch.float32
    assert sample["mask"].shape == (128, 128)
    assert sample["mask"].dtype == torch.int64
    masks = torch.stack([test_split[i]["mask"] for i in range(16)])
    assert masks.unique().tolist() == [0, 1]


def test_patches_have_a_group_and_a_place(test_split):
    assert [(p.row, p.col) for p in test_split.patches[:5]] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]
    assert {p.group for p in test_split.patches} == {"subtropical-post-2"}
    assert len({p.name for p in test_split.patches}) == 16
    # Neighbours on the ground continue each other: relief has no jump at the seam.
    left, right, far = (test_split[i]["image"][5].numpy() for i in (0, 1, 15))
    assert np.abs(left[:, -1] - right[:, 0]).mean() < 15 < np.abs(left[:, -1] - far[:, 0]).mean()


def test_transforms_are_applied_and_the_cache_is_not_written_through(test_split, root):
    before = test_split[0]["image"].clone()
    doubled = Synthetic(root, "test", lambda s: {**s, "image": s["image"].mul_(2)}, scenes=3)
    assert torch.equal(doubled[0]["image"], before * 2)
    assert torch.equal(doubled[0]["image"], before * 2)


def test_truth_and_rain(test_split):
    truth = test_split.truth(3)
    assert set(truth) == {"landslide_id", "visibility", "safety", "wetness", "cover"}
    assert all(values.shape == (128, 128) for values in truth.values())
    rain, factor = test_split.rain(3)
    assert rain.intensity > 0
    assert factor == pytest.approx((rain.intensity / 4.291072) ** 1.2 * rain.duration**0.8, rel=1e-5)


def test_plots(test_split):
    sample = test_split[2]
    figure = test_split.plot({**sample, "prediction": sample["mask"]}, suptitle="a patch")
    assert isinstance(figure, Figure)
    assert [ax.get_title() for ax in figure.axes] == ["relief", "NDVI", "LSI", "mask", "prediction"]
    assert len(test_split.plot(sample, show_titles=False).axes) == 4


def test_phases_seeds_and_splits_never_mix(root, monkeypatch):
    small = partial(SceneConfig, size=128, margin=16)
    monkeypatch.setattr("zoo.datasets.synthetic.synthetic_dataset.SceneConfig", small)
    test = Synthetic(root, "test", scenes=3)
    before = Synthetic(root, "test", scenes=3, phase="pre")
    other = Synthetic(root, "val", scenes=3)
    assert len({data.fingerprint() for data in (test, before, other)}) == 3
    assert {p.group for p in before.patches}.isdisjoint(p.group for p in test.patches)
    assert {p.group for p in other.patches}.isdisjoint(p.group for p in test.patches)
    assert Synthetic(root, "test", scenes=3).fingerprint() == test.fingerprint()


@pytest.mark.parametrize(("scenes", "sizes"), [(20, (12, 4, 4)), (3, (1, 1, 1)), (4, (2, 1, 1)), (10, (6, 2, 2))])
def test_scenes_are_split_6_2_2(scenes, sizes):
    parts = [split_scenes(scenes, split) for split in ("train", "val", "test")]
    assert tuple(map(len, parts)) == sizes
    assert sorted(number for part in parts for number in part) == list(range(scenes))


def test_every_region_is_in_every_split_of_all(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        "zoo.datasets.synthetic.synthetic_dataset.obtain_scenes", lambda root, jobs, *rest: asked.extend(jobs)
    )
    for split in ("train", "val", "test"):
        asked.clear()
        Synthetic(tmp_path, split, scenes=20, region="all")
        assert {config.region for _, config in asked} == {"subtropical", "tropical", "dryland", "alpine"}


def test_the_cache_folder_comes_from_the_environment(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        "zoo.datasets.synthetic.synthetic_dataset.obtain_scenes", lambda root, *rest: asked.append(root)
    )
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    Synthetic()
    assert asked == [tmp_path / "synthetic"]


@pytest.mark.parametrize(
    ("options", "error", "problem"),
    [
        ({"split": "testing"}, UnknownNameError, "unknown split 'testing'.*Did you mean 'test'"),
        ({"phase": "before"}, ConfigError, "option phase: 'before' is not valid"),
        ({"region": "tropic"}, ConfigError, "option region: 'tropic' is not valid"),
        ({"difficulty": "simple"}, ConfigError, "option difficulty: 'simple' is not valid"),
        ({"scenes": 2}, ConfigError, "must be from 3 to 10000, not 2"),
        ({"seed": -1}, ConfigError, "seed must be from 0 to"),
    ],
)
def test_bad_options_are_refused_before_anything_is_made(options, error, problem, tmp_path):
    with pytest.raises(error, match=problem):
        Synthetic(tmp_path, **options)
    assert not list(tmp_path.iterdir())
