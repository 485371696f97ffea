"""Maps of several predictions: mean and spread, tile by tile, resumed, and refused where bundles do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

import zoo
from tests.mapping.conftest import BANDS, SmallNet, WriteScene, make_image, read
from zoo.cli import run
from zoo.errors import ConfigError
from zoo.mapping import MapOptions, Scene, map_scene
from zoo.mapping.inference import SpreadForward, TileForward
from zoo.training.bundle import Bundle
from zoo.training.predictor import PlausibleRange, Predictor

OPTIONS = MapOptions(tile=128, overlap=32, dtype="float32")


def seeded(seed: int) -> Predictor:
    """A predictor with other weights."""
    net = SmallNet()
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return Predictor(net, [0.2, 25.0], [0.3, 12.0]).eval()


@pytest.fixture
def others(bundle: Path, tmp_path: Path) -> list[Path]:
    """Two more bundles of the session's architecture, with other weights."""
    first = Bundle.load(bundle)
    places = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = {
            name: value + 0.1 * torch.randn(value.shape) if value.is_floating_point() and "var" not in name else value
            for name, value in first.state.items()
        }
        places.append(tmp_path / f"seed-{seed}")
        replace(first, state=state, seed=seed, threshold=0.4 + 0.1 * seed).save(places[-1])
    return places


def test_mean_and_spread_are_those_of_the_separate_maps(
    bundle: Path, others: list[Path], write_scene: WriteScene, tmp_path: Path
) -> None:
    image = make_image(150, 130)
    image[:, 20:30, 40:60] = np.nan
    scene = write_scene(image)
    models = [zoo.load(place, device="cpu") for place in (bundle, *others)]
    separate = []
    for number, model in enumerate(models):
        model.map(scene, tmp_path / f"{number}.tif", dtype="float32")
        separate.append(read(tmp_path / f"{number}.tif"))
    report = models[0].map(scene, tmp_path / "mean.tif", ensemble=[others[0], models[2]], dtype="float32")
    stack = np.stack(separate)
    np.testing.assert_allclose(read(tmp_path / "mean.tif"), stack.mean(axis=0), atol=1e-6)
    spread = read(tmp_path / "mean-spread.tif")
    np.testing.assert_allclose(spread, stack.std(axis=0), atol=1e-6)
    assert np.isnan(spread[25, 50])
    assert report.threshold == pytest.approx((0.4 + 0.5 + 0.6) / 3)
    above = stack.mean(axis=0) >= np.float32(report.threshold)
    assert report.spread == pytest.approx((np.nanmean(spread), spread[above].mean()), rel=1e-4)
    assert report.files == (str(tmp_path / "mean.tif"), str(tmp_path / "mean-spread.tif"))
    with rasterio.open(tmp_path / "mean.tif") as file, rasterio.open(tmp_path / "mean-spread.tif") as other:
        assert file.tags()["ENSEMBLE"] == other.tags()["ENSEMBLE"] == "3"
        assert len(file.tags()["WEIGHTS_SHA256"].split(", ")) == 3
        assert other.descriptions == ("probability_spread",)
    zoo.polygons(tmp_path / "mean.tif", tmp_path / "slides.gpkg", threshold=0.3)


