import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from zoo.datasets.synthetic import SceneConfig, generate_scene
from zoo.datasets.synthetic.land_cover import NIR, RED, Cover, Spectra, ground_reflectance
from zoo.datasets.synthetic.random_fields import fractal, smooth, stream
from zoo.datasets.synthetic.scene import DIFFICULTIES, REGIONS
from zoo.datasets.synthetic.terrain import TerrainConfig, make_terrain
from zoo.errors import ConfigError, UnknownNameError, ZooError
from zoo.physics import PAPER_CHANNELS, ndvi, slope_degrees
from zoo.physics.flow import route

SMALL = SceneConfig(size=128, margin=16)
LARGER = SceneConfig(size=256, margin=32)

DIGEST = """
import hashlib, sys
from zoo.datasets.synthetic import SceneConfig, generate_scene
for seed in map(int, sys.argv[1:]):
    scene = generate_scene(seed, SceneConfig(size=128, margin=16))
    print(seed, hashlib.sha256(scene.image.tobytes() + scene.mask.tobytes()).hexdigest())
assert "torch" not in sys.modules, "a scene needs no torch"
"""


@pytest.fixture(scope="module")
def scene():
    return generate_scene(3, LARGER)


@pytest.fixture(scope="module")
def terrain():
    return make_terrain(3, 640, 10.0, TerrainConfig())


@cache
def small_scene(seed, region="subtropical"):
    return generate_scene(seed, replace(SMALL, region=region))


def digest(scene):
    return hashlib.sha256(scene.image.tobytes() + scene.mask.tobytes()).hexdigest()


def test_same_seed_same_bytes_in_any_process():
    output = subprocess.run(
        [sys.executable, "-c", DIGEST, "2", "1"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "2"},
        check=True,
    ).stdout
    there = dict(line.split() for line in output.splitlines())
    assert there == {str(seed): digest(small_scene(seed)) for seed in (1, 2)}
    assert there["1"] != there["2"]


def test_shapes_types_and_valid_ranges(scene):
    assert scene.image.shape == (7, 256, 256)
    assert scene.image.dtype == np.float32
    assert set(np.unique(scene.mask)) == {0, 1}
    for band, values in zip(PAPER_CHANNELS, scene.image, strict=True):
        assert band.valid_min <= values.min() < values.max() <= band.valid_max, band.name
    for name in ("landslide_id", "visibility", "safety", "wetness", "cover", "elevation", "area"):
        assert getattr(scene, name).shape == (256, 256), name
    assert np.isfinite(scene.safety).all()
    assert 0 <= scene.wetness.min() <= scene.wetness.max() <= 1


def test_phases_share_the_ground_and_differ_in_the_scars_alone(scene):
    before = generate_scene(3, replace(LARGER, phase="pre"))
    assert np.array_equal(before.mask, scene.mask)
    assert np.array_equal(before.landslide_id, scene.landslide_id)
    assert np.array_equal(before.image[4:6], scene.image[4:6])
    changed = np.any(before.reflectance != scene.reflectance, axis=0)
    # Blur and 20 m SWIR carry a scar a few pixels beyond its outline, and in from beyond the edge.
    near = ndimage.binary_dilation(scene.landslide_id > 0, iterations=6)
    assert not (changed & ~near)[6:-6, 6:-6].any()
    inside = scene.landslide_id > 0
    assert scene.image[2][inside].mean() < before.image[2][inside].mean() - 0.15


def test_unstable_ground_fails(scene):
    inside = scene.landslide_id > 0
    assert np.median(scene.safety[inside]) < 0.85 * np.median(scene.safety[~inside])
    assert not inside[scene.cover == Cover.WATER].mean() > 0.05


def test_harder_scenes_show_less():
    easy, hard = (generate_scene(7, replace(LARGER, difficulty=name)) for name in ("easy", "hard"))
    fresh = [made.visibility[made.landslide_id > 0].mean() for made in (easy, hard)]
    assert fresh[0] > fresh[1] + 0.08
    assert not (easy.visibility[easy.landslide_id == 0] > 0).any()
    assert (hard.visibility[hard.landslide_id == 0] > 0).any()


@pytest.mark.parametrize("region", REGIONS)
def test_every_region_has_different_ground(region):
    made = small_scene(1, region)
    assert made.mask.dtype == np.uint8
    assert np.isfinite(made.image).all()
    assert [other for other in REGIONS if np.array_equal(made.image, small_scene(1, other).image)] == [region]


def test_dry_land_is_barer_than_the_tropics():
    green = [small_scene(1, region).image[2].mean() for region in ("dryland", "tropical")]
    assert green[0] < green[1] - 0.15


def test_terrain_drains_and_has_the_requested_slope(terrain):
    assert route(terrain.elevation, 10.0, ring(640)).pits == 0
    slope = slope_degrees(terrain.elevation, 10.0)[64:-64, 64:-64]
    assert 17.5 < np.median(slope) < 28
    assert np.percentile(slope, 99) < 55
    # Rivers from outside the window are still rivers inside it.
    assert terrain.inflow.max() > 1e7
    assert np.all(terrain.area >= terrain.inflow)


