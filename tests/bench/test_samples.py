"""Six patches are chosen by the truth alone, and what is shown of them is what was counted."""

from __future__ import annotations

import json
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bench.conftest import finished, plain
from zoo.bench.config import TrialConfig
from zoo.bench.results import load_results
from zoo.bench.samples import Pictures, Samples, choose_patches, load_pictures, pictures_path
from zoo.datasets.base import IGNORE
from zoo.errors import ResultError
from zoo.evaluation.counts import Counts
from zoo.jobs import Work
from zoo.schema import from_plain, to_plain

Make = Callable[..., TrialConfig]
Measured = Callable[..., dict[str, Any]]


def test_patches_are_quantiles_of_landslide_area() -> None:
    area = np.array([0, *range(1, 102), 0, 0])
    assert choose_patches(area) == [102, 11, 31, 51, 71, 91]
    assert choose_patches(np.arange(1, 102)) == [10, 26, 42, 58, 74, 90], "none is empty: six quantiles"
    assert choose_patches(np.array([0, 0, 0])) == [1]
    assert choose_patches(np.array([5, 3])) == [1, 0]
    assert choose_patches(np.zeros(0, np.int64)) == []


def test_equal_areas_keep_the_order_of_the_split() -> None:
    assert choose_patches(np.array([7, 7, 7, 7, 7, 7])) == choose_patches(np.arange(1, 7))


def samples(shape: tuple[int, int] = (5, 7)) -> tuple[Samples, np.ndarray]:
    masks = np.random.default_rng(0).random((4, *shape)) < 0.4
    packed = np.packbits(masks.reshape(4, -1), axis=1)
    return Samples.take([2, 0], packed), masks


def test_masks_survive_json_whatever_their_shape() -> None:
    kept, masks = samples()
    again = from_plain(json.loads(json.dumps(to_plain(kept))), Samples)
    assert again.indices == (2, 0)
    assert (again.mask(0, (5, 7)) == masks[2]).all()
    assert (again.mask(1, (5, 7)) == masks[0]).all()
    with pytest.raises(ResultError, match="does not hold 9 x 9 pixels"):
        again.mask(0, (9, 9))


def test_predictions_that_were_not_counted_are_refused() -> None:
    kept, masks = samples()
    predicted = masks.sum(axis=(1, 2))
    counts = Counts(predicted, 0 * predicted, 0 * predicted, 35 - predicted)
    kept.check(counts, (5, 7))
    with pytest.raises(ResultError, match=r"patch 2 does not match its counts: \d+ pixels of landslide, \d+ counted"):
        kept.check(Counts(predicted + 1, 0 * predicted, 0 * predicted, 34 - predicted), (5, 7))
    with pytest.raises(ResultError, match="shows patch 2 of a test split of 2"):
        kept.check(counts.select([0, 1]), (5, 7))


@pytest.mark.parametrize("text", ["", "no base64!", "AAAA", 5])
def test_damaged_masks_are_refused(text: object) -> None:
    with pytest.raises(ResultError):
        from_plain({"indices": [0], "masks": [text]}, Samples).mask(0, (5, 7))
    with pytest.raises(ResultError):
        from_plain({"indices": [0, 1], "masks": to_plain(samples()[0])["masks"][:1]}, Samples)


def test_a_mask_never_unpacks_to_more_than_its_patch() -> None:
    bomb = zlib.compress(bytes(200_000_000), 9)
    kept = Samples((0,), (bomb,))
    tracemalloc.start()
    with pytest.raises(ResultError, match="does not hold 128 x 128 pixels"):
        kept.mask(0, (128, 128))
    with pytest.raises(ResultError, match="too large"):
        kept.mask(0, (1 << 20, 1 << 20))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1_000_000


@pytest.mark.parametrize("name", ["../../../etc/secret", "/etc/secret", "..", "a" * 300, "b\x00c"])
def test_pictures_stay_inside_their_folder_whatever_the_data_are_called(
    name: str, tmp_path: Path, trial: Make, measured: Measured
) -> None:
    config = trial("unet")
    path = pictures_path(tmp_path, replace(config, data=replace(config.data, name=name)))
    assert path.parent == tmp_path / "pictures"
    assert "/" not in path.name
    assert len(path.name) < 200


def test_pictures_are_kept_once_beside_the_results(
    tmp_path: Path, trial: Make, measured: Measured, patches: Path
) -> None:
    config = trial("unet")
    tested = config.data.open("test")
    pictures = Pictures.take([1, 0], tested)
    path = pictures_path(tmp_path, config)
    for seed in (0, 1):
        finished(trial("unet", seed=seed), {**measured(), "pictures": to_plain(pictures)}).save(tmp_path)
        text = path.read_text()
        path.write_text(f"{text}\n")
    assert path.read_text().endswith("\n\n\n"), "the second trial left it as it was"
    stored = load_pictures(tmp_path, config)
    assert stored is not None
    assert stored.names == (tested.patches[1].name, tested.patches[0].name)
    mask = tested[1]["mask"].numpy()
    assert (stored.truth(0) == ((mask != 0) & (mask != IGNORE))).all()
    assert stored.images[0].startswith(b"\xff\xd8")
    results, problems = load_results(tmp_path)
    assert not problems
    assert all("pictures" not in plain(result) for result in results)
    assert load_pictures(tmp_path, trial("unet", fingerprints={"test": "another"})) is None
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 9'))
    with pytest.raises(ResultError, match="has schema 9"):
        load_pictures(tmp_path, config)


@pytest.mark.slow
@pytest.mark.usefixtures("odd_models")
def test_a_trial_keeps_what_it_counted(tmp_path: Path, trial: Make) -> None:
    from zoo.bench.runner import TrialTask
    from zoo.bench.trial import run_trial

    config = trial()
    run = run_trial(TrialTask(config), Work({"bundle": tmp_path / "bundle"}))
    assert run.ok, run.error
    run.save(tmp_path / "results")
    (result,), problems = load_results(tmp_path / "results")
    assert not problems
    pictures = load_pictures(tmp_path / "results", config)
    assert pictures is not None
    assert result.samples is not None
    assert result.samples.indices == pictures.indices == tuple(choose_patches(result.counts.tp + result.counts.fn))
    for place, index in enumerate(pictures.indices):
        predicted, truth = result.samples.mask(place, pictures.shape), pictures.truth(place)
        assert (predicted & truth).sum() == result.counts.tp[index]
        assert (predicted & ~truth & ~pictures.ignored_pixels(place)).sum() == result.counts.fp[index]
        assert (truth & ~predicted).sum() == result.counts.fn[index]


def test_edited_predictions_are_found_when_a_result_is_read(tmp_path: Path, trial: Make, measured: Measured) -> None:
    values = measured()
    masks = np.packbits(np.arange(200).reshape(2, 100) < 41, axis=1)
    values["samples"] = to_plain(Samples.take([0, 1], masks))
    finished(trial("unet"), values).save(tmp_path)
    _, (problem,) = load_results(tmp_path)
    assert "41 pixels of landslide, 40 counted" in problem.problem