def test_blocks_threads_and_batches_do_not_change_a_byte(
    write_scene: WriteScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spread is blended as the mean is; small blocks join as one large block."""
    scene = write_scene(make_image(300, 280))
    predictors = [seeded(0), seeded(1)]
    found = []
    for number, (block, threads) in enumerate(((2048, 1), (128, 3))):
        monkeypatch.setattr("zoo.mapping.tiling.BLOCK", block)
        out = tmp_path / f"{number}.tif"
        with Scene([scene], BANDS) as opened:
            options = replace(OPTIONS, threads=threads, batch=1 + number)
            report = map_scene(
                predictors[0], opened, out, options, others=predictors[1:], spread_out=tmp_path / f"{number}-s.tif"
            )
        found.append((read(out), read(tmp_path / f"{number}-s.tif"), report.blocks))
    assert found[0][2] == 1 < found[1][2]
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])
    for number, predictor in enumerate(predictors):
        with Scene([scene], BANDS) as opened:
            map_scene(predictor, opened, tmp_path / f"one-{number}.tif", OPTIONS)
    mean = (read(tmp_path / "one-0.tif") + read(tmp_path / "one-1.tif")) / 2
    np.testing.assert_allclose(found[0][0], mean, atol=1e-6)


def test_the_spread_of_flips_and_rotations() -> None:
    """Against the eight views, flipped and turned by numpy."""
    predictor, image = seeded(0), make_image(40, 40)
    views = []
    for turns in range(4):
        for flip in (False, True):
            seen = np.rot90(image, turns, (1, 2))
            seen = np.ascontiguousarray(seen[:, :, ::-1] if flip else seen)
            with torch.inference_mode():
                logits = predictor(torch.from_numpy(seen)[None])
            back = predictor.landslide_probability(logits)[0].numpy()
            views.append(np.rot90(back[:, ::-1] if flip else back, -turns))
    member = TileForward(predictor, torch.device("cpu"), tta=True)
    mean, spread = SpreadForward([member])(image)
    np.testing.assert_allclose(mean, np.mean(views, axis=0), atol=1e-6)
    np.testing.assert_allclose(spread, np.std(views, axis=0), atol=1e-6)
    np.testing.assert_allclose(member(image), np.mean(views, axis=0), atol=1e-6)
    assert spread.max() > 0.01


def test_an_interrupted_ensemble_resumes(
    write_scene: WriteScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.mapping.tiling.BLOCK", 128)
    scene = write_scene(make_image(300, 280))
    predictors = [seeded(0), seeded(1)]

    def make(name: str, stop: int = 0):
        def progress(what: str, done: int, total: int) -> None:
            if what == "mapping" and done == stop:
                raise KeyboardInterrupt

        with Scene([scene], BANDS) as opened:
            return map_scene(
                predictors[0], opened, tmp_path / f"{name}.tif", OPTIONS,
                others=predictors[1:], spread_out=tmp_path / f"{name}-s.tif", progress=progress,
            )  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        make("stopped", 2)
    assert not list(tmp_path.glob("stopped*.tif"))
    assert make("stopped").resumed == 2
    make("whole")
    for end in (".tif", "-s.tif"):
        np.testing.assert_array_equal(read(tmp_path / f"stopped{end}"), read(tmp_path / f"whole{end}"))


def test_what_is_plausible_for_one_member_alone_is_not_mapped() -> None:
    narrow, wide = Predictor(SmallNet(), [0.0, 0.0], [1.0, 1.0]), Predictor(SmallNet(), [5.0, 5.0], [2.0, 0.5])
    common = PlausibleRange.common([narrow, wide])
    assert common.low.tolist() == [-10_000.0, -4_995.0]
    assert common.high.tolist() == [10_000.0, 5_005.0]


def test_bundles_that_do_not_fit_are_refused(
    bundle: Path, others: list[Path], write_scene: WriteScene, tmp_path: Path
) -> None:
    scene, model, out = write_scene(make_image(64, 64)), zoo.load(bundle, device="cpu"), tmp_path / "prob.tif"
    first = model.bundle
    degrees = (first.bands[0], replace(first.bands[1], unit="radian"))
    cases = [
        ({"bands": degrees}, "other bands: NDVI \\[1\\], slope \\[radian\\]; the first has NDVI"),
        ({"class_names": ("soil", "landslide")}, "other classes: soil, landslide"),
        ({"pixel_size": 30.0}, "another pixel size: 30 m; the first has an unknown size"),
        ({}, "two bundles have the same weights"),
    ]
    for change, words in cases:
        other = zoo.TrainedModel(replace(first, **change), device="cpu")
        with pytest.raises(ConfigError, match=words):
            model.map(scene, out, ensemble=[other])
    with pytest.raises(ConfigError, match="cannot be adapted during mapping"):
        model.map(scene, out, ensemble=[others[0]], adapt=True)
    with pytest.raises(ConfigError, match="needs several predictions"):
        model.map(scene, out, spread=tmp_path / "spread.tif")
    with pytest.raises(ConfigError, match="computed on this machine"):
        model.map(scene, out, ensemble=[others[0]], cluster="auto")
    with pytest.raises(ConfigError, match="two outputs have the same name"):
        model.map(scene, out, ensemble=[others[0]], spread=out)
    assert not out.exists()


def test_the_command(
    bundle: Path, others: list[Path], write_scene: WriteScene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene, out = write_scene(make_image(64, 64)), tmp_path / "prob.tif"
    members = [word for place in others for word in ("--ensemble", str(place))]
    assert run(["map", str(bundle), str(scene), *members, "--out", str(out), "--classes", "low,high"]) == 0
    told = capsys.readouterr()
    assert "spread of the probability: 0." in told.out
    assert "the map is the mean of 3 models" in told.err
    with rasterio.open(tmp_path / "prob-spread.tif") as file:
        assert (file.dtypes[0], file.nodata, file.scales[0]) == ("uint8", 255, 0.004)
        assert file.read(1).max() <= 125
    assert run(["map", str(bundle), str(scene), "--tta", "--spread", str(tmp_path / "views.tif"), "--out",
                str(tmp_path / "tta.tif")]) == 0  # fmt: skip
    assert (tmp_path / "views.tif").is_file()
    assert run(["map", str(bundle), str(scene), "--ensemble", str(others[0]), "--out", str(tmp_path / "a.tif"),
                "--spread", str(out)]) == 2  # fmt: skip
    assert "already exists" in capsys.readouterr().err