def test_channels_are_concave(terrain):
    area, receiver = terrain.area.ravel(), terrain.flow.receiver
    gradient = (terrain.elevation.ravel() - terrain.elevation.ravel()[receiver]) / terrain.flow.distance
    bins = np.floor(np.log10(area) * 4)
    levels = [k for k in range(23, 29) if (bins == k).sum() > 20]
    mean = [np.log10(gradient[bins == k].mean()) for k in levels]
    assert 0.3 < -np.polyfit(np.array(levels) / 4, mean, 1)[0] < 0.65


def test_slopes_face_all_ways(terrain):
    # Drainage that follows the grid shows as an excess of gradients along its eight directions.
    down, right = np.gradient(ndimage.gaussian_filter(terrain.elevation, 2.0))
    facing = np.arctan2(down, right)[64:-64, 64:-64]
    assert abs(np.exp(8j * facing).mean()) < 0.1
    assert abs(np.exp(4j * facing).mean()) < 0.15


def test_scenes_have_rivers_fields_towns_and_roads(scene):
    for kind in (Cover.FOREST, Cover.GRASS, Cover.CROP, Cover.SOIL, Cover.ROCK, Cover.WATER, Cover.BUILT):
        assert (scene.cover == kind).any(), kind.name
    slope = slope_degrees(scene.elevation.astype(float), 10.0)
    assert np.median(slope[scene.cover == Cover.CROP]) < 0.7 * np.median(slope)
    assert np.median(scene.area[scene.cover == Cover.WATER]) > 1e5


def test_reflectance_mixes_by_area():
    shares = np.zeros((7, 1, 2))
    shares[Cover.FOREST, 0] = (1.0, 0.25)
    shares[Cover.SOIL, 0] = (0.0, 0.75)
    mixed = ground_reflectance(shares, np.ones((1, 2)), Spectra())
    assert mixed[:, 0, 0] == pytest.approx(Spectra().forest)
    assert mixed[NIR, 0, 1] == pytest.approx(0.25 * 0.300 + 0.75 * 0.230)
    assert ndvi(mixed[NIR], mixed[RED])[0, 0] == pytest.approx(9 / 11)


def test_steps_have_random_numbers_of_their_own():
    assert stream(1, "rain").random() == stream(1, "rain").random()
    assert len({stream(seed, step).random() for seed in (1, 2) for step in ("rain", "roads")}) == 4


@pytest.mark.parametrize("field", [fractal(64, 0.8, stream(0, "a")), smooth(64, 2, stream(0, "b"))])
def test_noise_is_standardised(field):
    assert field.shape == (64, 64)
    assert field.mean() == pytest.approx(0, abs=1e-9)
    assert field.std() == pytest.approx(1)


def test_wide_noise_is_smooth_and_has_the_requested_range():
    field = smooth(400, 20, stream(0, "wide"))
    lag = np.array([np.mean(field[:, :-d] * field[:, d:]) for d in (5, 20, 60)])
    # A Gaussian of radius s correlates as exp(-d^2 / 4 s^2).
    assert lag == pytest.approx(np.exp(-(np.array([5, 20, 60]) ** 2) / (4 * 20.0**2)), abs=0.15)


@pytest.mark.parametrize(
    ("settings", "error", "problem"),
    [
        ({"phase": "past"}, UnknownNameError, "unknown phase 'past'.*'post'"),
        ({"region": "tropics"}, UnknownNameError, "Did you mean 'tropical'"),
        ({"difficulty": "defualt"}, UnknownNameError, "Did you mean 'default'"),
        ({"size": 64}, ConfigError, "scene of 64 pixels"),
        ({"size": 129}, ConfigError, "multiple of 4"),
        ({"pixel_size": 0.5}, ConfigError, "pixel size"),
        ({"label_noise": 1.5}, ConfigError, "label noise"),
    ],
)
def test_bad_settings_are_refused(settings, error, problem):
    with pytest.raises(error, match=problem):
        SceneConfig(**settings)
    assert issubclass(error, ZooError)


def test_the_key_holds_all_that_decides_the_bytes(monkeypatch):
    keys = {SceneConfig(phase=phase, difficulty=level).key() for phase in ("pre", "post") for level in DIFFICULTIES}
    assert len(keys) == 6
    before = SceneConfig().key()
    monkeypatch.setattr("zoo.datasets.synthetic.scene.GENERATOR_VERSION", 999)
    assert SceneConfig().key() != before


def ring(n):
    edge = np.ones((n, n), dtype=bool)
    edge[1:-1, 1:-1] = False
    return edge


def test_two_dates_add_differences_and_keep_the_rest(scene):
    both = generate_scene(3, replace(LARGER, phase="both"))
    np.testing.assert_array_equal(both.image[:7], scene.image)
    np.testing.assert_array_equal(both.mask, scene.mask)
    assert scene.reflectance_before is None
    red, nir = both.reflectance_before[RED], both.reflectance_before[NIR]
    change = ndvi(both.reflectance[NIR], both.reflectance[RED]) - ndvi(nir, red)
    np.testing.assert_allclose(both.image[8], change, atol=1e-5)
    bare = both.visibility * (both.landslide_id > 0) > 0.5
    steady = (both.visibility == 0) & (both.cover == Cover.FOREST)
    assert both.image[8][bare].mean() < -0.2
    assert abs(both.image[8][steady].mean()) < 0.1
    # Bare patches that are no landslides lost their green too; without them a threshold would be perfect.
    other = (both.visibility == 0) & (both.cover == Cover.SOIL)
    assert 0.1 < (both.image[8][other] < -0.15).mean() < 0.9
